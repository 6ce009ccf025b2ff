"""What a filter says, once read: a tree of conditions on an item's fields."""

from __future__ import annotations

from dataclasses import dataclass, field

IN_STOCK, OUT_OF_STOCK = "IN_STOCK", "OUT_OF_STOCK"
AVAILABILITY, BRAND, CATEGORY, ITEM_ID, PRICE = "availability", "brand", "category", "item_id", "price"
FIELDS = (AVAILABILITY, BRAND, CATEGORY, ITEM_ID, PRICE)
"""What every shop's items have; other names are attributes of the shop."""
ATTRIBUTE = "attributes."
"""May stand before the name of an attribute, and must where the attribute is called like one of the fields above."""


@dataclass(frozen=True, slots=True)
class AnyOf:
    """`name: ANY("a", "b")`: the field holds one of the values."""

    name: str
    """One of FIELDS but the price, or `attributes.` and the name of an attribute."""
    values: tuple[str, ...]
    """Distinct, ascending."""
    column: int = field(default=0, compare=False)
    """Where the field stands in the text, from 1."""


@dataclass(frozen=True, slots=True)
class Within:
    """A range of the price, which then has to be known. Every comparison is one."""

    low: float
    """A float32 value, as prices are; -inf where the range is open. `high` likewise."""
    high: float
    low_included: bool = True
    high_included: bool = True


@dataclass(frozen=True, slots=True)
class Not:
    """What does not pass `term`."""

    term: Node


@dataclass(frozen=True, slots=True)
class Both:
    """What passes all of `terms`."""

    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """What passes one of `terms`."""

    terms: tuple[Node, ...]


Node = AnyOf | Within | Not | Both | Either
