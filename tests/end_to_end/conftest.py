"""A small generated shop taken the whole way once, by the real commands, for every test here."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from offline_jobs.generated_shop import GeneratedShopSettings, generate_shop

SHOP = GeneratedShopSettings(items=360, users=600, image_share=0.15, seed=3)
QUICK = (
    "embed-text.max-tokens=32",
    "fuse.epochs=2",
    "fuse.pairs-per-epoch=3000",
    "fit-model.max-epochs=10",
    "fit-model.rerank-max-epochs=2",
    "export.item-tower-steps=20",
)
"""Settings of a run that takes seconds; every stage is still the real one."""
SAID = re.compile(r"serving bundle (\S+): REST (http://\S+), gRPC (\S+) \(")


@dataclass(frozen=True)
class Built:
    """A shop and what was made of it. Shared: read it, do not change it."""

    data: Path
    work: Path
    bundles: Path
    version: str
    output: str

    @property
    def bundle(self) -> Path:
        return self.bundles / self.version

    @property
    def held_out(self) -> dict[str, str]:
        """Planted shopper -> the item of that taste that was held out."""
        return json.loads((self.data / "truth.json").read_text())["held_out"]


@dataclass(frozen=True)
class Served:
    """A running service."""

    rest: str
    grpc: str
    version: str


Serve = Callable[[Path], AbstractContextManager[Served]]


def environment() -> dict[str, str]:
    """The caller's, without what would change the runs."""
    kept = {"PLOTPOINTE_WEIGHTS_DIR"}
    return {name: value for name, value in os.environ.items() if not name.startswith("PLOTPOINTE_") or name in kept}


@pytest.fixture(scope="session")
def quick() -> list[str]:
    """The flags of a quick run."""
    return [f"--set={pair}" for pair in QUICK]


@pytest.fixture(scope="session")
def run_command(quick: list[str]) -> Callable[[Path, Path, Path], list[str]]:
    """The command that takes a shop the whole way, quickly."""

    def command(data: Path, work: Path, bundles: Path) -> list[str]:
        places = ["--data", str(data), "--work", str(work), "--bundles", str(bundles)]
        return [sys.executable, "-m", "offline_jobs", "run", *places, *quick]

    return command


@pytest.fixture(scope="session")
def built(run_command, tmp_path_factory) -> Built:
    home = tmp_path_factory.mktemp("shop")
    generate_shop(SHOP, home / "raw")
    command = run_command(home / "raw", home / "work", home / "bundles")
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    version = (home / "bundles" / "CURRENT").read_text().strip()
    return Built(home / "raw", home / "work", home / "bundles", version, done.stdout)


@pytest.fixture(scope="session")
def serve(tmp_path_factory) -> Serve:
    """`with serve(bundles)`: the real process on free ports; it must end well."""

    @contextmanager
    def start(bundles: Path) -> Iterator[Served]:
        events = tmp_path_factory.mktemp("events")
        command = [sys.executable, "-m", "service", "--rest-port", "0", "--grpc-port", "0"]
        command += ["--bundles", str(bundles), "--events-dir", str(events), "--state-dir", str(events / "state")]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment()
        ) as process:
            try:
                assert process.stdout is not None
                assert select.select([process.stdout], [], [], 60)[0], "the service did not say where it serves"
                said = SAID.match(process.stdout.readline())
                assert said
                yield Served(said[2], said[3], said[1])
                process.send_signal(signal.SIGTERM)
                assert process.wait(15) == 0
            finally:
                process.kill()

    return start
