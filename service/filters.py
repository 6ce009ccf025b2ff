"""Filters: which items a request is about, by category, brand, price, stock, id and whatever attributes a shop has."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache, reduce

import numpy as np
import numpy.typing as npt

from service.filter_grammar import invalid, parse
from service.filter_tree import (
    ATTRIBUTE,
    AVAILABILITY,
    BRAND,
    CATEGORY,
    IN_STOCK,
    ITEM_ID,
    AnyOf,
    Both,
    Either,
    Node,
    Not,
    Within,
)
from service.item_columns import Columns, ItemColumns, TextColumn

Mask = npt.NDArray[np.bool_]

FEW = 8
"""Up to so many values are compared one by one, which the processor does sixteen rows at a time; more are looked up."""
MOST_NAMED = 20
"""Attribute names that an error lists."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that has been read. Equal filters say the same, however they were written."""

    key: str
    """The filter in its one canonical form: conditions and values in order, each once. Can be read again."""
    tree: Node = field(compare=False)
    where: str = field(compare=False, default="filter")
    """The request's field that holds it."""

    def __str__(self) -> str:
        return self.key

    def mask(self, columns: ItemColumns) -> Mask:
        """(R,) which rows pass. An item without a price passes no comparison, and so passes the NOT of each.

        Likewise for an item without a brand, category or attribute: no ANY, and every NOT of one. Raises
        InvalidFilterError where an attribute is one that no item of the shop has.
        """
        n = len(columns.items.price)
        mask = np.zeros(columns.num_rows, np.bool_)
        mask[:n] = _passing(self.tree, _Part(columns, columns.items, slice(n), self.where))
        if len(columns.live_rows):
            mask[columns.live_rows] = _passing(self.tree, _Part(columns, columns.live, columns.live_rows, self.where))
        return mask


@lru_cache(maxsize=256)  # a shop asks the same few over and over, and reading one takes half a millisecond
def parse_filter(text: str, *, where: str = "filter") -> Filter:
    """Read a filter in the syntax of docs/FILTERS.md.

    Raises InvalidFilterError, which names the column and what was expected there; `where` is the request's field.
    """
    part = parse(text, where)
    return Filter(part.text, part.node, where)


@dataclass(frozen=True, slots=True)
class _Part:
    """Some of the rows: those published, or those of the live layer."""

    all: ItemColumns
    columns: Columns
    rows: slice | npt.NDArray[np.int32]
    """Which rows of all they are."""
    where: str


def _passing(node: Node, part: _Part) -> Mask:
    """Which rows of the part pass. As deep as the tree, which is bounded."""
    match node:
        case Not(term):
            return ~_passing(term, part)
        case Both(terms):
            return reduce(np.logical_and, (_passing(term, part) for term in terms))
        case Either(terms):
            return reduce(np.logical_or, (_passing(term, part) for term in terms))
        case Within():
            return _within(node, part.columns.price)
        case AnyOf(name, values):
            if name == AVAILABILITY:
                return _in_stock(values, part.columns.in_stock)
            if name == ITEM_ID:
                return _with_id(values, part)
            return _with_text(values, _column(node, part))


def _within(node: Within, price: npt.NDArray[np.float32]) -> Mask:
    low, high = np.float32(node.low), np.float32(node.high)
    above: Mask = price >= low if node.low_included else price > low
    below: Mask = price <= high if node.high_included else price < high
    return above & below  # both are false for NaN


def _in_stock(values: tuple[str, ...], in_stock: Mask) -> Mask:
    mask: Mask = in_stock == (IN_STOCK in values)
    return np.ones_like(mask) if len(values) == 2 else mask  # they are distinct, and there are only two


def _with_id(values: tuple[str, ...], part: _Part) -> Mask:
    rows = [row for value in values if (row := part.all.row(value)) is not None]
    mask = np.zeros(part.all.num_rows, np.bool_)
    mask[rows] = True
    chosen: Mask = mask[part.rows]
    return chosen


def _with_text(values: tuple[str, ...], column: TextColumn) -> Mask:
    codes = [code for value in values if (code := column.code(value)) is not None]
    if len(codes) <= FEW:
        nobody = np.zeros(len(column.codes), np.bool_)
        return reduce(np.logical_or, (column.codes == code for code in codes), nobody)
    wanted = np.zeros(len(column.names) + len(column.new_names) + 1, np.bool_)
    wanted[codes] = True
    mask: Mask = wanted[column.codes]  # the code of a missing value, -1, looks at the last entry
    return mask


def _column(node: AnyOf, part: _Part) -> TextColumn:
    if node.name == CATEGORY:
        return part.columns.category
    if node.name == BRAND:
        return part.columns.brand
    name = node.name.removeprefix(ATTRIBUTE)
    column = part.columns.attributes.get(name)
    if column is None:
        known = sorted(part.columns.attributes)
        listed = ", ".join(known[:MOST_NAMED]) + (", ..." if len(known) > MOST_NAMED else "")
        raise invalid(
            f"no item has an attribute {name!r}; " + (f"there are {listed}" if known else "the shop has none"),
            node.column,
            part.where,
        )
    return column
