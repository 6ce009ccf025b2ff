"""Where and with what a run was measured: the file that it may leave beside its results."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from service.errors import DataError
from training.files import write_whole

FILE = "provenance.json"
PACKAGES = (
    "plotpointe",
    "numpy",
    "scipy",
    "torch",
    "implicit",
    "faiss-cpu",
    "faiss-gpu-cu12",
    "onnxruntime",
    "onnxruntime-gpu",
)


class Provenance(BaseModel):
    """`<run>/provenance.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    date: str
    """Day of the measurement, as 2026-01-31."""
    commands: tuple[str, ...] = ()
    """What to type to measure the same again."""
    cores: int
    """Cores that the processes may use."""
    machine: str
    """Kind of processor, or of the accelerator where one was used."""
    python: str
    versions: dict[str, str] = {}
    """Package -> version."""

    @property
    def counted_cores(self) -> str:
        """For people."""
        return f"{self.cores} {'core' if self.cores == 1 else 'cores'}"


def provenance_here(commands: Iterable[str] = ()) -> Provenance:
    """What holds for this process, now."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return Provenance(
        date=datetime.now(UTC).date().isoformat(),
        commands=tuple(commands),
        cores=len(os.sched_getaffinity(0)),
        machine=platform.machine(),
        python=platform.python_version(),
        versions=versions,
    )


def save_provenance(run: Path, provenance: Provenance) -> Path:
    """Write the file, moved into place whole."""
    path = run / FILE
    write_whole(path, provenance.model_dump_json(indent=1))
    return path


def read_provenance(run: Path) -> Provenance | None:
    """The file, or None where the run has none. Raises DataError where it is not what it should be."""
    path = run / FILE
    if not path.exists():
        return None
    try:
        return Provenance.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{path}:{'.'.join(map(str, first['loc']))}".rstrip(":")
        raise DataError(first["msg"], where=where, todo="Delete the file and run the measurement again") from error
