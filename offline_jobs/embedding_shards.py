"""What both embedding stages share: shards that survive a kill, and the files a finished stage holds.

shard-00003.npz     vectors float32 (n, width), status int8 (n,): rows [3 * size, 4 * size) of the work list
vectors.npy         float32 (items, width), L2-normalised, zero rows where absent
present.npy         bool (items,)
encoder.json        who made the vectors (EncoderRecord)
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.errors import StageError

Vectors = npt.NDArray[np.float32]
Status = npt.NDArray[np.int8]
ENCODED = 1
"""The status of a row that has a vector; what others mean is up to the stage."""
EncodeShard = Callable[[int, int, Callable[[int], None]], tuple[Vectors, Status]]
"""(start, stop, advance) -> vectors (stop - start, width) and a status a row; calls advance(rows) as it goes."""


class EncoderRecord(BaseModel):
    """Which encoder made a stage's vectors: `encoder.json`, repeated in the bundle's manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    """The model, such as `all-MiniLM-L6-v2`, `ViT-B-32` or `resnet18-imagenet`."""
    source: str
    """Where the weights came from: a pinned package, a hub name or a path."""
    sha256: str
    """Of the weights file; over all files' names and digests where there are several."""
    width: int
    """Length of a vector."""
    backend: str | None = None
    """The library that computed, `torch` or `onnxruntime`, where an encoder can be computed by either."""
    precision: str
    """fp32, bf16, fp16 or int8: what the encoder computed in. Vectors are stored as float32."""
    input_size: int
    """Longest text in tokens, or side of the square image in pixels, that the encoder sees."""
    projection: str | None = None
    """How the encoder's own numbers became `width` of them; None where they are its own."""


def finish_shards(scratch: Path, rows: int, *, width: int, shard_size: int, label: str, encode: EncodeShard) -> None:
    """Encode rows 0..rows-1 into shards below `scratch`, but for those that an earlier, killed run finished.

    A shard is written whole or not at all, and what it holds depends on its rows alone: a resumed run ends with the
    same bytes as one that was never stopped. No more than one shard is in memory.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=rows)
        for number, start in enumerate(range(0, rows, shard_size)):
            stop = min(start + shard_size, rows)
            path = _shard(scratch, number)
            if read_shard(path, stop - start, width) is None:
                write_shard(path, *encode(start, stop, lambda done: progress.advance(task, done)))
            progress.update(task, completed=stop)


def finished_shards(scratch: Path, rows: int, *, width: int, shard_size: int) -> Iterator[tuple[int, Vectors, Status]]:
    """Each shard's first row, vectors and status, in order. Raises StageError where one is not finished."""
    for number, start in enumerate(range(0, rows, shard_size)):
        shard = read_shard(_shard(scratch, number), min(shard_size, rows - start), width)
        if shard is None:
            raise StageError("a shard is gone", where=str(_shard(scratch, number)), todo="Run the stage again")
        yield start, *shard


def _shard(scratch: Path, number: int) -> Path:
    return scratch / f"shard-{number:05d}.npz"


def write_shard(path: Path, vectors: Vectors, status: Status) -> None:
    """Write a shard beside its name and move it there in one step."""
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("wb") as file:
        np.savez(file, vectors=vectors, status=status)
    os.replace(unfinished, path)


def read_shard(path: Path, rows: int, width: int) -> tuple[Vectors, Status] | None:
    """A finished shard; None where there is none, or where a power cut left it unreadable."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as shard:
            vectors, status = shard["vectors"], shard["status"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return (vectors, status) if vectors.shape == (rows, width) and status.shape == (rows,) else None


def normalise(vectors: Vectors) -> Vectors:
    """Rows scaled to length 1 in float32; a zero row stays zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)


def write_embeddings(
    out: Path,
    shards: Iterable[tuple[int, Vectors, Status]],
    work_row: npt.NDArray[np.int64],
    encoder: EncoderRecord,
    project: Callable[[Vectors], Vectors] | None = None,
) -> Status:
    """Write a stage's three files, a shard at a time. `work_row` (items,) points each item to its row, -1 where absent.

    `shards` is what `finished_shards` gives; `project` makes (n, encoder.width) of a shard's vectors. Returns each
    item's status (items,), 0 where it has no row; present are those that are ENCODED.
    """
    table = np.lib.format.open_memmap(
        out / "vectors.npy", mode="w+", dtype=np.float32, shape=(len(work_row), encoder.width)
    )
    status = np.zeros(len(work_row), np.int8)
    items = np.argsort(work_row, kind="stable")
    rows = work_row[items]
    for start, vectors, states in shards:
        here = slice(*np.searchsorted(rows, (start, start + len(states))))
        status[items[here]] = states[rows[here] - start]
        table[items[here]] = (vectors if project is None else project(vectors))[rows[here] - start]
    table.flush()
    np.save(out / "present.npy", status == ENCODED)
    (out / "encoder.json").write_text(encoder.model_dump_json(indent=2) + "\n")
    return status
