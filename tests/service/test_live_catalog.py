"""What the shop says of its items while the service runs, with a real store, real encoders and the real hot path."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from service.bundle.store import active_version
from service.cache import AnswerCache, MemoryCache
from service.catalog_store import Bounds
from service.domain import Answer, By, ItemChange, PastEvent, Query
from service.errors import InvalidQueryError, UnavailableError
from service.generation import Generation, open_generation
from service.live_catalog import LiveCatalog
from service.recommend import Recommender, Work
from service.selection import Selections
from service.sqlite_catalog_store import SqliteCatalogStore

NEW = "new/товар"
KIND = 4


def opened(root: Path) -> Generation:
    def cache(_: Generation) -> AnswerCache:
        return AnswerCache(MemoryCache(max_entries=10, ttl_seconds=60), None, lambda tier, result: None)

    return open_generation(root / active_version(root), num_candidates=None, cache=cache)


@pytest.fixture
def generation(exact_bundle_root: Path) -> Generation:
    return opened(exact_bundle_root)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteCatalogStore]:
    opened_store = await SqliteCatalogStore.open(tmp_path / "catalog.sqlite", BOUNDS)
    yield opened_store
    await opened_store.close()


BOUNDS = Bounds(max_items=1_000, max_image_bytes=2**24)


@pytest.fixture
async def live(store: SqliteCatalogStore, generation: Generation) -> LiveCatalog:
    catalog = LiveCatalog(store, lambda: [generation])
    await catalog.prepare(generation)
    return catalog


def thing(planted: ModuleType, **said: Any) -> ItemChange:
    """A new item of the kind KIND, as its title says."""
    return replace(ItemChange(NEW, title=f"{planted.WORDS[KIND]} thing", category=f"kind {KIND}"), **said)


def ask(generation: Generation, world: Any, **asked: Any) -> Answer:
    """What a session among items of the kind gets."""
    rows = np.flatnonzero(world.cluster == KIND)[:5]
    history = tuple(PastEvent(world.item_ids[row]) for row in rows)
    query = Query("", 50, "r", **{"history": history, **asked})
    recommender = Recommender(Selections(), rerank_budget_s=None, observe_stage=lambda stage, seconds: None)
    return recommender.answers(generation, [Work(query, generation.catalog, None)])[0]


def shown(generation: Generation, world: Any, **asked: Any) -> list[str]:
    return [generation.catalog.item_id(row) for row in ask(generation, world, **asked).rows]


async def test_a_new_item_is_recommended_at_once_with_its_reason(
    live: LiveCatalog, generation: Generation, world: Any, planted: ModuleType
) -> None:
    assert NEW not in shown(generation, world)
    begun = time.monotonic()
    receipt = await live.upsert([thing(planted, price=5.0)])
    got = ask(generation, world, explain=True)
    assert time.monotonic() - begun < 1
    assert (receipt.accepted, receipt.not_embedded) == (1, ())
    ids = [generation.catalog.item_id(row) for row in got.rows]
    assert NEW in ids
    reasons = got.reasons[ids.index(NEW)]
    assert {reason.item_id for reason in reasons if reason.kind == "history"} <= set(world.item_ids)
    (item,) = generation.catalog.items((600,), (1.0,), with_metadata=True)
    assert item.metadata is not None
    assert (item.item_id, item.title, item.metadata.price) == (NEW, f"{planted.WORDS[KIND]} thing", 5.0)


async def test_a_new_item_is_part_of_histories_filters_and_likeness(
    live: LiveCatalog, generation: Generation, world: Any, planted: ModuleType
) -> None:
    await live.upsert([thing(planted, price=5.0, attributes={"colour": "teal"})])
    by_it = ask(generation, world, history=(PastEvent(NEW),))
    assert {world.cluster[row] for row in by_it.rows[:20]} == {KIND}
    assert shown(generation, world, filter='colour: ANY("teal")', seed_items=()) == [NEW]
    assert shown(generation, world, filter="price <= 5") == [NEW]
    likeness = generation.similar.to_item(600, By.MEANING, None, generation.catalog)
    assert {world.cluster[row] for row in np.argsort(-likeness)[1:20]} == {KIND}


async def test_an_item_that_says_nothing_is_kept_and_cannot_be_searched_for(
    live: LiveCatalog, generation: Generation, world: Any, planted: ModuleType
) -> None:
    receipt = await live.upsert([ItemChange(NEW, price=3.0)])
    assert receipt.not_embedded == (NEW,)
    assert NEW not in shown(generation, world, filter="price <= 5", strict_filtering=False)
    receipt = await live.upsert([thing(planted)])
    assert receipt.not_embedded == ()
    assert shown(generation, world, filter="price <= 5") == [NEW]


async def test_price_stock_sight_and_deletion_count_at_once(
    live: LiveCatalog, generation: Generation, world: Any
) -> None:
    first, second, third, *_ = shown(generation, world)
    answer = ask(generation, world)
    assert generation.catalog.shows(answer)
    before = generation.catalog.content_sequence
    await live.patch([ItemChange(first, price=1.0)])
    assert generation.catalog.content_sequence >= before
    assert shown(generation, world, filter="price <= 1") == [first]
    await live.patch([ItemChange(first, in_stock=False), ItemChange(second, hidden=True)])
    await live.delete([third])
    assert not generation.catalog.shows(answer)
    assert {first, second, third}.isdisjoint(shown(generation, world))
    assert live.is_deleted(third)
    middle = generation.catalog.content_sequence
    await live.patch([ItemChange(first, in_stock=True), ItemChange(second, hidden=False)])
    assert generation.catalog.content_sequence > middle  # answers without them are wrong now
    assert {first, second} <= set(shown(generation, world))
    assert third not in shown(generation, world)


async def test_changes_survive_a_restart_and_reach_other_processes(
    live: LiveCatalog, tmp_path: Path, exact_bundle_root: Path, world: Any, planted: ModuleType
) -> None:
    other_generation = opened(exact_bundle_root)
    other_store = await SqliteCatalogStore.open(tmp_path / "catalog.sqlite", BOUNDS)
    other = LiveCatalog(other_store, lambda: [other_generation])
    await other.prepare(other_generation)
    await live.upsert([thing(planted)])
    assert NEW not in shown(other_generation, world)
    await other.follow()
    assert NEW in shown(other_generation, world)
    await other_store.close()
    again_generation, again_store = (
        opened(exact_bundle_root),
        await SqliteCatalogStore.open(tmp_path / "catalog.sqlite", BOUNDS),
    )
    again = LiveCatalog(again_store, lambda: [again_generation])
    await again.prepare(again_generation)
    assert NEW in shown(again_generation, world)
    await again_store.close()


async def test_a_bundle_that_takes_over_has_them_and_follows_while_it_is_being_prepared(
    live: LiveCatalog, exact_bundle_root: Path, world: Any, planted: ModuleType
) -> None:
    await live.upsert([thing(planted)])
    taking_over = opened(exact_bundle_root)
    await live.prepare(taking_over)
    assert NEW in shown(taking_over, world)
    await live.delete([NEW])  # it does not serve yet
    assert NEW not in shown(taking_over, world)


async def test_a_picture_alone_is_enough_and_a_broken_one_is_refused_before_anything_is_kept(
    live: LiveCatalog, generation: Generation, world: Any, planted: ModuleType
) -> None:
    picture = _picture(planted.rgb_of(KIND))
    receipt = await live.upsert([ItemChange(NEW, image=picture)])
    assert receipt.not_embedded == ()
    likeness = generation.similar.to_item(600, By.LOOK, None, generation.catalog)
    assert {world.cluster[row] for row in np.argsort(-likeness)[1:10]} == {KIND}
    with pytest.raises(InvalidQueryError) as caught:
        await live.upsert([thing(planted), replace(thing(planted), item_id="b", image=picture[:40])])
    assert caught.value.where == "items[1].image"
    assert generation.catalog.row("b") is None


async def test_a_store_that_does_not_answer_keeps_no_bundle_from_serving(
    generation: Generation, caplog: pytest.LogCaptureFixture
) -> None:
    class Away:
        async def since(self, sequence: int) -> Any:
            raise UnavailableError("away for the test")

    live = LiveCatalog(Away(), lambda: [generation])  # type: ignore[arg-type]
    await live.prepare(generation)
    assert "without the newest words" in caplog.text


async def test_what_failed_on_the_way_is_done_again(
    live: LiveCatalog,
    store: SqliteCatalogStore,
    generation: Generation,
    planted: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(record: Any) -> Any:
        raise UnavailableError("away for the test")

    await store.upsert([ItemChange(NEW, image=_picture(planted.rgb_of(KIND)))])
    with monkeypatch.context() as patched:
        patched.setattr(store, "image", away)
        with pytest.raises(UnavailableError):
            await live.follow()
        assert generation.catalog.row(NEW) is None
    await live.follow()
    assert generation.catalog.row(NEW) == 600


async def test_many_at_once_do_not_hold_up_the_event_loop(
    live: LiveCatalog, planted: ModuleType, generation: Generation
) -> None:
    late = 0.0

    async def tick() -> None:
        nonlocal late
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.001)
            late = max(late, time.monotonic() - begun)

    ticking = asyncio.create_task(tick())
    word = planted.WORDS[KIND]
    await live.upsert([ItemChange(f"new-{n}", title=f"{word} {n}") for n in range(300)])
    ticking.cancel()
    assert len(generation.catalog) == 900
    assert late < 0.5


def _picture(rgb: tuple[int, int, int]) -> bytes:
    import io

    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (32, 32), rgb).save(data, "PNG")
    return data.getvalue()
