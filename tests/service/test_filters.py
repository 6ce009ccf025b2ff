from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bundle.files import CodedStrings, IdTable
from service.errors import InvalidFilterError, InvalidQueryError
from service.filter_grammar import MAX_CHARACTERS, MAX_DEPTH, MAX_VALUES
from service.filters import parse_filter
from service.item_columns import Columns, ItemColumns, ItemValues, TextColumn


@dataclass
class Item:
    """One item as plain Python: what the masks are held against."""

    item_id: str
    category: str | None = None
    brand: str | None = None
    price: float = float("nan")
    in_stock: bool = True
    color: str | None = None


def columns_of(items: list[Item]) -> ItemColumns:
    """`items`, whose ids ascend, as a bundle would have them."""

    def text(values: list[str | None]) -> TextColumn:
        return TextColumn.of(CodedStrings.of(values), "a column")

    def of(items: list[Item]) -> Columns:
        return Columns(
            category=text([item.category for item in items]),
            brand=text([item.brand for item in items]),
            price=np.array([item.price for item in items], np.float32),
            in_stock=np.array([item.in_stock for item in items], np.bool_),
            attributes={"color": text([item.color for item in items])},
        )

    ids = IdTable.of([item.item_id for item in items])
    return ItemColumns(of(items), of([]), np.empty(0, np.int32), len(items), ids)


SHOP = columns_of(
    [
        Item("a", "Phones", "Acme", 10.0, True, "red"),
        Item("b", "Phones", "Söhne", 50.0, False, "blue"),
        Item("c", "Tablets", None, float("nan"), True, None),
        Item("d", None, 'X"\\', 49.99, True, "red"),
    ]
)


def passing(text: str, columns: ItemColumns = SHOP) -> str:
    return "".join("abcdefgh"[row] for row in np.flatnonzero(parse_filter(text).mask(columns)))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('category: ANY("Phones")', "ab"),
        ('category:ANY("Phones","Tablets","Nowhere")', "abc"),
        ('category: ANY("phones")', ""),
        ('brand: ANY("Söhne")', "b"),
        (r'brand: ANY("X\"\\")', "d"),
        ("price < 50", "ad"),
        ("price <= 50", "abd"),
        ("price > 10", "bd"),
        ("price >= 10.", "abd"),
        ("price = 49.99", "d"),
        ("NOT price < 50", "bc"),
        ("price: IN(10i, 50e)", "ad"),
        ("price: IN(10, 50)", "ad"),
        ("price: IN(10e, 50i)", "bd"),
        ("price: IN(*, 49.99)", "a"),
        ("price: IN(10e, *)", "bd"),
        ("price: IN(*, *)", "abd"),
        ("price: IN(50, 10)", ""),
        ("price > -1", "abd"),
        ('availability: ANY("IN_STOCK")', "acd"),
        ('availability: ANY("OUT_OF_STOCK")', "b"),
        ('availability: ANY("IN_STOCK", "OUT_OF_STOCK")', "abcd"),
        ('item_id: ANY("a", "d", "nobody")', "ad"),
        ('color: ANY("red")', "ad"),
        ('attributes.color: ANY("red")', "ad"),
        ('"color": ANY("red")', "ad"),
        ('-color: ANY("red")', "bc"),
        ('NOT NOT color: ANY("red")', "ad"),
        ('category: ANY("Phones","Tablets") AND price < 50 AND NOT (brand: ANY("X") OR color: ANY("blue"))', "a"),
        # NOT before AND before OR.
        ('price > 20 OR color: ANY("red") AND category: ANY("Phones")', "abd"),
        ('(price > 20 OR color: ANY("red")) AND category: ANY("Phones")', "ab"),
        ('NOT price > 20 AND category: ANY("Phones")', "a"),
        ('NOT (price > 20 AND category: ANY("Phones"))', "acd"),
        ('\n category\t: ANY ( "Phones" )\u00a0', "ab"),
    ],
)
def test_what_passes(text: str, rows: str) -> None:
    assert passing(text) == rows


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"column 1: the filter ends where .*a field"),
        ("   ", r"column 4: the filter ends where .*a field"),
        ('color: ANY("red") or price < 5', r"column 19: there is `or` where .*OR or the end is expected"),
        ('color: ANY("red")) ', r"column 18: there is `\)` where the end is expected"),
        ('(color: ANY("red")', r"column 19: the filter ends where \) is expected|column 19: .* AND, OR is expected"),
        ("color: ANY(red)", r'column 12: there is `red` where a text in "double quotes" is expected'),
        ("color: ANY()", r"column 12: there is `\)` where a text"),
        ('color: ANY("red', r"column 12: a text does not end"),
        (r'color: ANY("\n")', r"column 12: .* backslash"),
        ("price < ten", r"column 9: there is `ten` where a number"),
        ("price < 1e5", r"column 9: there is `1e5` where a number"),
        ("price < 5i", r"column 9: there is `5i` where a number"),
        ("price < 9" + "9" * 60, r"column 9: no price is as large"),
        ("price: IN(1)", r"column 12: there is `\)` where , is expected"),
        ("price != 5", r"column 7: there is `!=` where .*<, <=, >, >= or = is expected"),
        ('price: ANY("5")', r"column 1: price is a number"),
        ("brand < 5", r"column 1: `brand` is a text"),
        ("color: IN(1, 2)", r"column 1: `color` is a text"),
        ('availability: ANY("IN_STOCK", "yes")', r'column 31: availability is "IN_STOCK" or "OUT_OF_STOCK"'),
        ('color: ANY("\ud83d")', r"column 13: .*surrogate"),
        ('category: ANY("a") AND', r"column 23: the filter ends where"),
        ("🙂", r"column 1: there is `🙂` where"),
        ("x" * (MAX_CHARACTERS + 1), rf"at most {MAX_CHARACTERS} characters, this one has {MAX_CHARACTERS + 1}"),
        ("(" * 1000 + "price < 5" + ")" * 1000, rf"nested {MAX_DEPTH} deep"),
        ("NOT " * 1000 + "price < 5", rf"nested {MAX_DEPTH} deep"),
        ("(" * 1000, r"column 1001: the filter ends"),
        ("-(" * 1000 + "price < 5" + ")" * 1000, rf"nested {MAX_DEPTH} deep"),
    ],
)
def test_a_refusal_says_where_and_what(text: str, says: str) -> None:
    with pytest.raises(InvalidFilterError, match=says) as refused:
        parse_filter(text, where="rules.boost[0].filter")
    assert refused.value.where == "rules.boost[0].filter"
    assert refused.value.todo
    assert isinstance(refused.value, InvalidQueryError)
    assert refused.value.reason == "INVALID_ARGUMENT"


