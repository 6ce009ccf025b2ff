"""A stage: inputs and settings in, one directory out, moved into place whole.

    with open_stage(work, "fuse", version=1, inputs={...}, settings=settings) as stage:
        if stage.fresh:            # same inputs, same settings, same code version: nothing to do
            return
        write(stage.out / "vectors.npy")
        stage.count(items=21986)

`stage.out` is a private directory that becomes `<work>/<name>` in one rename when the block ends without an error.
`stage.scratch` survives a kill and is handed back to the next run with the same fingerprint: long stages keep
their finished shards there. A killed stage leaves `<work>/<name>` as it was before.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import resource
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from service.bundle.files import sha256_file
from service.errors import StageBusyError, StageError

log = logging.getLogger(__name__)

RECORD = "stage.json"


class FileDigest(BaseModel):
    """One written file: size in bytes and sha256 in hex."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    size: int
    sha256: str


class StageRecord(BaseModel):
    """What a finished stage says of itself, in `<work>/<name>/stage.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    version: int
    fingerprint: str
    """sha256 over name, version, settings and the digests of every input."""
    settings: dict[str, object]
    inputs: dict[str, str]
    outputs: dict[str, FileDigest]
    output_digest: str
    """sha256 over the outputs' digests: what a later stage takes as this stage's identity."""
    wall_seconds: float
    peak_rss_mib: float
    counts: dict[str, float]


@dataclass
class Stage:
    """An open stage; see the module's docstring."""

    name: str
    final: Path
    out: Path
    scratch: Path
    fresh: bool
    counts: dict[str, float] = field(default_factory=dict)

    def count(self, **figures: float) -> None:
        """Record figures (rows, items, seconds, recall) that `plotpointe-jobs status` and the reports show."""
        self.counts.update(figures)


def read_record(directory: Path) -> StageRecord | None:
    """The record of the stage that finished in `directory`, or None where none has."""
    try:
        return StageRecord.model_validate_json((directory / RECORD).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StageError(
            f"the stage record cannot be read ({error})",
            where=str(directory / RECORD),
            todo="Delete that folder and run the stage again",
        ) from error


def require(work: Path, name: str) -> Path:
    """The finished directory of stage `name`; a clear error where it has not run yet."""
    directory = work / name
    if read_record(directory) is None:
        raise StageError(
            f"stage '{name}' has not run in this work folder",
            where=str(directory),
            todo=f"Run it first, or `plotpointe-jobs run --work {work}` for all",
        )
    return directory


@contextlib.contextmanager
def open_stage(
    work: Path, name: str, *, version: int, inputs: Mapping[str, Path], settings: BaseModel
) -> Iterator[Stage]:
    """Open stage `name` of the work folder. Each input is a file, a plain folder, or another stage's directory.

    Raises StageBusyError where another process holds the same stage.
    """
    work.mkdir(parents=True, exist_ok=True)
    with _lock(work, name):
        digests = {key: _digest_of(path) for key, path in sorted(inputs.items())}
        described = settings.model_dump(mode="json")
        fingerprint = _sha256_json({"name": name, "version": version, "settings": described, "inputs": digests})
        final = work / name
        earlier = read_record(final)
        if earlier is not None and earlier.fingerprint == fingerprint:
            log.info("%s: nothing changed, skipped", name)
            yield Stage(name, final, final, final, fresh=True)
            return
        root = work / ".scratch"
        scratch = root / f"{name}-{fingerprint[:16]}"
        out = scratch / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        stage = Stage(name, final, out, scratch, fresh=False)
        start = time.monotonic()
        yield stage
        outputs = {
            str(p.relative_to(out)): FileDigest(size=p.stat().st_size, sha256=sha256_file(p))
            for p in sorted(out.rglob("*"))
            if p.is_file()
        }
        record = StageRecord(
            name=name,
            version=version,
            fingerprint=fingerprint,
            settings=described,
            inputs=digests,
            outputs=outputs,
            output_digest=_sha256_json({key: value.sha256 for key, value in outputs.items()}),
            wall_seconds=round(time.monotonic() - start, 3),
            peak_rss_mib=round(peak_rss_kib() / 1024, 1),
            counts=stage.counts,
        )
        (out / RECORD).write_text(record.model_dump_json(indent=2))
        _replace(out, final, root / f"{name}-old")
        for leftover in root.glob(f"{name}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        log.info("%s: done in %.1f s, peak %.0f MiB", name, record.wall_seconds, record.peak_rss_mib)


def peak_rss_kib() -> int:
    """Largest resident memory of this process so far, in KiB.

    Not ru_maxrss where /proc is there: a process that was forked from a large one starts with its parent's.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def _sha256_json(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _digest_of(path: Path) -> str:
    if path.is_dir():
        record = read_record(path)
        if record is not None:
            return record.output_digest
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return _sha256_json({str(p.relative_to(path)): sha256_file(p) for p in files})
    if path.is_file():
        return sha256_file(path)
    raise StageError("no such file or folder", where=str(path), todo="Check the path")


def _replace(new: Path, final: Path, old: Path) -> None:
    """Move `new` to `final`. A kill between the two renames leaves no `final`: the next run makes it again."""
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        os.rename(final, old)
    os.rename(new, final)


@contextlib.contextmanager
def _lock(work: Path, name: str) -> Iterator[None]:
    locks = work / ".locks"
    locks.mkdir(exist_ok=True)
    with (locks / name).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StageBusyError(
                f"stage '{name}' is being run by another process",
                where=str(work),
                todo="Wait for it to end, or use another --work folder",
            ) from error
        yield
