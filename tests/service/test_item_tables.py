"""The bundle's tables continued by live items, against tables that are really concatenated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.bundle.reader import Bundle, open_bundle
from service.bundle.store import active_version
from service.content import Content, NewItem
from service.item_tables import ItemTables, LiveTables
from service.neighborhood import edges, last_events, no_places
from service.new_items import edges_from_new, edges_to_new

M = 4


@pytest.fixture(scope="module")
def bundle(exact_bundle_root: Path) -> Bundle:
    return open_bundle(exact_bundle_root / active_version(exact_bundle_root))


@pytest.fixture(scope="module")
def live(bundle: Bundle) -> LiveTables:
    random = np.random.default_rng(2)

    def item(first: int) -> NewItem:
        rows = np.arange(first, first + 5, dtype=np.int32)
        content = Content(*np.zeros((3, 128), np.float32))
        return NewItem(content, np.zeros(3, np.float32), np.zeros(3, np.float32), rows, random.random(5, np.float32))

    dim = bundle.manifest.dim
    return LiveTables(
        random.normal(size=(M, dim)).astype(np.float32),
        random.normal(size=(M, dim)).astype(np.float32),
        random.normal(size=(M, 128)).astype(np.float32),
        random.normal(size=(M, 128)).astype(np.float32),
        (item(0), item(100), item(200), None),
    )


@pytest.mark.parametrize("name", ["item_vectors", "history_vectors", "look", "meaning"])
def test_rows_of_both_kinds_are_taken_from_one_table(bundle: Bundle, live: LiveTables, name: str) -> None:
    tables = ItemTables(bundle, no_places(bundle.manifest.num_items), live)
    whole = np.concatenate([getattr(bundle, name), getattr(live, name)])
    rows = np.array([0, len(whole) - 1, 5, len(whole) - M, 5], np.int32)
    np.testing.assert_array_equal(getattr(tables, name)(rows), whole[rows])
    np.testing.assert_array_equal(getattr(tables, name)(rows[:0]), whole[rows[:0]])
    assert len(tables) == len(whole)


def test_live_items_have_no_popularity(bundle: Bundle, live: LiveTables) -> None:
    n = bundle.manifest.num_items
    tables = ItemTables(bundle, no_places(n), live)
    got = tables.popularity(np.array([3, n, n + 1], np.int32))
    assert got.tolist() == [bundle.popularity[3], 0, 0]


def test_edges_lead_both_ways_between_old_and_new(bundle: Bundle, live: LiveTables) -> None:
    n = bundle.manifest.num_items
    tables = ItemTables(bundle, no_places(n), live)
    history = last_events(np.array([7, n + 1, 9], np.int32), np.arange(3), now=3, length=8)  # newest first: 9, n+1, 7
    candidates = np.array([n + 2, 4, 9, n + 1], np.int32)
    got = tables.edges(candidates, history)
    old = last_events(np.array([7, 9], np.int32), np.arange(2), now=3, length=8)
    known = edges(np.array([4, 9], np.int32), old, bundle.relations, no_places(n))
    np.testing.assert_array_equal(got[np.ix_([1, 2], [0, 2])], known[:, :2])
    for place, number in ((0, 2), (3, 1)):
        item = live.items[number]
        assert item is not None
        expected = edges_to_new([item], old, bundle.relations, no_places(n))
        np.testing.assert_array_equal(got[place, [0, 2]], expected[0, :2])
    one = live.items[1]
    assert one is not None
    expected = edges_from_new(one, np.array([4, 9], np.int32), bundle.relations, no_places(n))
    np.testing.assert_array_equal(got[[1, 2], 1], expected)
    assert not got[[0, 3], 1].any()  # nothing is known between two new items
    assert not got[:, 3:].any()


def test_without_live_items_edges_are_the_shared_function(bundle: Bundle) -> None:
    n = bundle.manifest.num_items
    history = last_events(np.array([7, 9], np.int32), np.arange(2), now=3, length=8)
    candidates = np.arange(40, dtype=np.int32)
    got = ItemTables(bundle, no_places(n)).edges(candidates, history)
    np.testing.assert_array_equal(got, edges(candidates, history, bundle.relations, no_places(n)))


def test_an_item_without_content_has_no_edges(bundle: Bundle, live: LiveTables) -> None:
    n = bundle.manifest.num_items
    tables = ItemTables(bundle, no_places(n), live)
    history = last_events(np.array([7, n + 3], np.int32), np.arange(2), now=3, length=8)
    got = tables.edges(np.array([n + 3, 4], np.int32), history)
    assert not got[0].any()
    assert not got[:, 0].any()
