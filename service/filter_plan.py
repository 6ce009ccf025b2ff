"""How items that pass a filter are found: what the ways cost, and from where on which is the cheaper.

Comparing all that passes takes as long as many pass; asking the index for more than is wanted, and dropping what does
not pass, as few do. FAISS can also keep what passes while it walks the graph (a selector). That is no third way: it
takes as long as dropping, and fills up with items that are not the nearest where those that pass lie elsewhere than the
shopper, without a sign. What is dropped is missed: too few are left, and then all that passes is compared.
docs/FILTERS.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import ceil, sqrt

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int32]

# What the two ways cost, in microseconds on one core, fitted to the table in docs/FILTERS.md. Only their ratio matters.
ROW_US = 0.1
"""Comparing one row that passes with a shopper: mostly waiting for its 512 bytes."""
STEP_US = 2.5
"""One step of the index's depth, and `STEP_US_MORE` for each step it comes after: FAISS sorts by insertion."""
STEP_US_MORE = 1 / 3000
FILTERED_DEPTH = 3
"""How many times deeper than usual a filtered search is at least. What passes is part of what is found, so that each
miss weighs more: with recall .95 unfiltered, filtered recall is .96 without this and .98 with it."""
NEARLY_ALL = 0.9
"""Where so many pass, a few items are hidden and no more: the index is asked as it is without a filter."""
DEVIATIONS = 3.0
"""How much bad luck is allowed for: standard deviations of the number that pass among those fetched."""


class Plan(StrEnum):
    """How items that pass a filter are found."""

    INDEX = "index"
    """There is no filter: the index as it is."""
    EXACT = "exact"
    """Everything that passes is compared."""
    POST_FILTER = "post_filter"
    """The index finds more than is asked for; what does not pass is dropped."""


@dataclass(frozen=True, slots=True, eq=False)
class Passing:
    """The rows that pass a filter; made once a filter and kept by the caller."""

    mask: npt.NDArray[np.bool_]
    """(R,)"""
    rows: Rows
    """(P,) ascending."""

    @classmethod
    def of(cls, mask: npt.NDArray[np.bool_]) -> Passing:
        """Of one bool a row (R,), new items included."""
        return cls(mask, np.flatnonzero(mask).astype(np.int32))

    @property
    def share(self) -> float:
        """Of all rows, those that pass."""
        return len(self.rows) / max(len(self.mask), 1)

    @property
    def nbytes(self) -> int:
        """Memory that it takes: a byte a row, and four more for each that passes."""
        return self.mask.nbytes + self.rows.nbytes


@dataclass(frozen=True, slots=True)
class IndexCost:
    """What the index takes for a search, beside comparing all that passes."""

    usual_depth: int
    """HNSW's efSearch without a filter; 0 for another index."""
    is_exact: bool
    """Whether the index itself compares everything."""

    def depth(self, wanted: int, share: float) -> int:
        """HNSW's efSearch for the `wanted` nearest items, of which a share passes."""
        return max(wanted, self.usual_depth if share >= NEARLY_ALL else FILTERED_DEPTH * self.usual_depth)

    def is_worth(self, wanted: int, passing: Passing | None) -> bool:
        """Whether to ask the index for so many takes less than to compare all that pass."""
        if passing is None:
            return True
        depth = self.depth(wanted, passing.share)
        return not self.is_exact and depth * (STEP_US + depth * STEP_US_MORE) < ROW_US * len(passing.rows)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is the same for all shoppers of one search."""

    count: int
    at_least: int
    passing: Passing | None
    live_vectors: Floats | None

    @property
    def share(self) -> float:
        """Of all rows, those that pass."""
        return 1.0 if self.passing is None else self.passing.share

    def rows(self, num_items: int, *, first: int = 0) -> Rows:
        """What may be found from row `first` on, ascending; the first `num_items` are in the index."""
        if self.passing is not None:
            return self.passing.rows[self.passing.rows.searchsorted(first) :]
        live = 0 if self.live_vectors is None else len(self.live_vectors)
        return np.arange(first, num_items + live, dtype=np.int32)

    def left(self, num_items: int, exclude: Rows) -> int:
        """How many of the index's items could be found."""
        inside = exclude[: exclude.searchsorted(num_items)]
        if self.passing is None:
            return num_items - len(inside)
        return int(self.passing.rows.searchsorted(num_items)) - int(self.passing.mask[inside].sum())


def fetch(count: int, share: float) -> int:
    """How many to look at until `count` pass, if a share of them does; of nothing, more than there ever are."""
    return ceil((count + DEVIATIONS * sqrt(count * (1 - share))) / max(share, 1e-9))
