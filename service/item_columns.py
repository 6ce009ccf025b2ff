"""What filters look at: one entry an item row. The bundle's columns stay mapped, live changes lie above.

A change of one item must not copy half a million entries: each version of `ItemColumns` shares the bundle's columns and
holds the rows that have changed, and the items that came after publishing, in small columns of their own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from service.bundle.files import CodedStrings, IdTable, StringTable
from service.bundle.reader import Bundle
from service.errors import BundleForeignError

Rows = npt.NDArray[np.int32]

NO_ATTRIBUTES: Mapping[str, CodedStrings] = MappingProxyType({})
NO_IDS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A column of few distinct strings, by code."""

    codes: Rows
    """(n,) which name each row has, -1 where it has none."""
    names: StringTable
    """The bundle's names: code -> name, ascending in byte order."""
    new_names: Mapping[str, int] = field(default_factory=dict)
    """Names that the bundle does not have -> their codes, from len(names)."""

    @classmethod
    def of(cls, column: CodedStrings, where: str) -> TextColumn:
        """A bundle's column. Raises BundleForeignError where its names do not ascend, for they could not be found."""
        names = [column.names.raw(code) for code in range(len(column.names))]
        if any(after <= before for before, after in pairwise(names)):
            raise BundleForeignError(
                "the names of a column must be distinct and ascend in byte order",
                where=where,
                todo="Publish the bundle again with this version of plotpointe",
            )
        return cls(column.codes, column.names)

    def code(self, name: str) -> int | None:
        """The code of a name, None where no row ever had it. Bisection: a dict of 50 K brands would cost megabytes."""
        key = name.encode("utf-8", "surrogatepass")
        found = bisect_left(range(len(self.names)), key, key=self.names.raw)
        if found < len(self.names) and self.names.raw(found) == key:
            return found
        return self.new_names.get(name)

    def name(self, code: int) -> str | None:
        """The name of a code, None for -1."""
        if code < 0:
            return None
        known = len(self.names)
        return self.names[code] if code < known else next(islice(self.new_names, code - known, None))

    def with_names(self, names: set[str]) -> TextColumn:
        """The same column, with a code for each of `names`."""
        new = sorted(name for name in names if self.code(name) is None)
        if not new:
            return self
        first = len(self.names) + len(self.new_names)
        return replace(self, new_names={**self.new_names, **{name: first + i for i, name in enumerate(new)}})


@dataclass(frozen=True, slots=True)
class Columns:
    """Aligned columns of n rows."""

    category: TextColumn
    brand: TextColumn
    price: npt.NDArray[np.float32]
    """(n,) in the shop's currency, NaN where unknown."""
    in_stock: npt.NDArray[np.bool_]
    """(n,)"""
    attributes: Mapping[str, TextColumn]
    """Attribute name -> column; every name that the shop has."""


