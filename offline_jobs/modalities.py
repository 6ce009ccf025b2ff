"""The table of modalities that the fusion can take: a further one is a further row, and nothing else changes.

A row says what a modality is called, how it is made and where its inputs come from, how wide it is, how often training
hides it, and whether it says enough of an item that has nothing else. Items that only share a brand and a price would
all get the same vector and become each other's neighbours, so those two do not.

Missing is a presence bit: a stage's `present.npy` (or a zero row), or what `make` says of each item. What no item of a
shop has is left out of the network, and `metrics.json` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from offline_jobs import modalities_catalog, modalities_training
from offline_jobs.array_types import BoolArray, FloatArray
from offline_jobs.item_vectors import IMAGE, TEXT, ItemVectors, Table, open_table, side_by_side
from service.errors import InputError
from training.stage import require


class Made(NamedTuple):
    """A modality made here: float32 vectors (items, width), unit rows, zero where absent; present (items,)."""

    vectors: FloatArray
    present: BoolArray


@dataclass(frozen=True)
class Modality:
    """One row of the table."""

    stages: tuple[str, ...]
    """The stages it is made from; the only one is taken as it is where there is no `make`."""
    width: int | None
    """Numbers an item; None: as many as its stage gives."""
    dropout: float
    """Share of the items that have it for which a step hides it."""
    alone: bool
    """Whether it says enough of an item that has nothing else."""
    make: Callable[[Path], tuple[FloatArray, BoolArray] | None] | None = None
    """From the work folder to vectors and presence bits; None where the data set has nothing of the kind."""


MODALITIES: dict[str, Modality] = {
    TEXT: Modality(("text_embeddings",), 384, 0.2, True),
    IMAGE: Modality(("image_embeddings",), 512, 0.2, True),
    "lexical": Modality(("lexical_embeddings",), None, 0.3, True),
    "category": Modality(("ingest",), modalities_catalog.CODE, 0.3, False, modalities_catalog.category),
    "brand": Modality(("ingest",), modalities_catalog.CODE, 0.3, False, modalities_catalog.brand),
    "price": Modality(("ingest",), modalities_catalog.PRICE_WIDTH, 0.3, False, modalities_catalog.price),
    "rating": Modality(("ingest", "split"), modalities_training.RATING_WIDTH, 0.5, False, modalities_training.rating),
    "reviews": Modality(("ingest", "split"), modalities_training.REVIEW_WIDTH, 0.5, True, modalities_training.reviews),
}


def names_of(listed: str) -> tuple[str, ...]:
    """ "text,image,brand" as names. InputError for an unknown or repeated one, or where text or image are missing."""
    names = tuple(name.strip() for name in listed.split(","))
    unknown = [name for name in names if name not in MODALITIES]
    if unknown or len(set(names)) < len(names) or names[:2] != (TEXT, IMAGE):
        raise InputError(
            f"{listed!r} is not a list of modalities" + (f": there is no {unknown[0]!r}" if unknown else ""),
            where="--modalities",
            todo=f"Give text,image and any of {', '.join(list(MODALITIES)[2:])}, each once",
        )
    return names


def stages_of(names: Sequence[str]) -> tuple[str, ...]:
    """The stages that some modalities are made from."""
    return tuple(sorted({stage for name in names for stage in MODALITIES[name].stages}))


def open_modalities(names: Sequence[str], work: Path, scratch: Path) -> tuple[ItemVectors, dict[str, str]]:
    """The tables of a work folder, and for each modality left out why. What is made here is kept in `scratch`."""
    scratch.mkdir(parents=True, exist_ok=True)
    tables: dict[str, Table] = {}
    left_out: dict[str, str] = {}
    for name in names:
        row = MODALITIES[name]
        table = _of_stage(row, work) if row.make is None else _made(name, row, work, scratch)
        if table is not None and (table.present.any() or name in (TEXT, IMAGE)):
            tables[name] = table
        else:
            left_out[name] = "the data has none" if table is None else "no item has it"
    return side_by_side(tables), left_out


def _of_stage(row: Modality, work: Path) -> Table:
    folder = require(work, row.stages[0])
    bits = folder / "present.npy"
    present = np.load(bits, allow_pickle=False) if bits.exists() else None
    return open_table(folder / "vectors.npy", present, width=row.width, dropout=row.dropout, alone=row.alone)


def _made(name: str, row: Modality, work: Path, scratch: Path) -> Table | None:
    assert row.make is not None
    made = row.make(work)
    if made is None:
        return None
    path = scratch / f"{name}.npy"
    np.save(path, made[0])
    return open_table(path, made[1], width=row.width, dropout=row.dropout, alone=row.alone)
