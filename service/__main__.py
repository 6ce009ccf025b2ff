"""`plotpointe-serve`: answer recommendation requests over REST and gRPC from the active bundle."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import service.one_thread  # noqa: F401 - before anything that loads NumPy
from service import logs
from service.errors import PlotPointeError
from service.settings import PREFIX, Settings

if TYPE_CHECKING:
    from service.serving import Addresses

ENVIRONMENT_ONLY = frozenset({"redis_url", "admin_key"})
"""Settings without a flag: a flag's value is seen by everyone who lists processes, and these hold secrets."""

EPILOG = f"""
Every flag can be given as an environment variable too: --rest-port is {PREFIX}REST_PORT. The flag wins.
Only as variables, since they hold secrets: {", ".join(PREFIX + name.upper() for name in sorted(ENVIRONMENT_ONLY))}.

Try it:    curl 'http://127.0.0.1:8000/recommend?user_id=anyone&k=5'
Read it:   http://127.0.0.1:8000/docs
Stop it:   Ctrl-C or SIGTERM; requests in flight are finished first.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then exit with 0; an error that a person can mend is printed, exit status 2."""
    flags = vars(_parser().parse_args(arguments))
    try:
        settings = Settings.load(**flags)
        from service.serving import run  # only now: a wrong flag is heard of before the libraries are loaded

        logs.configure(settings.log_level)
        run(settings, _announce)
    except PlotPointeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _announce(addresses: Addresses) -> None:
    host = f"[{addresses.host}]" if ":" in addresses.host else addresses.host
    print(
        f"serving bundle {addresses.bundle_version}: REST http://{host}:{addresses.rest_port}, "
        f"gRPC {host}:{addresses.grpc_port} (Ctrl-C stops)",
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
    """One flag for every setting, with the setting's own words as its help."""
    parser = argparse.ArgumentParser(
        prog="plotpointe-serve",
        description="Answer recommendation requests over REST and gRPC from the active bundle of a folder.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"plotpointe {version('plotpointe')}")
    for name, field in Settings.model_fields.items():
        if name in ENVIRONMENT_ONLY:
            continue
        flag = f"--{name.replace('_', '-')}"
        default = "" if field.default is None else f" Default: {field.default}."
        text = f"{field.description}{default}".replace("%", "%%")
        if field.annotation is bool:
            parser.add_argument(flag, dest=name, help=text, default=None, action=argparse.BooleanOptionalAction)
        else:
            parser.add_argument(flag, dest=name, help=text, metavar=name.rsplit("_", 1)[-1].upper())
    return parser


if __name__ == "__main__":
    main()
