"""What is known of a shopper: the rung of the cold ladder, the history that the models see, what is left out."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from service.bundle.reader import open_bundle
from service.bundle.store import active_version
from service.catalog import Catalog, most_popular_first
from service.domain import FeedbackEvent, FeedbackKind, PastEvent, Strategy
from service.item_columns import ItemColumns
from service.item_tables import ItemTables
from service.known import Known, known
from service.neighborhood import no_places
from service.shoppers import Shoppers

VIEW, CART, PURCHASE, DISLIKE = FeedbackKind.VIEW, FeedbackKind.CART, FeedbackKind.PURCHASE, FeedbackKind.DISLIKE


@pytest.fixture(scope="module")
def stages(exact_bundle_root: Path) -> tuple[Shoppers, Catalog]:
    bundle = open_bundle(exact_bundle_root / active_version(exact_bundle_root))
    tables = ItemTables(bundle, no_places(bundle.manifest.num_items))
    return Shoppers(bundle), Catalog(bundle, tables, ItemColumns.of(bundle), most_popular_first(bundle))


def event(item: int, kind: FeedbackKind, at: float) -> FeedbackEvent:
    return FeedbackEvent(f"e{item}-{kind}-{at}", "u", f"item-{item:04d}", kind, at)


def shown(found: Known) -> list[int]:
    """The history's rows, newest first."""
    return found.history.rows[found.history.mask > 0].tolist()


def test_the_rungs(stages: tuple[Shoppers, Catalog]) -> None:
    shoppers, catalog = stages
    row = shoppers.row("shopper-000")
    seed = ("item-0005",)
    assert known(shoppers, catalog, row).strategy is Strategy.PERSONAL
    assert known(shoppers, catalog, row, seed_items=seed).strategy is Strategy.PERSONAL
    past = (PastEvent("item-0001"),)
    assert known(shoppers, catalog, None, history=past, seed_items=seed).strategy is Strategy.SESSION
    assert known(shoppers, catalog, None, events=(event(1, VIEW, 5.0),)).strategy is Strategy.SESSION
    assert known(shoppers, catalog, None, seed_items=seed).strategy is Strategy.SEED
    assert known(shoppers, catalog, None).strategy is None
    assert known(shoppers, catalog, None, history=(PastEvent("nobody-sells-this"),)).strategy is None


def test_a_known_shopper_is_as_the_bundle_has_them(stages: tuple[Shoppers, Catalog], world: Any) -> None:
    shoppers, catalog = stages
    rows, ages = world.history("shopper-003")
    found = known(shoppers, catalog, shoppers.row("shopper-003"))
    assert shown(found) == rows.tolist()
    np.testing.assert_allclose(found.history.age_days[: len(ages)], ages, rtol=1e-4, atol=1e-4)
    assert found.seen.tolist() == sorted(set(world.past["shopper-003"][0].tolist()))


def test_what_came_after_publishing_is_newest_and_a_purchase_is_not_shown_again(
    stages: tuple[Shoppers, Catalog], world: Any, planted: ModuleType
) -> None:
    shoppers, catalog = stages
    past = world.past["shopper-003"][0].tolist()
    new = [row for row in range(planted.NUM_ITEMS) if row not in past][:3]
    later = planted.AS_OF + 10 * planted.DAY
    events = [event(new[0], VIEW, later - 50), event(new[1], PURCHASE, later - 20), event(new[2], CART, later)]
    found = known(shoppers, catalog, shoppers.row("shopper-003"), events=events)
    assert shown(found)[:3] == [new[2], new[1], new[0]]
    assert found.history.age_days[0] == 0
    assert found.history.age_days[3] >= 10  # what the bundle knows has grown older meanwhile
    assert set(found.seen.tolist()) == {*past, new[1]}
    assert found.strategy is Strategy.PERSONAL


def test_a_disliked_item_is_out_of_the_history_and_out_of_the_answer_even_where_seen_items_are_not(
    stages: tuple[Shoppers, Catalog], world: Any
) -> None:
    shoppers, catalog = stages
    past = world.past["shopper-003"][0].tolist()
    disliked = event(past[-1], DISLIKE, 2e9)
    found = known(shoppers, catalog, shoppers.row("shopper-003"), events=[disliked], exclude_seen=False)
    assert past[-1] not in shown(found)
    assert found.seen.tolist() == [past[-1]]


def test_of_several_events_with_one_item_the_last_counts_but_a_purchase_stays_one(
    stages: tuple[Shoppers, Catalog],
) -> None:
    shoppers, catalog = stages
    events = [event(7, VIEW, 2e9), event(8, VIEW, 2e9 + 1), event(7, PURCHASE, 2e9 + 2), event(7, VIEW, 2e9 + 3)]
    found = known(shoppers, catalog, None, events=events)
    assert shown(found) == [7, 8]
    assert found.seen.tolist() == [7]


def test_events_without_a_time_are_as_late_as_the_latest_and_keep_their_order(stages: tuple[Shoppers, Catalog]) -> None:
    shoppers, catalog = stages
    history = [PastEvent("item-0001", VIEW, 2e9), PastEvent("item-0002"), PastEvent("item-0003")]
    found = known(shoppers, catalog, None, history=history)
    assert shown(found) == [3, 2, 1]
    assert found.history.age_days[:3].tolist() == [0, 0, 0]


def test_seed_items_are_part_of_the_history_and_never_of_the_answer(stages: tuple[Shoppers, Catalog]) -> None:
    shoppers, catalog = stages
    found = known(shoppers, catalog, None, history=[PastEvent("item-0001")], seed_items=["item-0009", "gone"])
    assert shown(found) == [9, 1]
    assert found.seen.tolist() == [9]
    assert found.seeds == frozenset({9})
