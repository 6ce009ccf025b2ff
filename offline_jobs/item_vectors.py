"""The modalities' tables side by side: what the fusion reads of each item, from disk, a few rows at a time.

At half a million items the tables are 2 GB and more; nothing here holds one whole, or keeps its pages mapped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from offline_jobs.array_types import BoolArray, FloatArray, RowArray
from service.errors import DataError

IMAGE, TEXT = "image", "text"
BLOCK = 8_192
"""Items read at once where all are read."""


@dataclass(frozen=True)
class Table:
    """One modality: the file of its float32 vectors (items, width), and which items have one."""

    path: Path
    present: BoolArray
    width: int
    dropout: float
    """How often a step hides it where it is present."""
    alone: bool
    """Whether it says enough of an item that has nothing else."""

    def rows(self, rows: RowArray) -> FloatArray:
        """Some items' vectors (n, width); zero where absent. The file is mapped for the call alone."""
        return _mapped(self.path)[rows].astype(np.float32, copy=False)


@dataclass(frozen=True)
class ItemVectors:
    """Modality name -> table, text and image first, all of the same items."""

    tables: Mapping[str, Table]

    def __len__(self) -> int:
        return len(self.tables[TEXT].present)

    @property
    def present(self) -> BoolArray:
        """Items (items,) with at least one modality that says enough alone: those get a fused vector."""
        enough = [table.present for table in self.tables.values() if table.alone]
        present: BoolArray = np.logical_or.reduce(enough)
        return present

    def inputs(self, rows: RowArray) -> tuple[list[Tensor], Tensor]:
        """Some items' vectors, a (n, width) each modality, and their presence bits (n, modalities)."""
        values = [torch.from_numpy(table.rows(rows)) for table in self.tables.values()]
        return values, torch.from_numpy(
            np.stack([t.present[rows] for t in self.tables.values()], axis=1).astype(np.float32)
        )


def open_table(path: Path, present: BoolArray | None, *, width: int | None, dropout: float, alone: bool) -> Table:
    """A table of `vectors.npy`'s kind. Without presence bits an item whose row is not zero is present.

    DataError where the file is not float32 (items, width), or has another number of rows than `present`.
    """
    vectors = _mapped(path)
    if vectors.ndim != 2 or vectors.dtype != np.float32 or (width is not None and vectors.shape[1] != width):
        raise DataError(
            f"the vectors are {vectors.dtype} {vectors.shape}, not float32 (items, {width or 'width'})",
            where=str(path),
            todo="Run that stage again with its default encoder",
        )
    if present is None:
        blocks = range(0, len(vectors), BLOCK)
        found = [_mapped(path)[start : start + BLOCK].any(axis=1) for start in blocks]
        present = np.concatenate(found) if found else np.zeros(0, np.bool_)
    if len(present) != len(vectors):
        raise _of_different_items(path, {len(present), len(vectors)})
    return Table(path, present, vectors.shape[1], dropout, alone)


def side_by_side(tables: Mapping[str, Table]) -> ItemVectors:
    """The tables as one. DataError where they are not of the same items."""
    lengths = {len(table.present) for table in tables.values()}
    if len(lengths) != 1:
        raise _of_different_items(next(iter(tables.values())).path, lengths)
    return ItemVectors(tables)


def _of_different_items(path: Path, lengths: set[int]) -> DataError:
    return DataError(
        f"the item vectors are of different items ({', '.join(map(str, sorted(lengths)))} rows)",
        where=str(path),
        todo="Run the embedding stages again on the same ingest",
    )


def _mapped(path: Path) -> FloatArray:
    vectors: FloatArray = np.load(path, mmap_mode="r", allow_pickle=False)
    return vectors
