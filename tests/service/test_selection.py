"""Which items an answer may hold: filters, and what is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service import selection
from service.bundle.reader import Bundle, open_bundle
from service.bundle.store import active_version
from service.catalog import Catalog, LiveChanges, most_popular_first
from service.domain import Promotion, Rules
from service.filter_grammar import InvalidFilterError
from service.item_columns import ItemColumns
from service.item_tables import ItemTables
from service.neighborhood import no_places
from service.selection import Selections, category_filter


@pytest.fixture(scope="module")
def bundle(exact_bundle_root: Path) -> Bundle:
    return open_bundle(exact_bundle_root / active_version(exact_bundle_root))


def catalog_of(bundle: Bundle, *gone: int) -> Catalog:
    changes = LiveChanges(gone=frozenset(gone), sequence=len(gone))
    tables = ItemTables(bundle, no_places(bundle.manifest.num_items))
    return Catalog(bundle, tables, ItemColumns.of(bundle), most_popular_first(bundle), changes)


def test_without_a_filter_what_is_gone_is_excluded(bundle: Bundle) -> None:
    catalog, selections = catalog_of(bundle, 7, 3), Selections()
    assert selections.passing(catalog, "") is None
    assert selections.excluded(catalog).tolist() == [3, 7]
    seen = np.array([3, 5], np.int32)
    assert selections.excluded(catalog, seen).tolist() == [3, 5, 7]
    assert selections.excluded(catalog_of(bundle), seen) is seen


def test_many_that_are_gone_are_a_filter(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "MOST_EXCLUDED", 2)
    catalog, selections = catalog_of(bundle, 1, 2, 3), Selections()
    passing = selections.passing(catalog, "")
    assert passing is not None
    assert np.flatnonzero(~passing.mask).tolist() == [1, 2, 3]
    assert len(selections.excluded(catalog)) == 0


def test_a_filter_passes_what_it_says_and_nothing_that_is_gone(bundle: Bundle, world: Any) -> None:
    own = np.flatnonzero(world.cluster == 4)
    catalog, selections = catalog_of(bundle, int(own[0])), Selections()
    passing = selections.passing(catalog, category_filter("kind 4"))
    assert passing is not None
    assert passing.rows.tolist() == own[1:].tolist()
    assert np.flatnonzero(selections.mask(catalog, category_filter("kind 4"))).tolist() == own.tolist()


def test_masks_are_made_once_a_state_of_the_shop_and_a_few_are_kept(bundle: Bundle) -> None:
    selections = Selections()
    one, other = catalog_of(bundle), catalog_of(bundle, 5)
    text = category_filter("kind 4")
    assert selections.mask(one, text) is selections.mask(one, text.replace(": ", ":"))
    assert selections.mask(one, text) is not selections.mask(other, text)
    kept = selections.passing(one, text)
    for n in range(selection.KEPT):
        selections.passing(one, f"price < {n}")
    assert selections.passing(one, text) is not kept


def test_masks_are_bounded_in_bytes(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "KEPT_BYTES", 2_000)  # of 600 a mask
    selections, catalog = Selections(), catalog_of(bundle)
    kept = [selections.mask(catalog, category_filter(f"kind {n}")) for n in range(4)]
    again = [selections.mask(catalog, category_filter(f"kind {n}")) for n in (3, 2, 1, 0)]
    assert [a is b for a, b in zip(kept[::-1], again, strict=True)] == [True, True, True, False]


def test_a_category_may_have_any_name(bundle: Bundle) -> None:
    selections, catalog = Selections(), catalog_of(bundle)
    assert not selections.mask(catalog, category_filter('"\\ OR price > 0')).any()


def test_rules_as_rows(bundle: Bundle, world: Any) -> None:
    catalog, selections = catalog_of(bundle, 8), Selections()
    rules = Rules(
        pin=("item-0009", "item-0008", "unheard-of", "item-0002"),
        boost=(Promotion(0.5, ("item-0003",), category_filter("kind 4")),),
        bury=(Promotion(0.25, ("item-0001",)),),
    )
    moved = selections.moved(catalog, rules)
    assert moved.pin.tolist() == [9, 2]
    (up, boosted), (down, buried) = moved.shifts
    rows = np.arange(600, dtype=np.int32)
    assert (up, down) == (0.5, -0.25)
    assert set(np.flatnonzero(boosted(rows))) == {3, *np.flatnonzero(world.cluster == 4).tolist()}
    assert np.flatnonzero(buried(rows)).tolist() == [1]
    assert not selections.moved(catalog, Rules(hide=("item-0001",)))
    with pytest.raises(InvalidFilterError) as caught:
        selections.moved(catalog, Rules(bury=(Promotion(1.0), Promotion(1.0, filter="price <"))))
    assert caught.value.where == "rules.bury[1].filter"
