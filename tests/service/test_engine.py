"""Everything around the hot path: state, cache, deadlines, refusals, the log; with real stores in one process."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from service.domain import (
    By,
    FeedbackEvent,
    FeedbackKind,
    ItemChange,
    PastEvent,
    PopularQuery,
    Query,
    Recommendation,
    RerankQuery,
    Rules,
    SimilarQuery,
    Strategy,
)
from service.engine import Engine
from service.errors import DeadlineError, InvalidQueryError, UnavailableError, UnknownItemError, UnknownTenantError
from service.settings import Settings
from service.wiring import Service, open_service

VIEW, PURCHASE, DISLIKE = FeedbackKind.VIEW, FeedbackKind.PURCHASE, FeedbackKind.DISLIKE


@pytest.fixture
async def service(exact_bundle_root: Path, tmp_path: Path) -> AsyncIterator[Service]:
    settings = Settings(bundles=exact_bundle_root, events_dir=tmp_path / "events", state_dir=tmp_path / "state")
    async with open_service(settings) as opened:
        yield opened


@pytest.fixture
def engine(service: Service) -> Engine:
    return service.engines.get()


async def ask(engine: Engine, user_id: str, k: int = 10, **asked: Any) -> Recommendation:
    return await engine.recommend(Query(user_id, k, "request-1", **asked), transport="rest")


def ids(answer: Any) -> list[str]:
    return [item.item_id for item in answer.items]


def event(user_id: str, item_id: str, kind: FeedbackKind = VIEW, number: int = 0) -> FeedbackEvent:
    return FeedbackEvent(f"e-{user_id}-{item_id}-{kind}-{number}", user_id, item_id, kind, time.time())


def lines(tmp_path: Path, name: str) -> list[dict[str, Any]]:
    return [
        json.loads(line) for path in (tmp_path / "events").glob(f"{name}-*") for line in path.read_text().splitlines()
    ]


async def test_the_next_answer_reflects_an_event_within_50_ms_of_its_acknowledgement(
    engine: Engine, world: Any
) -> None:
    kind = 3
    own = [world.item_ids[row] for row in range(600) if world.cluster[row] == kind]
    assert (await ask(engine, "someone-new")).strategy is Strategy.POPULAR
    receipt = await engine.write_events([event("someone-new", item) for item in own[:3]], request_id="r")
    begun = time.perf_counter()
    got = await ask(engine, "someone-new")
    assert time.perf_counter() - begun < 0.05
    assert (receipt.accepted, receipt.duplicates, receipt.unknown_items) == (3, 0, 0)
    assert got.strategy is Strategy.SESSION
    assert set(ids(got)) <= set(own)
    bought = ids(got)[0]
    await engine.write_events([event("someone-new", bought, PURCHASE)], request_id="r")
    assert bought not in ids(await ask(engine, "someone-new", 50))
    disliked = ids(await ask(engine, "someone-new"))[0]
    await engine.write_events([event("someone-new", disliked, DISLIKE)], request_id="r")
    assert disliked not in ids(await ask(engine, "someone-new", 200, exclude_seen=False))


async def test_an_event_counts_once_and_one_about_an_unknown_item_is_kept(engine: Engine, tmp_path: Path) -> None:
    events = [event("u", "item-0001"), event("u", "item-0001"), event("u", "not-yet-published")]
    receipt = await engine.write_events(events, request_id="r9")
    assert (receipt.accepted, receipt.duplicates, receipt.unknown_items) == (2, 1, 1)
    again = await engine.write_events(events[:1], request_id="r10")
    assert (again.accepted, again.duplicates) == (0, 1)
    written = lines(tmp_path, "feedback")
    assert {line["item_id"] for line in written} == {"item-0001", "not-yet-published"}
    assert written[0]["request_id"] == "r9"
    assert abs(written[0]["received_at"] - time.time()) < 60


async def test_events_that_cannot_be_written_down_are_refused_and_count_for_nothing(
    engine: Engine, tmp_path: Path
) -> None:
    for path in (tmp_path / "events").iterdir():
        path.unlink()
    (tmp_path / "events").rmdir()
    (tmp_path / "events").write_text("a file in the way")
    with pytest.raises(UnavailableError, match="none of them counts"):
        await engine.write_events([event("u", "item-0001")], request_id="r")
    assert (await ask(engine, "u")).strategy is Strategy.POPULAR


async def test_a_cached_answer_has_an_id_and_an_impression_of_its_own(engine: Engine, tmp_path: Path) -> None:
    first, second = await ask(engine, "shopper-003"), await ask(engine, "shopper-003")
    assert (first.cached, second.cached) == (False, True)
    assert ids(first) == ids(second)
    assert first.recommendation_id != second.recommendation_id
    written = {line["recommendation_id"]: line for line in lines(tmp_path, "impressions")}
    assert [written[a.recommendation_id]["cached"] for a in (first, second)] == [False, True]
    assert written[second.recommendation_id]["item_ids"] == ids(second)


async def test_timing_adds_up_to_what_the_caller_waited(engine: Engine) -> None:
    begun = time.perf_counter()
    got = await ask(engine, "shopper-005")
    waited_ms = (time.perf_counter() - begun) * 1000
    assert {"state", "cache", "history", "user_vector", "retrieve", "rerank", "top_k", "items"} <= got.timing_ms.keys()
    assert sum(got.timing_ms.values()) <= waited_ms
    assert sum(got.timing_ms.values()) >= waited_ms / 2


async def test_two_shoppers_never_share_an_answer_and_the_unknown_do(engine: Engine) -> None:
    assert not (await ask(engine, "shopper-003")).cached
    assert not (await ask(engine, "shopper-004")).cached
    assert not (await ask(engine, "stranger-1")).cached
    assert (await ask(engine, "stranger-2")).cached
    assert not (await ask(engine, "stranger-2", category="kind 3")).cached


async def test_a_hidden_item_is_gone_from_cached_answers_too(engine: Engine) -> None:
    before = await ask(engine, "shopper-003")
    await engine.patch_items([ItemChange(ids(before)[0], hidden=True)], request_id="r")
    after = await ask(engine, "shopper-003")
    assert not after.cached
    assert ids(after)[:9] == ids(before)[1:]


async def test_only_items_that_are_known_are_patched(engine: Engine) -> None:
    changes = [ItemChange("item-0001", price=1.0), ItemChange("unheard-of", price=1.0)]
    with pytest.raises(UnknownItemError) as caught:
        await engine.patch_items(changes, request_id="r")
    assert caught.value.where == "items[1].item_id"
    await engine.delete_items(["item-0002"], request_id="r")
    with pytest.raises(UnknownItemError):
        await engine.patch_items([ItemChange("item-0002", hidden=False)], request_id="r")
    await engine.upsert_items([ItemChange("item-0002", title="Back again")], request_id="r")
    assert (await engine.patch_items([ItemChange("item-0002", price=2.0)], request_id="r")).accepted == 1


async def test_a_batch_is_what_each_asks_alone_and_one_fault_is_one_answer(
    engine: Engine, world: Any, planted: ModuleType
) -> None:
    queries = [Query(user_id, 10, "r") for user_id in [*list(world.taste)[:20], planted.WITHOUT_PAST, "nobody"]]
    queries.insert(3, Query("shopper-003", 10, "r", filter='nothing: ANY("x")'))
    queries.insert(5, Query("shopper-003", 10, "r", filter="price <"))
    queries.append(Query("shopper-001", 10, "r", bundle_version="no-such"))
    got = await engine.recommend_batch(queries, transport="rest")
    assert isinstance(got[3], InvalidQueryError)
    assert isinstance(got[5], InvalidQueryError)
    assert not isinstance(got[-1], Recommendation)
    for query, answer in zip(queries, got, strict=True):
        if isinstance(answer, Recommendation):
            alone = await ask(engine, query.user_id)
            assert (ids(answer), answer.strategy, answer.user_id) == (ids(alone), alone.strategy, query.user_id)
    names = [answer.recommendation_id for answer in got if isinstance(answer, Recommendation)]
    assert len(set(names)) == len(names) == len(queries) - 3


async def test_a_deadline_that_has_passed_is_an_error_and_a_short_one_spoils_no_one_elses_answer(
    engine: Engine,
) -> None:
    with pytest.raises(DeadlineError):
        await ask(engine, "shopper-003", deadline=time.monotonic() - 0.001)
    await ask(engine, "shopper-009")  # how long it takes is known from here on
    hurried, calm = await asyncio.gather(
        ask(engine, "shopper-003", deadline=time.monotonic() + 0.0005),
        ask(engine, "shopper-003"),
        return_exceptions=True,
    )
    assert isinstance(calm, Recommendation)
    assert calm.degraded == ()
    assert isinstance(hurried, DeadlineError | Recommendation | UnavailableError)


async def test_a_list_of_the_callers_own(engine: Engine, world: Any) -> None:
    listed = ("item-0005", "unheard-of", "item-0300", "item-0017")
    got = await engine.rerank(RerankQuery("shopper-003", listed, "r", explain=True), transport="rest")
    assert set(ids(got)) == set(listed) - {"unheard-of"}
    assert got.strategy is Strategy.PERSONAL
    assert got.degraded == ("too_few_items",)
    assert all(item.reasons for item in got.items)
    nobody = await engine.rerank(RerankQuery("", listed, "r"), transport="rest")
    rows = [world.item_ids.index(item) for item in ids(nobody)]
    assert rows == sorted(rows, key=lambda row: -world.popularity[row])
    seeded = await engine.rerank(RerankQuery("", listed, "r", seed_items=("item-0017",)), transport="rest")
    assert seeded.strategy is Strategy.SEED


async def test_similar_items_in_every_respect(engine: Engine, world: Any, planted: ModuleType, tmp_path: Path) -> None:
    for by in (By.LOOK, By.MEANING, By.BLEND):
        got = await engine.similar(SimilarQuery(10, "r", by, "item-0011"), transport="rest")
        assert "item-0011" not in ids(got)
        assert {world.cluster[world.item_ids.index(item)] for item in ids(got)} == {world.cluster[11]}
    assert len(lines(tmp_path, "impressions")) == 3
    by_text = await engine.similar(SimilarQuery(10, "r", text=f"{planted.WORDS[2]} thing"), transport="rest")
    assert {world.cluster[world.item_ids.index(item)] for item in ids(by_text)} == {2}
    filtered = SimilarQuery(10, "r", By.BLEND, "item-0011", filter='category: ANY("kind 3")')
    got = await engine.similar(filtered, transport="rest")
    assert {world.cluster[world.item_ids.index(item)] for item in ids(got)} == {3}
    with pytest.raises(UnknownItemError):
        await engine.similar(SimilarQuery(10, "r", item_id="unheard-of"), transport="rest")
    await engine.delete_items(["item-0011"], request_id="r")
    with pytest.raises(UnknownItemError):
        await engine.similar(SimilarQuery(10, "r", item_id="item-0011"), transport="rest")


async def test_popular_items_ever_and_lately(engine: Engine, world: Any) -> None:
    ever = await engine.popular(PopularQuery(10, "r"), transport="rest")
    assert ids(ever) == world.popular(10)
    await engine.write_events(
        [event("a", "item-0444"), event("b", "item-0444"), event("c", "item-0333")], request_id="r"
    )
    lately = await engine.popular(PopularQuery(4, "r", window_s=3600), transport="rest")
    assert ids(lately)[:2] == ["item-0444", "item-0333"]
    assert [item.score for item in lately.items] == [2.0, 1.0, 0.0, 0.0]
    own = f"kind {world.cluster[333]}"
    if world.cluster[333] != world.cluster[444]:
        got = await engine.popular(PopularQuery(2, "r", category=own, window_s=3600), transport="rest")
        assert ids(got)[0] == "item-0333"
    await engine.patch_items([ItemChange("item-0444", in_stock=False)], request_id="r")
    assert "item-0444" not in ids(await engine.popular(PopularQuery(4, "r", window_s=3600), transport="rest"))


async def test_history_of_the_request_is_added_to_what_is_known(engine: Engine, world: Any) -> None:
    other = next(row for row in range(600) if world.cluster[row] != world.taste["shopper-003"])
    plain = await ask(engine, "shopper-003")
    with_it = await ask(engine, "shopper-003", history=(PastEvent(world.item_ids[other]),))
    assert with_it.strategy is Strategy.PERSONAL
    assert [i.score for i in plain.items] != [i.score for i in with_it.items]


async def test_metadata_is_of_now_even_in_a_cached_answer(engine: Engine) -> None:
    first = ids(await ask(engine, "shopper-003"))[0]
    await engine.patch_items([ItemChange(first, price=4.5)], request_id="r")
    got = await ask(engine, "shopper-003", with_metadata=True)
    assert got.cached
    assert got.items[0].metadata is not None
    assert got.items[0].metadata.price == 4.5


async def test_rules_pages_and_versions_go_through(engine: Engine) -> None:
    pinned = await ask(engine, "shopper-003", rules=Rules(pin=("item-0001",)))
    assert ids(pinned)[0] == "item-0001"
    page = await ask(engine, "shopper-003", 5, offset=5)
    assert [item.rank for item in page.items] == [6, 7, 8, 9, 10]
    version = engine.model().version
    assert (await ask(engine, "shopper-003", bundle_version=version)).bundle_version == version


async def test_the_only_shop_needs_no_name(service: Service) -> None:
    assert service.engines.get() is service.engines.get("default")
    with pytest.raises(UnknownTenantError):
        service.engines.get("another")


async def test_what_is_unknown_to_this_process_is_asked_of_nobody(engine: Engine) -> None:
    query = Query("", 10, "r", history=(PastEvent("item-0001"),))
    first = await engine.recommend(query, transport="grpc")
    second = await engine.recommend(replace(query, request_id="r2"), transport="grpc")
    assert (first.cached, second.cached) == (False, True)
    assert first.user_id == ""
