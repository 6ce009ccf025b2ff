"""Stage: item ids to rows and back, what a shopper sees of an item, and the items that anyone may be shown.

A catalog is one state of the shop: the bundle's items with what was changed while the service runs. It never changes;
a change makes a new one, and a request keeps to the one that it began with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import numpy.typing as npt

from service.bundle.reader import Bundle
from service.domain import Answer, Candidates, ItemChange, Metadata, Reason, RecommendedItem
from service.item_columns import ItemColumns
from service.item_tables import ItemTables

Rows = npt.NDArray[np.int32]
NO_ROWS: Rows = np.empty(0, np.int32)
"""No items at all."""


@dataclass(frozen=True)
class LiveChanges:
    """What differs from the bundle."""

    new_rows: Mapping[str, int] = field(default_factory=dict)
    """Items that the bundle does not have -> their rows, N and up in the order they came."""
    shown: Mapping[int, ItemChange] = field(default_factory=dict)
    """Row -> what was said of it, later words laid over earlier ones."""
    gone: frozenset[int] = frozenset()
    """Rows that no answer may hold: hidden, deleted, sold out, or not embedded yet."""
    sequence: int = 0
    """Grows with every change."""
    content_sequence: int = 0
    """Grows where an answer that was right may now be missing an item: one came, came back, or changed its content."""


UNCHANGED = LiveChanges()
_serials = count(1)


class Catalog:
    """One state of the shop's items."""

    def __init__(
        self,
        bundle: Bundle,
        tables: ItemTables,
        columns: ItemColumns,
        by_popularity: Rows,
        changes: LiveChanges = UNCHANGED,
    ) -> None:
        """`by_popularity` (N,): the bundle's rows, most popular first; see `most_popular_first`."""
        self._bundle = bundle
        self._changes = changes
        self._new_ids = {row: item_id for item_id, row in changes.new_rows.items()}
        self._by_popularity = by_popularity
        self.serial = next(_serials)
        """Names this state among all of this process, whatever bundle it is of."""
        self.tables = tables
        self.columns = columns
        self.gone: Rows = np.array(sorted(changes.gone), np.int32)
        """(G,) rows that no answer may hold, ascending."""
        self.sequence = changes.sequence
        self.content_sequence = changes.content_sequence

    def __len__(self) -> int:
        return len(self.tables)

    def row(self, item_id: str) -> int | None:
        """The row of an item, None where no one knows it."""
        found = self._changes.new_rows.get(item_id)
        return self._bundle.item_ids.row(item_id) if found is None else found

    def rows(self, item_ids: Sequence[str]) -> Rows:
        """The rows of those of `item_ids` that are known, in order, each once."""
        if not item_ids:
            return NO_ROWS
        found = dict.fromkeys(row for row in map(self.row, item_ids) if row is not None)
        return np.fromiter(found, np.int32, len(found))

    def item_id(self, row: int) -> str:
        """The id of a row."""
        return self._bundle.item_ids[row] if row < self.tables.num_known else self._new_ids[row]

    def shows(self, answer: Answer) -> bool:
        """Whether every item of an answer may still be shown."""
        return not self._changes.gone or self._changes.gone.isdisjoint(answer.rows)

    def popular(self, count: int, *, exclude: Rows, passing: npt.NDArray[np.bool_] | None = None) -> Candidates:
        """The `count` most popular items not in `exclude` (distinct rows) and, where given, `passing` (R,).

        Their scores are their popularity; live items come last, in the order they came.
        """
        if passing is None:
            rows = self._by_popularity[: count + len(exclude)]
            rows = rows[~np.isin(rows, exclude)][:count]
        else:
            open_ = passing.copy()
            open_[exclude] = False
            rows = self._by_popularity[open_[self._by_popularity]][:count]
        if len(rows) < count and len(self.tables) > self.tables.num_known:
            late = np.arange(self.tables.num_known, len(self.tables), dtype=np.int32)
            late = late[~np.isin(late, exclude)]
            late = late if passing is None else late[passing[late]]
            rows = np.concatenate([rows, late])[:count]
        return Candidates(rows, self.tables.popularity(rows))

    def items(
        self,
        rows: Sequence[int],
        scores: Sequence[float],
        *,
        first_rank: int = 1,
        reasons: Sequence[tuple[Reason, ...]] = (),
        with_metadata: bool = False,
    ) -> tuple[RecommendedItem, ...]:
        """Rows, best first, as items with what a shopper sees of them."""
        ids, titles, known = self._bundle.item_ids, self._bundle.titles, self.tables.num_known
        if not self._changes.shown and not reasons and not with_metadata:
            # Half of a cached answer is spent here: `raw` does without the checks of `[]`, and the rows are our own.
            return tuple(
                [
                    RecommendedItem(ids.raw(row).decode(), rank, score, titles.raw(row).decode())
                    for rank, (row, score) in enumerate(zip(rows, scores, strict=True), start=first_rank)
                ]
            )
        why = reasons or [()] * len(rows)
        return tuple(
            RecommendedItem(
                self.item_id(row),
                rank,
                score,
                self._title(row, known),
                reason,
                self.metadata(row) if with_metadata else None,
            )
            for rank, (row, score, reason) in enumerate(zip(rows, scores, why, strict=True), start=first_rank)
        )

    def metadata(self, row: int) -> Metadata:
        """What a shop shows of an item beside its title."""
        said = self._changes.shown.get(row)
        image = said.image_url if said is not None else None
        if image is None:
            image = self._bundle.images[row] if row < self.tables.num_known else ""
        values = self.columns.values(row)
        return Metadata(
            category=values.category,
            brand=values.brand,
            price=None if values.price is None or np.isnan(values.price) else values.price,
            image=image,
            in_stock=bool(values.in_stock),
            attributes=values.attributes,
        )

    def _title(self, row: int, known: int) -> str:
        said = self._changes.shown.get(row)
        if said is not None and said.title is not None:
            return said.title
        return self._bundle.titles[row] if row < known else ""


def most_popular_first(bundle: Bundle) -> Rows:
    """(N,) rows by popularity. Stable: items that are equally popular stay in order of their ids."""
    return np.argsort(-bundle.popularity, kind="stable").astype(np.int32)