@dataclass(frozen=True, slots=True)
class ItemValues:
    """What a live change says of one item. None leaves what was known; an empty text takes it away."""

    category: str | None = None
    brand: str | None = None
    price: float | None = None
    """NaN takes it away."""
    in_stock: bool | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ItemColumns:
    """What filters look at of all R items: the bundle's N, and M that came after publishing, as rows N to N + M - 1.

    Immutable: a change makes a new one, and whoever holds the old one goes on with it undisturbed.
    """

    items: Columns
    """The bundle's N items, as published."""
    live: Columns
    """The rows `live_rows`, as they are now."""
    live_rows: Rows
    """(O,) rows that were changed or came after publishing, ascending."""
    num_rows: int
    """R."""
    item_ids: IdTable
    new_ids: Mapping[str, int] = field(default_factory=dict)
    """Ids of items that came after publishing -> their rows."""

    @classmethod
    def of(cls, bundle: Bundle, *, attributes: Mapping[str, CodedStrings] = NO_ATTRIBUTES) -> ItemColumns:
        """The columns as published. A bundle says nothing of stock: all its items are in stock until a change.

        Raises BundleForeignError.
        """
        n = bundle.manifest.num_items
        items = Columns(
            category=TextColumn.of(bundle.categories, "categories"),
            brand=TextColumn.of(bundle.brands, "brands"),
            price=bundle.prices,
            in_stock=np.broadcast_to(np.True_, (n,)),  # one byte for all of them
            attributes={name: TextColumn.of(column, f"attribute {name}") for name, column in attributes.items()},
        )
        nobody = np.empty(0, np.int32)
        return cls(items, _taken(items, nobody), nobody, n, bundle.item_ids)

    def row(self, item_id: str) -> int | None:
        """The row of an item, None where nobody knows it."""
        row = self.new_ids.get(item_id)
        return self.item_ids.row(item_id) if row is None else row

    def values(self, row: int) -> ItemValues:
        """What is known of one item; None where nothing is, NaN for no price."""
        place = int(np.searchsorted(self.live_rows, row))
        changed = place < len(self.live_rows) and self.live_rows[place] == row
        columns, at = (self.live, place) if changed else (self.items, row)
        named = {name: column.name(int(column.codes[at])) for name, column in columns.attributes.items()}
        return ItemValues(
            category=columns.category.name(int(columns.category.codes[at])),
            brand=columns.brand.name(int(columns.brand.codes[at])),
            price=float(columns.price[at]),
            in_stock=bool(columns.in_stock[at]),
            attributes={name: value for name, value in named.items() if value is not None},
        )

    def with_live(self, changes: Mapping[int, ItemValues], *, new_ids: Mapping[str, int] = NO_IDS) -> ItemColumns:
        """A copy in which the rows that are keys of `changes` have changed, or, from N on, are there at all.

        `new_ids` gives the ids of rows that are new (id -> row). A new item is in stock and has nothing else until
        something is said of it. Costs what is live in all and a few microseconds a change, whatever N is.
        """
        rows = np.union1d(self.live_rows, np.fromiter(changes, np.int32, len(changes)))
        known = {name for values in changes.values() for name in values.attributes}
        items = _with_attributes(self.items, known)
        live = _spread(items, _with_attributes(self.live, known), self.live_rows, rows)
        at = {row: int(i) for row, i in zip(changes, np.searchsorted(rows, list(changes)), strict=True)}
        attributes = {
            name: _changed(column, {at[row]: v.attributes[name] for row, v in changes.items() if name in v.attributes})
            for name, column in live.attributes.items()
        }
        for row, values in changes.items():
            if values.price is not None:
                live.price[at[row]] = values.price
            if values.in_stock is not None:
                live.in_stock[at[row]] = values.in_stock
        live = replace(
            live,
            category=_changed(live.category, {at[r]: v.category for r, v in changes.items() if v.category is not None}),
            brand=_changed(live.brand, {at[r]: v.brand for r, v in changes.items() if v.brand is not None}),
            attributes=attributes,
        )
        last = int(rows[-1]) + 1 if len(rows) else 0
        return replace(
            self,
            items=items,
            live=live,
            live_rows=rows,
            num_rows=max(self.num_rows, last),
            new_ids={**self.new_ids, **new_ids} if new_ids else self.new_ids,
        )


def _with_attributes(columns: Columns, names: set[str]) -> Columns:
    """`columns` with an empty column for each attribute that it lacks."""
    missing = names - columns.attributes.keys()
    if not missing:
        return columns
    none = TextColumn(np.broadcast_to(np.int32(-1), columns.price.shape), StringTable.of([]))
    return replace(columns, attributes={**columns.attributes, **dict.fromkeys(sorted(missing), none)})


def _spread(items: Columns, live: Columns, old: Rows, rows: Rows) -> Columns:
    """What `rows` (ascending, all of `old` among them) held until now: as `live` has it, else as published."""
    fresh = np.full(len(rows), -1, np.int32)  # place in `live`, -1 where the row had not changed so far
    fresh[np.searchsorted(rows, old)] = np.arange(len(old), dtype=np.int32)
    published = _taken(items, rows)
    had = fresh >= 0

    def text(before: TextColumn, column: TextColumn) -> TextColumn:
        column.codes[had] = before.codes[fresh[had]]
        return replace(column, new_names=before.new_names)

    published.price[had] = live.price[fresh[had]]
    published.in_stock[had] = live.in_stock[fresh[had]]
    return replace(
        published,
        category=text(live.category, published.category),
        brand=text(live.brand, published.brand),
        attributes={name: text(live.attributes[name], column) for name, column in published.attributes.items()},
    )


def _taken(items: Columns, rows: Rows) -> Columns:
    """Writable copies of some rows; those beyond the published ones are in stock and have nothing else."""
    inside = rows < len(items.price)
    price = np.full(len(rows), np.nan, np.float32)
    price[inside] = items.price[rows[inside]]
    in_stock = np.ones(len(rows), np.bool_)
    in_stock[inside] = items.in_stock[rows[inside]]

    def text(column: TextColumn) -> TextColumn:
        codes = np.full(len(rows), -1, np.int32)
        codes[inside] = column.codes[rows[inside]]
        return replace(column, codes=codes)

    return Columns(
        category=text(items.category),
        brand=text(items.brand),
        price=price,
        in_stock=in_stock,
        attributes={name: text(column) for name, column in items.attributes.items()},
    )


def _changed(column: TextColumn, values: Mapping[int, str]) -> TextColumn:
    """The column with other strings at some places; its codes are written to. Empty: none."""
    if not values:
        return column
    names = {value for value in values.values() if value}
    column = column.with_names(names)
    codes = {name: column.code(name) for name in names}
    column.codes[list(values)] = [-1 if (code := codes.get(value)) is None else code for value in values.values()]
    return column
