from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.files import CodedStrings, StringTable
from service.bundle.reader import open_bundle
from service.bundle.store import active_version
from service.errors import BundleForeignError
from service.item_columns import ItemColumns, ItemValues, TextColumn


@pytest.fixture
def columns(bundle_root: Path) -> ItemColumns:
    return published(bundle_root)


def published(bundle_root: Path) -> ItemColumns:
    bundle = open_bundle(bundle_root / active_version(bundle_root))
    color = CodedStrings.of(["red" if row % 2 else None for row in range(bundle.manifest.num_items)])
    return ItemColumns.of(bundle, attributes={"color": color})


def values(columns: ItemColumns, row: int) -> tuple[object, ...]:
    """What filters see of one row: category, brand, price, stock, color."""
    place = np.searchsorted(columns.live_rows, row)
    live = place < len(columns.live_rows) and columns.live_rows[place] == row
    part, at = (columns.live, place) if live else (columns.items, row)

    def text(column: TextColumn) -> str | None:
        code = int(column.codes[at])
        later = {code: name for name, code in column.new_names.items()}
        return None if code < 0 else later[code] if code in later else column.names[code]

    price = float(part.price[at])
    return (
        text(part.category),
        text(part.brand),
        None if np.isnan(price) else price,
        bool(part.in_stock[at]),
        text(part.attributes["color"]),
    )


def test_what_a_bundle_says(columns: ItemColumns, world: Any) -> None:
    assert columns.num_rows == 600
    assert values(columns, 3) == (f"kind {world.cluster[3]}", None, None, True, "red")
    assert columns.row("item-0003") == 3
    assert columns.row("item-none") is None
    assert columns.items.in_stock.strides == (0,)  # costs nothing until something changes


def test_a_change_makes_a_copy_and_says_only_what_it_says(columns: ItemColumns) -> None:
    category = values(columns, 5)[0]
    one = columns.with_live({5: ItemValues(price=9.5, in_stock=False)})
    two = one.with_live({5: ItemValues(brand="Acme"), 2: ItemValues(category="kind 1", attributes={"color": "blue"})})
    three = two.with_live({5: ItemValues(price=float("nan"), attributes={"color": ""}), 2: ItemValues(category="")})
    assert values(columns, 5) == (category, None, None, True, "red")
    assert values(one, 5) == (category, None, 9.5, False, "red")
    assert values(two, 5) == (category, "Acme", 9.5, False, "red")
    assert values(three, 5) == (category, "Acme", None, False, None)
    assert values(two, 2) == ("kind 1", None, None, True, "blue")
    assert values(three, 2) == (None, None, None, True, "blue")
    assert three.live_rows.tolist() == [2, 5]
    assert three.num_rows == 600


def test_items_that_come_after_publishing(columns: ItemColumns) -> None:
    one = columns.with_live({600: ItemValues(category="New kind", price=3.0)}, new_ids={"new-a": 600})
    two = one.with_live({601: ItemValues()}, new_ids={"new-b": 601}).with_live({600: ItemValues(in_stock=False)})
    assert (columns.num_rows, one.num_rows, two.num_rows) == (600, 601, 602)
    assert values(two, 600) == ("New kind", None, 3.0, False, None)
    assert values(two, 601) == (None, None, None, True, None)
    assert (two.row("new-a"), two.row("new-b"), two.row("item-0000")) == (600, 601, 0)
    assert columns.row("new-a") is None


def test_a_new_attribute_is_there_for_every_row(columns: ItemColumns) -> None:
    changed = columns.with_live({1: ItemValues(attributes={"size": "XL"})})
    assert changed.live.attributes["size"].new_names == {"XL": 0}
    assert (changed.items.attributes["size"].codes == -1).all()
    assert "size" not in columns.items.attributes


def test_a_change_shares_the_bundles_columns_whatever_their_size(columns: ItemColumns) -> None:
    changed = columns.with_live({row: ItemValues(price=1.0) for row in range(0, 600, 7)})
    assert changed.items is columns.items


def test_names_are_found_whether_published_or_new() -> None:
    column = TextColumn.of(CodedStrings.of(["é", "a", None, "b", "😀"]), "brands")
    assert [column.code(name) for name in ("a", "b", "é", "😀", "", "aa")] == [0, 1, 2, 3, None, None]
    later = column.with_names({"aa", "b", ""})
    assert [later.code(name) for name in ("aa", "b", "")] == [5, 1, 4]
    assert column.with_names({"a"}) is column


def test_names_out_of_order_are_refused() -> None:
    column = CodedStrings(np.zeros(1, np.int32), StringTable.of(["b", "a"]))
    with pytest.raises(BundleForeignError, match=r"brands: .* ascend"):
        TextColumn.of(column, "brands")