def test_an_unknown_attribute_is_refused_where_it_meets_the_items() -> None:
    unknown = parse_filter('price < 5 OR colour: ANY("red")')
    with pytest.raises(InvalidFilterError, match="column 14: no item has an attribute 'colour'; there are color"):
        unknown.mask(SHOP)


def test_limits_are_reached_and_not_passed() -> None:
    def values(count: int) -> str:
        return 'color: ANY("a") AND brand: ANY(' + ",".join(['"b"'] * (count - 1)) + ")"

    deep = "NOT (" * (MAX_DEPTH // 2) + "price < 20" + ")" * (MAX_DEPTH // 2)
    assert passing(deep) == "a"
    assert passing(values(MAX_VALUES)) == ""
    with pytest.raises(InvalidFilterError, match="values"):
        parse_filter(values(MAX_VALUES + 1))
    with pytest.raises(InvalidFilterError, match="values and ranges"):
        parse_filter(" OR ".join(f"price<{n}" for n in range(MAX_VALUES + 1)))
    with pytest.raises(InvalidFilterError, match="nested"):
        parse_filter(f"NOT {deep}")
    assert passing("price < 20".ljust(MAX_CHARACTERS)) == "a"


@pytest.mark.parametrize(
    "same",
    [
        ['color:ANY("a","b")', 'color : ANY( "b" , "a", "b" )', 'attributes.color: ANY("a","b")'],
        ["price<5", "price < 5.0", "price: IN(*, 5)", "price: IN(*, 5e)"],
        ["price = 0", "price = -0", "price: IN(0i, 0i)"],
        ['price < 5 AND color: ANY("a")', '((color: ANY("a"))) AND (price < 5) AND price < 5'],
        ['-color: ANY("a")', '(NOT color: ANY("a"))'],
    ],
)
def test_what_says_the_same_has_one_key(same: list[str]) -> None:
    filters = [parse_filter(text) for text in same]
    assert len({read.key for read in filters}) == 1
    assert len(set(filters)) == 1


def test_what_differs_has_different_keys() -> None:
    texts = [
        "price < 5",
        "price <= 5",
        "price > 5",
        "price: IN(*, *)",
        "NOT price < 5",
        'color: ANY("price < 5")',
        'color: ANY("a", "b")',
        r'color: ANY("a\", \"b")',
        'attributes.brand: ANY("a")',
        'brand: ANY("a")',
        'price < 5 AND (price > 3 OR brand: ANY("a"))',
        'price < 5 AND price > 3 OR brand: ANY("a")',
    ]
    assert len({parse_filter(text).key for text in texts}) == len(texts)


def test_an_attribute_may_be_called_like_a_field_or_a_keyword() -> None:
    names = ["price", "NOT", "garment group", "attributes.x", '"', "", "größe"]
    column = TextColumn.of(CodedStrings.of(["yes", None, None, None]), "a column")
    items = replace(SHOP.items, attributes=dict.fromkeys(names, column))
    columns = replace(SHOP, items=items)
    for name in names:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        read = parse_filter(f'"attributes.{quoted}": ANY("yes")')
        assert np.flatnonzero(read.mask(columns)).tolist() == [0]
        assert parse_filter(str(read)) == read


TEXTS = st.one_of(st.sampled_from(["a", "b", "c", 'd"', "\\", "é"]), st.text(st.characters(exclude_categories=["Cs"])))
PRICES = st.one_of(
    st.just(float("nan")),
    st.sampled_from([0.0, 1.0, 2.5, 49.99]),
    st.floats(-1e6, 1e6, allow_subnormal=False, width=32),
)
Predicate = Callable[[Item], bool]


@st.composite
def shops(draw: Any) -> list[Item]:
    maybe = st.one_of(st.none(), TEXTS)
    count = draw(st.integers(1, 12))
    return [
        Item(f"{i:02d}", draw(maybe), draw(maybe), draw(PRICES), draw(st.booleans()), draw(maybe)) for i in range(count)
    ]


def quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def text_conditions(draw: Any) -> tuple[str, Predicate]:
    name, values = draw(
        st.one_of(
            st.tuples(st.sampled_from(["category", "brand", "color"]), st.lists(TEXTS, min_size=1, max_size=6)),
            st.tuples(st.just("item_id"), st.lists(st.sampled_from(["00", "01", "05", "x"]), min_size=1)),
        )
    )
    gap = draw(st.sampled_from(["", " ", "\t\n"]))
    listed = f",{gap}".join(map(quote, values))
    return f"{name}{gap}:{gap}ANY{gap}({gap}{listed}{gap})", lambda item: getattr(item, name) in values


@st.composite
def price_conditions(draw: Any) -> tuple[str, Predicate]:
    number = draw(st.decimals(-1000, 1000, places=2))
    bound = float(np.float32(float(number)))
    sign = draw(st.sampled_from(["<", "<=", ">", ">=", "="]))
    passes: dict[str, Predicate] = {
        "<": lambda item: item.price < bound,
        "<=": lambda item: item.price <= bound,
        ">": lambda item: item.price > bound,
        ">=": lambda item: item.price >= bound,
        "=": lambda item: item.price == bound,
    }
    return f"price {sign} {number}", passes[sign]


@st.composite
def stock_conditions(draw: Any) -> tuple[str, Predicate]:
    stock = draw(st.booleans())
    return f'availability: ANY("{"IN_STOCK" if stock else "OUT_OF_STOCK"}")', lambda item: item.in_stock == stock


def combined(terms: st.SearchStrategy[tuple[str, Predicate]]) -> st.SearchStrategy[tuple[str, Predicate]]:
    several = st.lists(terms, min_size=2, max_size=4)
    return st.one_of(
        terms.map(lambda t: (f"NOT ({t[0]})", lambda item: not t[1](item))),
        several.map(lambda ts: (" AND ".join(f"({t})" for t, _ in ts), lambda item: all(p(item) for _, p in ts))),
        several.map(lambda ts: (" OR ".join(f"({t})" for t, _ in ts), lambda item: any(p(item) for _, p in ts))),
    )


FILTERS = st.recursive(st.one_of(text_conditions(), price_conditions(), stock_conditions()), combined, max_leaves=12)


def rounded(items: list[Item]) -> list[Item]:
    """Prices as the columns hold them."""
    return [Item(**{**vars(item), "price": float(np.float32(item.price))}) for item in items]


@given(FILTERS, shops())
def test_masks_equal_one_item_at_a_time(made: tuple[str, Predicate], items: list[Item]) -> None:
    text, passes = made
    expected = [passes(item) for item in rounded(items)]
    assert parse_filter(text).mask(columns_of(items)).tolist() == expected


@given(FILTERS, shops(), shops(), st.integers(0, 12))
def test_masks_follow_what_is_live(
    made: tuple[str, Predicate], before: list[Item], after: list[Item], start: int
) -> None:
    """Some rows change, others are new: as if the columns had been made of the items as they are now."""
    text, passes = made
    now = list(before)
    first = min(start, len(before))
    changes, new_ids = {}, {}
    for row, item in enumerate(after, start=first):
        values = ItemValues(
            item.category or "", item.brand or "", item.price, item.in_stock, {"color": item.color or ""}
        )
        changes[row] = values
        merged = Item(
            f"{row:02d}", item.category or None, item.brand or None, item.price, item.in_stock, item.color or None
        )
        if row < len(now):
            now[row] = merged
        else:
            now.append(merged)
            new_ids[merged.item_id] = row
    columns = columns_of(before).with_live(changes, new_ids=new_ids)
    assert columns.num_rows == len(now)
    assert parse_filter(text).mask(columns).tolist() == [passes(item) for item in rounded(now)]


@given(FILTERS)
def test_the_canonical_form_reads_as_itself(made: tuple[str, Predicate]) -> None:
    read = parse_filter(made[0])
    again = parse_filter(str(read))
    assert again == read
    assert again.tree == read.tree
    assert str(again) == str(read)


@given(st.text() | st.text('()":,<>=-*ANDORNOTINYie.5 \\pricecolor'))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read = parse_filter(text)
    except InvalidFilterError as error:
        assert error.where == "filter"  # noqa: PT017
    else:
        assert parse_filter(read.key) == read
