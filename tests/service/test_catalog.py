"""One state of the shop: the bundle's items, and what was said of them since."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.reader import Bundle, open_bundle
from service.bundle.store import active_version
from service.catalog import NO_ROWS, Catalog, LiveChanges, most_popular_first
from service.domain import Answer, ItemChange, Reason, Strategy
from service.item_columns import ItemColumns, ItemValues
from service.item_tables import ItemTables, LiveTables
from service.neighborhood import no_places

NEW = "новый/товар"


@pytest.fixture(scope="module")
def bundle(exact_bundle_root: Path) -> Bundle:
    return open_bundle(exact_bundle_root / active_version(exact_bundle_root))


@pytest.fixture
def plain(bundle: Bundle) -> Catalog:
    tables = ItemTables(bundle, no_places(bundle.manifest.num_items))
    return Catalog(bundle, tables, ItemColumns.of(bundle), most_popular_first(bundle))


@pytest.fixture
def changed(bundle: Bundle) -> Catalog:
    """One item is new, one has another title and price, one is gone."""
    n, dim = bundle.manifest.num_items, bundle.manifest.dim
    vectors = np.ones((1, dim), np.float32)
    content = np.zeros((1, 128), np.float32)
    live = LiveTables(vectors, vectors, content, content, (None,))
    columns = ItemColumns.of(bundle).with_live(
        {n: ItemValues(category="kind 99", price=5.0), 4: ItemValues(price=7.5, in_stock=False)}, new_ids={NEW: n}
    )
    changes = LiveChanges(
        new_rows={NEW: n},
        shown={n: ItemChange(NEW, title="Quite new", image_url="n.jpg"), 4: ItemChange("item-0004", title="Renamed")},
        gone=frozenset({9}),
        sequence=3,
        content_sequence=2,
    )
    return Catalog(bundle, ItemTables(bundle, no_places(n), live), columns, most_popular_first(bundle), changes)


def test_popular_items_but_for_some(plain: Catalog, world: Any) -> None:
    top = np.argsort(-world.popularity)[:5].astype(np.int32)
    popular = plain.popular(20, exclude=top)
    items = plain.items(tuple(popular.rows.tolist()), tuple(popular.scores.tolist()), first_rank=11)
    assert [item.item_id for item in items] == world.popular(20, top)
    assert [item.title for item in items] == [world.titles[row] for row in popular.rows]
    assert popular.scores.tolist() == world.popularity[popular.rows].tolist()
    assert [item.rank for item in items] == list(range(11, 31))


def test_popular_items_that_pass(changed: Catalog, plain: Catalog, world: Any) -> None:
    passing = np.zeros(len(changed), bool)
    passing[[3, 8, 12, len(changed) - 1]] = True
    rows = changed.popular(10, exclude=np.array([8], np.int32), passing=passing).rows.tolist()
    assert rows == [*sorted((3, 12), key=lambda row: -world.popularity[row]), len(changed) - 1]
    assert len(plain.popular(1000, exclude=NO_ROWS).rows) == 600
    assert changed.popular(1000, exclude=NO_ROWS).rows[-1] == 600


def test_ids_and_rows_of_both_kinds(changed: Catalog) -> None:
    assert changed.row(NEW) == 600
    assert changed.item_id(600) == NEW
    assert changed.row("item-0004") == 4
    assert changed.item_id(4) == "item-0004"
    assert changed.row("nobody's") is None
    assert changed.rows(["item-0004", "?", NEW, "item-0004"]).tolist() == [4, 600]


def test_what_is_shown_is_what_was_said_last(changed: Catalog, plain: Catalog, world: Any) -> None:
    new, renamed, same = changed.items((600, 4, 11), (3.0, 2.0, 1.0), with_metadata=True)
    assert (new.title, new.metadata and new.metadata.category, new.metadata and new.metadata.image) == (
        "Quite new",
        "kind 99",
        "n.jpg",
    )
    assert new.metadata is not None
    assert new.metadata.brand is None
    assert renamed.title == "Renamed"
    assert renamed.metadata is not None
    assert (renamed.metadata.price, renamed.metadata.in_stock) == (7.5, False)
    assert same.title == world.titles[11]
    assert same.metadata is not None
    assert (same.metadata.price, same.metadata.in_stock) == (None, True)
    assert same.metadata.image == "images/item-0011.jpg"
    (without,) = plain.items((11,), (1.0,), reasons=((Reason("history", 1.0, "item-0001"),),))
    assert without.metadata is None
    assert without.reasons[0].item_id == "item-0001"


def test_an_answer_with_an_item_that_is_gone_is_not_shown(changed: Catalog, plain: Catalog) -> None:
    answer = Answer((4, 9), (1.0, 0.5), Strategy.PERSONAL)
    assert plain.shows(answer)
    assert not changed.shows(answer)
    assert changed.shows(Answer((4, 8), (1.0, 0.5), Strategy.PERSONAL))
    assert changed.gone.tolist() == [9]


def test_every_state_has_its_own_name(plain: Catalog, changed: Catalog) -> None:
    assert plain.serial != changed.serial
    assert (plain.content_sequence, changed.content_sequence, changed.sequence) == (0, 2, 3)
