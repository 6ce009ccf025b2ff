"""The whole path in one process, against the planted shop and its NumPy reference."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from service.domain import Degradation, Query, Recommendation, Strategy
from service.errors import BundleForeignError
from service.settings import Settings
from service.wiring import Service, open_service


@pytest.fixture
async def service(exact_bundle_root: Path, tmp_path: Path) -> AsyncIterator[Service]:
    async with open_service(Settings(bundles=exact_bundle_root, events_dir=tmp_path / "events")) as opened:
        yield opened


async def ask(service: Service, user_id: str, k: int = 10) -> Recommendation:
    query = Query(user_id=user_id, k=k, request_id="request-1")
    return await service.recommender.recommend(query, transport="rest")


def sample(service: Service, name: str, **labels: str) -> float:
    return service.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize("k", [1, 10, 200])
async def test_with_an_exact_index_every_answer_is_that_of_the_reference(service: Service, world: Any, k: int) -> None:
    for user_id in world.taste:
        got = await ask(service, user_id, k)
        item_ids, scores = world.recommend(user_id, k)
        assert [item.item_id for item in got.items] == item_ids
        np.testing.assert_allclose([item.score for item in got.items], scores, rtol=1e-5, atol=1e-5)
        assert [item.rank for item in got.items] == list(range(1, k + 1))


async def test_the_planted_taste_is_found_with_an_approximate_index(
    bundle_root: Path, tmp_path: Path, world: Any
) -> None:
    async with open_service(Settings(bundles=bundle_root, events_dir=tmp_path)) as service:
        for user_id, taste in world.taste.items():
            unseen = int((world.cluster == taste).sum()) - len(world.past[user_id][0])
            got = await ask(service, user_id, min(10, unseen))
            assert {world.cluster[world.item_ids.index(item.item_id)] for item in got.items} == {taste}


async def test_nothing_already_bought_is_shown(service: Service, world: Any) -> None:
    for user_id in world.taste:
        got = await ask(service, user_id, 200)
        shown = {world.item_ids.index(item.item_id) for item in got.items}
        assert len(shown) == 200
        assert shown.isdisjoint(world.past[user_id][0].tolist())


async def test_an_answer_says_everything_about_itself(service: Service, world: Any) -> None:
    got = await ask(service, "shopper-003")
    assert got.user_id == "shopper-003"
    assert got.strategy is Strategy.PERSONAL
    assert got.bundle_version == service.manifest.version
    assert got.degraded == ()
    assert not got.cached
    assert got.timing_ms.keys() == {
        "history", "user_vector", "retrieve", "rerank", "top_k", "cache", "items", "event_log",
    }  # fmt: skip
    assert all(milliseconds >= 0 for milliseconds in got.timing_ms.values())
    assert got.items[0].title == world.titles[world.item_ids.index(got.items[0].item_id)]


@pytest.mark.parametrize("user_id", ["nobody", "", "\ud800"])
async def test_an_unknown_shopper_gets_what_is_popular_and_is_told(service: Service, world: Any, user_id: str) -> None:
    got = await ask(service, user_id)
    assert got.strategy is Strategy.POPULAR
    assert [item.item_id for item in got.items] == world.popular(10)
    assert got.degraded == ()


async def test_a_shopper_without_a_past_gets_what_is_popular(service: Service, world: Any, planted: ModuleType) -> None:
    got = await ask(service, planted.WITHOUT_PAST)
    assert got.strategy is Strategy.POPULAR
    assert [item.item_id for item in got.items] == world.popular(10)


async def test_who_saw_everything_gets_nothing_and_is_told(service: Service, planted: ModuleType) -> None:
    got = await ask(service, planted.SEEN_ALL)
    assert got.items == ()
    assert got.degraded == (Degradation.TOO_FEW_ITEMS,)
    assert sample(service, "plotpointe_degraded_total", reason="too_few_items") == 1


async def test_a_repeated_query_is_answered_from_the_cache_as_an_answer_of_its_own(service: Service) -> None:
    first = await ask(service, "shopper-001")
    second = await ask(service, "shopper-001")
    assert (first.cached, second.cached) == (False, True)
    assert second.items == first.items
    assert second.recommendation_id != first.recommendation_id
    assert "rerank" not in second.timing_ms
    other_k = await ask(service, "shopper-001", 5)
    assert not other_k.cached
    assert other_k.items == first.items[:5]


async def test_all_unknown_shoppers_share_one_cached_answer(service: Service) -> None:
    assert not (await ask(service, "nobody")).cached
    somebody_else = await ask(service, "somebody else")
    assert somebody_else.cached
    assert somebody_else.user_id == "somebody else"


async def test_simultaneous_queries_are_computed_once(service: Service) -> None:
    answers = await asyncio.gather(*(ask(service, "shopper-002") for _ in range(20)))
    assert sorted(answer.cached for answer in answers) == [False] + [True] * 19
    assert len({answer.items for answer in answers}) == 1
    assert len({answer.recommendation_id for answer in answers}) == 20
    assert sample(service, "plotpointe_stage_duration_seconds_count", stage="rerank") == 1


async def test_every_answer_is_one_line_of_the_event_log(service: Service) -> None:
    answers = [await ask(service, user_id) for user_id in ("shopper-001", "shopper-001", "nobody")]
    (path,) = service.settings.events_dir.iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["recommendation_id"] for line in lines] == [answer.recommendation_id for answer in answers]
    assert [line["cached"] for line in lines] == [False, True, False]
    for line, answer in zip(lines, answers, strict=True):
        assert line["item_ids"] == [item.item_id for item in answer.items]
        assert line["scores"] == [item.score for item in answer.items]
        assert (line["user_id"], line["strategy"], line["transport"]) == (answer.user_id, answer.strategy, "rest")
    assert sample(service, "plotpointe_impressions_total", result="written") == 3


def _break(model: onnx.ModelProto, output: str, *, most_events: float) -> onnx.ModelProto:
    """Add to an output the square root of `most_events` less the events given: no number for a longer history."""
    for node in model.graph.node:
        for i, name in enumerate(node.output):
            if name == output:
                node.output[i] = "before"
    most = numpy_helper.from_array(np.array([most_events], np.float32), "most_events")
    axis = numpy_helper.from_array(np.array([1], np.int64), "events_axis")
    model.graph.initializer.extend([most, axis])
    model.graph.node.extend(
        [
            helper.make_node("ReduceSum", ["history_mask", "events_axis"], ["events"], keepdims=1),
            helper.make_node("Sub", ["most_events", "events"], ["room"]),
            helper.make_node("Sqrt", ["room"], ["root"]),
            helper.make_node("Add", ["before", "root"], [output]),
        ]
    )
    onnx.checker.check_model(model)
    return model


@pytest.mark.parametrize(("model", "output"), [("reranker", "scores"), ("user_tower", "user_vector")])
async def test_a_model_that_never_works_is_refused_at_the_start(
    planted: ModuleType, world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, output: str
) -> None:
    models = planted.models()
    _break(models[model], output, most_events=0)
    monkeypatch.setattr(planted, "models", lambda: models)
    planted.publish(world, tmp_path / "bundles", factory="Flat")
    with pytest.raises(BundleForeignError, match=rf"{model}.onnx: output '{output}' is not finite"):
        async with open_service(Settings(bundles=tmp_path / "bundles", events_dir=tmp_path / "events")):
            pass


async def _ask_twice_with_broken(
    planted: ModuleType, world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, output: str
) -> list[Recommendation]:
    models = planted.models()
    _break(models[model], output, most_events=1)
    monkeypatch.setattr(planted, "models", lambda: models)
    planted.publish(world, tmp_path / "bundles", factory="Flat")
    async with open_service(Settings(bundles=tmp_path / "bundles", events_dir=tmp_path / "events")) as service:
        return [await ask(service, "shopper-003") for _ in range(2)]


async def test_without_the_re_ranker_items_come_in_retrieval_order(
    planted: ModuleType, world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = await _ask_twice_with_broken(planted, world, tmp_path, monkeypatch, "reranker", "scores")
    similarity = world.vectors @ world.user_vector("shopper-003")
    similarity[world.past["shopper-003"][0]] = -np.inf
    nearest = [world.item_ids[row] for row in np.argsort(-similarity)[:10]]
    for answer in answers:
        assert [item.item_id for item in answer.items] == nearest
        assert answer.degraded == (Degradation.RERANK_FAILED,)
        assert answer.strategy is Strategy.PERSONAL
        assert not answer.cached


async def test_without_the_user_tower_a_known_shopper_gets_popular_items_not_yet_bought(
    planted: ModuleType, world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = await _ask_twice_with_broken(planted, world, tmp_path, monkeypatch, "user_tower", "user_vector")
    for answer in answers:
        assert [item.item_id for item in answer.items] == world.popular(10, world.past["shopper-003"][0])
        assert answer.degraded == (Degradation.RETRIEVAL_FAILED,)
        assert answer.strategy is Strategy.POPULAR
        assert not answer.cached
