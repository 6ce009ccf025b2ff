"""What every reader gives: batches of rows in one schema, not yet judged, with the row's own text at hand.

Interactions: user_id str, item_id str, timestamp float64 (unix seconds, UTC), and where there are such: label float64,
rating float64, review str.
Items: item_id, title, description, brand, category, image str, price float64, and where a mapping names further
properties, such as colour, a column `attribute.colour` str each. Any value may be null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from offline_jobs.readers.quarantine import MAX_ROW_CHARS, Quarantine, Table

INTERACTION_SCHEMA = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Float64}
OPTIONAL_SCHEMA = {"label": pl.Float64, "rating": pl.Float64, "review": pl.String}
"""What some formats have beside: `rating` is stars or whatever the shop has, `review` the text of a review."""
TEXT_FIELDS = ("title", "description", "brand", "category")
ITEM_SCHEMA = {
    "item_id": pl.String,
    **dict.fromkeys(TEXT_FIELDS, pl.String),
    "price": pl.Float64,
    "image": pl.String,
}

ATTRIBUTE = "attribute."
"""What the columns of further properties of items begin with, in every table of items: `attribute.colour`."""

BATCH_ROWS = 16_384


def attribute_columns(columns: Iterable[str]) -> list[str]:
    """Those of a table's columns that hold further properties of items, in their order."""
    return [name for name in columns if name.startswith(ATTRIBUTE)]


@dataclass(frozen=True)
class RawBatch:
    """Rows of one file: `frame` in a schema above, `lines[i]` and `text(i)` say where row i came from."""

    file: str
    frame: pl.DataFrame
    lines: Callable[[int], int]
    text: Callable[[int], str]


class Shop(Protocol):
    """A shop's folder, opened in one of the known formats. Opening checks files and columns, not rows."""

    format: str
    files: dict[str, Path]
    """Every file whose rows are read, by a short name: what the ingest stage depends on."""
    has_time: bool
    """False where the data carries no time stamps; they are 0 then."""
    has_label: bool
    """True where the data carries its own train / validation / test label (0, 1, 2)."""
    has_rating: bool
    """True where interactions carry a rating."""
    has_reviews: bool
    """True where interactions carry texts."""
    image_names: frozenset[str]
    """Pictures found beside the data, as `items.image` names them."""

    def interactions(self, quarantine: Quarantine) -> Iterator[RawBatch]:
        """Stream the interactions; what cannot be parsed goes to the quarantine."""
        ...

    def items(self, quarantine: Quarantine) -> Iterator[RawBatch]:
        """Stream the items."""
        ...


class BatchBuilder:
    """Collects parsed rows of a text file and hands them out as RawBatch."""

    def __init__(self, table: Table, file: str, schema: Mapping[str, type[pl.DataType]]) -> None:
        self.table = table
        self.file = file
        self.schema = dict(schema)
        self._rows: list[tuple[object, ...]] = []
        self._lines: list[int] = []
        self._texts: list[str] = []

    def add(self, line: int, text: str, row: tuple[object, ...]) -> bool:
        """Take one row; True when the batch is full and `take` is due."""
        self._rows.append(row)
        self._lines.append(line)
        self._texts.append(text[:MAX_ROW_CHARS])
        return len(self._rows) >= BATCH_ROWS

    def take(self) -> RawBatch:
        """The collected rows; the builder is empty afterwards."""
        frame = pl.DataFrame(self._rows, schema=self.schema, orient="row")
        batch = RawBatch(self.file, frame, self._lines.__getitem__, self._texts.__getitem__)
        self._rows, self._lines, self._texts = [], [], []
        return batch

    def __len__(self) -> int:
        return len(self._rows)
