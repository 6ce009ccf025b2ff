"""What the models read of items: the bundle's tables, continued by those of items that came since it was published.

Rows 0 to N - 1 are the bundle's and stay mapped; rows N and up belong to live items, which are few and in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.bundle.reader import Bundle
from service.content import NewItem
from service.neighborhood import History, edges
from service.new_items import edges_from_new, edges_to_new

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int32]


@dataclass(frozen=True)
class LiveTables:
    """M items that the bundle does not have; row N + i is the i-th of each table."""

    item_vectors: Floats
    """(M, dim) zero rows where an item has no content yet: such a row is never retrieved."""
    history_vectors: Floats
    """(M, dim)"""
    look: Floats
    """(M, 128), as `meaning`."""
    meaning: Floats
    items: tuple[NewItem | None, ...]
    """What the item graph knows of each by its neighbors; None where an item has no content yet."""

    def __len__(self) -> int:
        return len(self.item_vectors)


class ItemTables:
    """The tables by name, each taking item rows of both kinds. Cheap to make: one for every state of the catalogue."""

    def __init__(self, bundle: Bundle, places: Rows, live: LiveTables | None = None) -> None:
        """`places` is the scratch table of `neighborhood.edges`, one a thread."""
        self._bundle = bundle
        self._places = places
        self.live = live if live is not None and len(live) else None
        self.num_known = bundle.manifest.num_items
        """N: rows from here on are live items."""

    def __len__(self) -> int:
        return self.num_known + (len(self.live) if self.live else 0)

    def item_vectors(self, rows: Rows) -> Floats:
        """(n, dim) items as candidates."""
        return self._take(self._bundle.item_vectors, self.live.item_vectors if self.live else None, rows)

    def history_vectors(self, rows: Rows) -> Floats:
        """(n, dim) items as events of a history."""
        return self._take(self._bundle.history_vectors, self.live.history_vectors if self.live else None, rows)

    def look(self, rows: Rows) -> Floats:
        """(n, 128) by image; zero rows where there is none."""
        return self._take(self._bundle.look, self.live.look if self.live else None, rows)

    def meaning(self, rows: Rows) -> Floats:
        """(n, 128) by text; zero rows where there is none."""
        return self._take(self._bundle.meaning, self.live.meaning if self.live else None, rows)

    def popularity(self, rows: Rows) -> Floats:
        """(n,) 0 for an item that no one has bought, as every live item."""
        if self._only_known(rows):
            return self._bundle.popularity[rows]
        return np.where(rows < self.num_known, self._bundle.popularity[np.minimum(rows, self.num_known - 1)], 0.0)

    def edges(self, candidates: Rows, history: History) -> Floats:
        """(C, L, R) weights of the item graph between the candidates (C,), distinct, and the history's events."""
        if self._only_known(candidates) and self._only_known(history.rows):
            return edges(candidates, history, self._bundle.relations, self._places)
        out = np.zeros((len(candidates), len(history.rows), len(self._bundle.relations)), np.float32)
        known, events = candidates < self.num_known, np.flatnonzero(history.mask > 0)
        old = events[history.rows[events] < self.num_known]
        new = events[history.rows[events] >= self.num_known]
        past = History(history.rows[old], history.mask[old], history.age_days[old])
        out[np.ix_(known, old)] = edges(candidates[known], past, self._bundle.relations, self._places)
        assert self.live is not None
        items = self.live.items
        late = [p for p in np.flatnonzero(~known) if items[candidates[p] - self.num_known] is not None]
        if late and len(old):
            new_items = [items[candidates[p] - self.num_known] for p in late]
            out[np.ix_(late, old)] = edges_to_new(
                [item for item in new_items if item is not None], past, self._bundle.relations, self._places
            )
        for event in new:
            item = items[history.rows[event] - self.num_known]
            if item is not None:
                out[known, event] = edges_from_new(item, candidates[known], self._bundle.relations, self._places)
        return out

    def _take(self, known: Floats, live: Floats | None, rows: Rows) -> Floats:
        if live is None or self._only_known(rows):
            return known[rows]
        out = known[np.minimum(rows, self.num_known - 1)]
        late = rows >= self.num_known
        out[late] = live[rows[late] - self.num_known]
        return out

    def _only_known(self, rows: Rows) -> bool:
        return self.live is None or not len(rows) or int(rows.max()) < self.num_known
