"""Commands whose flags are the fields of settings models: one text, one default, one constraint, in one place."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ValidationError

from service.errors import InputError, PlotPointeError

Flag = tuple[Any, Any, str]
"""Type, default (`...` where the flag is required) and help of a flag that is no setting."""

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 and the number of SIGINT, as shells have it."""

WORK: Flag = (Path, Path("var/work"), "Folder that holds one folder a finished stage.")


def new_app(text: str) -> typer.Typer:
    """An application without shell-completion flags and with plain tracebacks."""
    return typer.Typer(
        help=text, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )


def add_command(
    app: typer.Typer,
    name: str,
    run: Callable[..., None],
    *,
    text: str,
    settings: Mapping[str, type[BaseModel]],
    flags: Mapping[str, Flag],
) -> None:
    """Add command `name`, which calls `run(*settings objects, **flags)`.

    `settings` maps a flag prefix to a model: with prefix `rerank` its field `seed` becomes `--rerank-seed`; the empty
    prefix adds none.
    """
    fields = {
        (prefix, field): "_".join(part for part in (prefix, field) if part)
        for prefix, model in settings.items()
        for field in model.model_fields
    }
    parameters = [_parameter(flag, *described) for flag, described in flags.items()]
    for (prefix, field), flag in fields.items():
        info = settings[prefix].model_fields[field]
        default = ... if info.is_required() else info.get_default(call_default_factory=True)
        parameters.append(_parameter(flag, info.annotation, default, info.description or ""))

    def command(**given: Any) -> None:
        built = []
        for prefix, model in settings.items():
            values = {field: given[flag] for (p, field), flag in fields.items() if p == prefix}
            built.append(_validated(model, values, prefix))
        run(*built, **{flag: given[flag] for flag in flags})

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__ = text
    app.command(name)(command)


def _parameter(name: str, kind: Any, default: Any, text: str) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is ... else default,
        annotation=Annotated[kind, typer.Option(help=" ".join(text.split()))],
    )


def _validated(model: type[BaseModel], values: dict[str, Any], prefix: str) -> BaseModel:
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = "-".join(str(part) for part in ((prefix, *first["loc"]) if prefix else first["loc"]))
        raise InputError(
            f"{first['msg']}, got {first['input']!r}",
            where=f"--{name.replace('_', '-')}",
            todo="See --help for what the flag takes",
        ) from error


def main(app: typer.Typer) -> None:
    """Run the application: errors meant for people on one line with exit status 2, Ctrl-C with 130."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("httpx", "sentence_transformers", "torch.onnx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        app()
    except PlotPointeError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # typer has turned Ctrl-C into this
            print("interrupted; run the same command again to go on", file=sys.stderr)
        raise
