"""Which items an answer may hold at all: what passes a filter and is not hidden, deleted or sold out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from service.bounded_table import BoundedTable
from service.catalog import NO_ROWS, Catalog, Rows
from service.domain import Promotion, Rules
from service.filters import parse_filter
from service.ranking import UNMOVED, Moved
from service.retrieve import Passing

Mask = npt.NDArray[np.bool_]

MOST_EXCLUDED = 2_000
"""Rows that are gone and can be dropped after the search; more of them are a filter."""
KEPT = 256
"""Filters whose masks are kept, where they take no more memory than KEPT_BYTES."""
KEPT_BYTES = 32 * 2**20
"""Memory for the masks of filters; what was used least lately goes. At half a million items one takes .5 to 2.5 MB."""


class Selections:
    """Masks by filter, for one catalog after another: what belongs to an older one falls out by itself."""

    def __init__(self) -> None:
        self._passing: BoundedTable[Passing] = BoundedTable(most_entries=KEPT, most_bytes=KEPT_BYTES)
        self._masks: BoundedTable[Mask] = BoundedTable(most_entries=KEPT, most_bytes=KEPT_BYTES)

    def passing(self, catalog: Catalog, text: str) -> Passing | None:
        """What may be retrieved; None where everything may but for `excluded`. Raises InvalidFilterError."""
        if not text and len(catalog.gone) <= MOST_EXCLUDED:
            return None
        key = f"{catalog.serial}:{parse_filter(text).key if text else ''}"
        passing = self._passing.get(key)
        if passing is None:
            mask = self.mask(catalog, text).copy() if text else np.ones(len(catalog), bool)
            mask[catalog.gone] = False
            passing = Passing.of(mask)
            self._passing.put(key, passing, passing.nbytes)
        return passing

    def excluded(self, catalog: Catalog, *rows: Rows) -> Rows:
        """Distinct rows, ascending, that the search has to leave out beside `passing`."""
        parts = [part for part in (*rows, catalog.gone if len(catalog.gone) <= MOST_EXCLUDED else NO_ROWS) if len(part)]
        if not parts:
            return NO_ROWS
        return parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts))

    def mask(self, catalog: Catalog, text: str, *, where: str = "filter") -> Mask:
        """(R,) which items pass a filter, gone or not. Do not write to it. Raises InvalidFilterError, about `where`."""
        parsed = parse_filter(text, where=where)
        key = f"{catalog.serial}:{parsed.key}"
        mask = self._masks.get(key)
        if mask is None:
            mask = parsed.mask(catalog.columns)
            self._masks.put(key, mask, mask.nbytes)
        return mask

    def moved(self, catalog: Catalog, rules: Rules) -> Moved:
        """The rules with their items as rows; items that no one knows, or that are gone, are passed over."""
        if not (rules.pin or rules.boost or rules.bury):
            return UNMOVED
        pin = catalog.rows(rules.pin)
        pin = pin[~np.isin(pin, catalog.gone)]
        boosts = [(p.strength, self._chooses(catalog, p, f"rules.boost[{i}]")) for i, p in enumerate(rules.boost)]
        buries = [(-p.strength, self._chooses(catalog, p, f"rules.bury[{i}]")) for i, p in enumerate(rules.bury)]
        return Moved(pin, (*boosts, *buries))

    def _chooses(self, catalog: Catalog, promotion: Promotion, where: str) -> Callable[[Rows], Mask]:
        named = catalog.rows(promotion.item_ids)
        mask = self.mask(catalog, promotion.filter, where=f"{where}.filter") if promotion.filter else None
        return lambda rows: np.isin(rows, named) if mask is None else np.isin(rows, named) | mask[rows]


def category_filter(category: str) -> str:
    """The filter that passes one category's items."""
    escaped = category.replace("\\", "\\\\").replace('"', '\\"')
    return f'category: ANY("{escaped}")'
