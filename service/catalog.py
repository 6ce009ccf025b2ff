"""Stage: item rows to what a shopper sees, and the items that anyone may be shown."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from service.bundle.reader import Bundle
from service.domain import Candidates, RecommendedItem


class Catalog:
    """The bundle's items."""

    def __init__(self, bundle: Bundle) -> None:
        self._ids = bundle.item_ids
        self._titles = bundle.titles
        self._popularity = bundle.popularity
        # Once at load. Stable: items that are equally popular stay in order of their ids.
        self._popular = np.argsort(-bundle.popularity, kind="stable").astype(np.int32)

    def __len__(self) -> int:
        return len(self._ids)

    def popular(self, count: int, *, exclude: npt.NDArray[np.int32]) -> Candidates:
        """The `count` most popular items not in `exclude` (distinct rows); their scores are their popularity."""
        rows = self._popular[: count + len(exclude)]
        rows = rows[~np.isin(rows, exclude)][:count]
        return Candidates(rows, self._popularity[rows])

    def items(self, rows: tuple[int, ...], scores: tuple[float, ...]) -> tuple[RecommendedItem, ...]:
        """Rows, best first, as items with their ids and titles."""
        return tuple(
            RecommendedItem(self._ids[row], rank, score, self._titles[row])
            for rank, (row, score) in enumerate(zip(rows, scores, strict=True), start=1)
        )
