"""The stages in one process, against the planted shop and its NumPy reference."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from service.bundle.store import active_version
from service.cache import AnswerCache, MemoryCache
from service.domain import Answer, Degradation, ModalityWeights, PastEvent, Promotion, Query, Rules, Strategy
from service.errors import ModelError
from service.filter_grammar import InvalidFilterError
from service.generation import Generation, open_generation
from service.recommend import Recommender, Work
from service.selection import Selections
from service.shoppers import Shoppers

Ask = Callable[..., Answer]


def opened(root: Path) -> Generation:
    def cache(_: Generation) -> AnswerCache:
        return AnswerCache(MemoryCache(max_entries=10, ttl_seconds=60), None, lambda tier, result: None)

    return open_generation(root / active_version(root), num_candidates=None, cache=cache)


@pytest.fixture(scope="module")
def generation(exact_bundle_root: Path) -> Generation:
    return opened(exact_bundle_root)


@pytest.fixture
def recommender() -> Recommender:
    return Recommender(Selections(), rerank_budget_s=None, observe_stage=lambda stage, seconds: None)


@pytest.fixture
def ask(generation: Generation, recommender: Recommender) -> Ask:
    def answer(user_id: str = "", k: int = 10, **asked: Any) -> Answer:
        return recommender.answers(generation, [work(generation, user_id, k, **asked)])[0]

    return answer


def work(generation: Generation, user_id: str, k: int = 10, **asked: Any) -> Work:
    query = Query(user_id, k, "request-1", **asked)
    return Work(query, generation.catalog, generation.shoppers.row(user_id) if user_id else None)


def ids(world: Any, answer: Answer) -> list[str]:
    return [world.item_ids[row] for row in answer.rows]


@pytest.mark.parametrize("k", [1, 10, 200])
def test_with_an_exact_index_every_answer_is_that_of_the_reference(ask: Ask, world: Any, k: int) -> None:
    for user_id in world.taste:
        got = ask(user_id, k)
        item_ids, scores = world.recommend(user_id, k)
        assert ids(world, got) == item_ids
        np.testing.assert_allclose(got.scores, scores, rtol=1e-5, atol=1e-5)


def test_the_planted_taste_is_found_with_an_approximate_index(
    bundle_root: Path, recommender: Recommender, world: Any
) -> None:
    generation = opened(bundle_root)
    for user_id, taste in world.taste.items():
        unseen = int((world.cluster == taste).sum()) - len(world.past[user_id][0])
        (got,) = recommender.answers(generation, [work(generation, user_id, min(10, unseen))])
        assert {world.cluster[row] for row in got.rows} == {taste}


def test_several_requests_together_get_what_each_gets_alone(
    generation: Generation, recommender: Recommender, ask: Ask, world: Any, planted: ModuleType
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = [(user_id, {}) for user_id in list(world.taste)[:9]]
    asked += [("nobody", {}), (planted.WITHOUT_PAST, {}), ("nobody", {"history": (PastEvent("item-0003"),)})]
    together = recommender.answers(generation, [work(generation, user, **more) for user, more in asked])
    for (user, more), got in zip(asked, together, strict=True):
        alone = ask(user, **more)
        assert (got.rows, got.strategy) == (alone.rows, alone.strategy)
        np.testing.assert_allclose(got.scores, alone.scores, rtol=1e-5, atol=1e-5)


def test_pages_continue_one_another(ask: Ask) -> None:
    whole = ask("shopper-003", 30)
    pages = [ask("shopper-003", 10, offset=offset) for offset in (0, 10, 20)]
    assert sum((page.rows for page in pages), ()) == whole.rows
    assert len(ask("shopper-003", 10, offset=950).rows) == 0
    assert ask("shopper-003", 10, offset=950).degraded == (Degradation.TOO_FEW_ITEMS,)


def test_nothing_already_bought_is_shown_unless_asked_for(ask: Ask, world: Any) -> None:
    for user_id in list(world.taste)[:20]:
        past = set(world.past[user_id][0].tolist())
        assert past.isdisjoint(ask(user_id, 200).rows)
        assert not past.isdisjoint(ask(user_id, 200, exclude_seen=False).rows)


def test_a_session_is_answered_by_its_taste(ask: Ask, world: Any) -> None:
    for kind in range(3):
        rows = np.flatnonzero(world.cluster == kind)[:4]
        history = tuple(PastEvent(world.item_ids[row]) for row in rows)
        got = ask("", 10, history=history)
        assert got.strategy is Strategy.SESSION
        assert {world.cluster[row] for row in got.rows} == {kind}
        seeds = ask("", 10, seed_items=tuple(world.item_ids[row] for row in rows))
        assert seeds.strategy is Strategy.SEED
        assert set(rows.tolist()).isdisjoint(seeds.rows)


def test_of_whom_nothing_is_known_gets_the_category_s_popular_items_then_those_of_the_shop(
    ask: Ask, world: Any
) -> None:
    assert ids(world, ask("nobody")) == world.popular(10)
    got = ask("nobody", 60, category="kind 4")
    own = [world.item_ids[row] for row in np.flatnonzero(world.cluster == 4)]
    assert got.strategy is Strategy.CATEGORY_POPULAR
    assert set(ids(world, got)[:50]) == set(own)
    assert ids(world, got)[50:] == [item for item in world.popular(600) if item not in own][:10]
    assert list(got.scores) == sorted(got.scores, reverse=True)
    assert ask("nobody", category="no such kind").strategy is Strategy.POPULAR


def test_a_filter_holds_on_every_rung(ask: Ask, world: Any) -> None:
    text = 'category: ANY("kind 2", "kind 7")'
    for asked in ({"user_id": "shopper-003"}, {"user_id": "nobody"}, {"seed_items": ("item-0001",)}):
        got = ask(**{"k": 40, "filter": text, **asked})
        assert {world.cluster[row] for row in got.rows} <= {2, 7}
        assert len(got.rows) == 40
    with pytest.raises(InvalidFilterError, match="column"):
        ask("shopper-003", filter="price <")


def test_a_filter_that_leaves_too_few_is_named_or_relaxed(ask: Ask, world: Any) -> None:
    text = 'item_id: ANY("item-0001", "item-0002")'
    strict = ask("nobody", 5, filter=text)
    assert set(ids(world, strict)) == {"item-0001", "item-0002"}
    assert strict.degraded == (Degradation.TOO_FEW_ITEMS,)
    relaxed = ask("nobody", 5, filter=text, strict_filtering=False)
    assert set(ids(world, relaxed)[:2]) == {"item-0001", "item-0002"}
    assert len(set(relaxed.rows)) == 5
    assert relaxed.degraded == (Degradation.FILTER_RELAXED,)
    assert list(relaxed.scores) == sorted(relaxed.scores, reverse=True)


def test_rules_on_every_rung(ask: Ask, world: Any) -> None:
    for user_id in ("shopper-003", "nobody"):
        plain = ask(user_id, 10)
        far = next(row for row in range(600) if row not in ask(user_id, 200).rows)
        rules = Rules(pin=(world.item_ids[far], "unheard-of"), hide=(world.item_ids[plain.rows[0]],))
        got = ask(user_id, 10, rules=rules)
        assert got.rows[0] == far
        assert plain.rows[0] not in got.rows
        first = world.item_ids[plain.rows[0]]
        buried = ask(user_id, 10, rules=Rules(bury=(Promotion(1.0, (first,)),)))
        assert plain.rows[0] not in buried.rows
        last = world.item_ids[plain.rows[9]]
        assert ids(world, ask(user_id, 10, rules=Rules(boost=(Promotion(1.0, (last,)),))))[0] == last
    category = Rules(boost=(Promotion(1.0, filter='category: ANY("kind 3")'),))
    got = ask("shopper-003", 200, rules=category)
    kinds = [world.cluster[row] == 3 for row in got.rows]
    assert kinds == sorted(kinds, reverse=True)
    with pytest.raises(InvalidFilterError) as caught:
        ask("nobody", rules=Rules(boost=(Promotion(1.0, filter="price <"),)))
    assert caught.value.where == "rules.boost[0].filter"


def test_a_hidden_item_is_not_pinned_and_a_pin_passes_the_filter(ask: Ask, world: Any) -> None:
    rules = Rules(pin=("item-0001",), hide=("item-0001",))
    assert "item-0001" not in ids(world, ask("shopper-003", 10, rules=rules))
    rules = Rules(pin=("item-0001", "item-0002"))
    got = ask("nobody", 3, rules=rules, filter='NOT item_id: ANY("item-0002")')
    assert ids(world, got)[0] == "item-0001"
    assert "item-0002" not in ids(world, got)


def test_diversity_mixes_clusters(ask: Ask, world: Any) -> None:
    plain = {world.cluster[row] for row in ask("shopper-003", 10).rows}
    mixed = {world.cluster[row] for row in ask("shopper-003", 10, diversity=0.95).rows}
    assert len(mixed) > len(plain)


def test_behaviour_alone_is_the_models_own_order(ask: Ask) -> None:
    plain = ask("shopper-003", 10)
    assert ask("shopper-003", 10, weights=ModalityWeights(behaviour=1.0)).rows == plain.rows


def test_a_callers_own_list_is_ordered_as_the_model_has_it(
    generation: Generation, recommender: Recommender, world: Any
) -> None:
    best = ask_rows = np.array([*world.past["shopper-003"][0][:2].tolist(), 5, 17, 90, 300], np.int32)
    given = work(generation, "shopper-003", len(ask_rows))
    given = replace(given, among=best, query=replace(given.query, exclude_seen=False))
    (got,) = recommender.answers(generation, [given])
    expected = world.rerank_scores("shopper-003", best)
    assert list(got.rows) == best[np.argsort(-expected, kind="stable")].tolist()
    np.testing.assert_allclose(got.scores, np.sort(expected)[::-1], rtol=1e-5, atol=1e-5)
    nobody = replace(work(generation, "nobody", len(ask_rows)), among=best)
    (cold,) = recommender.answers(generation, [nobody])
    assert set(cold.rows) == set(best.tolist())
    assert cold.strategy is Strategy.POPULAR


def test_who_saw_everything_gets_nothing_and_is_told(ask: Ask, planted: ModuleType) -> None:
    got = ask(planted.SEEN_ALL, 10)
    assert (got.rows, got.degraded) == ((), (Degradation.TOO_FEW_ITEMS,))


def test_a_failing_model_is_a_named_degradation(
    ask: Ask, generation: Generation, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ModelError("broken for the test")

    past = set(world.past["shopper-003"][0].tolist())
    monkeypatch.setattr(generation.reranker, "scores_many", fail)
    got = ask("shopper-003", 10)
    assert got.degraded == (Degradation.RERANK_FAILED,)
    assert got.strategy is Strategy.PERSONAL
    assert past.isdisjoint(got.rows)
    monkeypatch.setattr(Shoppers, "vectors", fail)
    got = ask("shopper-003", 10)
    assert got.degraded == (Degradation.RETRIEVAL_FAILED,)
    assert got.strategy is Strategy.POPULAR
    assert past.isdisjoint(got.rows)


def test_without_time_stages_are_left_out_by_name(generation: Generation, world: Any) -> None:
    recommender = Recommender(Selections(), rerank_budget_s=1e-9, observe_stage=lambda stage, seconds: None)

    def answer(**asked: Any) -> Answer:
        return recommender.answers(generation, [work(generation, "shopper-003", **asked)])[0]

    assert answer().degraded == ()  # nothing is known yet of how long it takes
    assert answer().degraded == (Degradation.RERANK_SKIPPED,)
    retrieval = Recommender(Selections(), rerank_budget_s=None, observe_stage=lambda stage, seconds: None)
    retrieval.answers(generation, [work(generation, "shopper-003")])
    late = work(generation, "shopper-003", deadline=time.monotonic() - 1)
    assert retrieval.answers(generation, [late])[0].degraded == (Degradation.RETRIEVAL_SKIPPED,)
    assert ids(
        world, retrieval.answers(generation, [work(generation, "shopper-003", deadline=time.monotonic() - 1)])[0]
    )


def test_a_budget_that_is_kept_again_is_noticed(generation: Generation) -> None:
    recommender = Recommender(Selections(), rerank_budget_s=0.05, observe_stage=lambda stage, seconds: None)
    recommender._pace.note("rerank", 0.06)
    asked = [recommender.answers(generation, [work(generation, "shopper-003")])[0].degraded for _ in range(20)]
    assert asked[0] == (Degradation.RERANK_SKIPPED,)
    assert asked[-1] == ()


def test_reasons_are_shares_that_sum_to_one_by_past_item_and_by_modality(ask: Ask, world: Any) -> None:
    got = ask("shopper-003", 10, explain=True)
    assert len(got.reasons) == 10
    for reasons in got.reasons:
        past = [r for r in reasons if r.kind in ("history", "seed", "others")]
        modality = [r for r in reasons if r.kind in ("look", "meaning", "behaviour")]
        assert sum(r.weight for r in past) == pytest.approx(1, abs=1e-6)
        assert sum(r.weight for r in modality) == pytest.approx(1, abs=1e-6)
        own = {world.item_ids[row] for row in world.history("shopper-003")[0]}
        assert {r.item_id for r in past if r.kind == "history"} <= own
    assert ask("nobody", 3, explain=True).reasons[0][0].kind == "popularity"
    assert ask("shopper-003", 3).reasons == ()


def test_dropping_the_past_item_that_is_named_first_changes_the_score_most(
    ask: Ask, generation: Generation, recommender: Recommender, world: Any
) -> None:
    """By the black box: the same list scored again for sessions that lack one past item each."""
    rows = np.flatnonzero(world.cluster == 5)[:3].tolist() + np.flatnonzero(world.cluster == 6)[:2].tolist()
    history = tuple(PastEvent(world.item_ids[row]) for row in rows)
    got = ask("", 5, history=history, explain=True, exclude_seen=False)

    def scores(past: tuple[PastEvent, ...]) -> dict[int, float]:
        listed = replace(work(generation, "", 5, history=past), among=np.array(got.rows, np.int32))
        (answer,) = recommender.answers(generation, [listed])
        return dict(zip(answer.rows, answer.scores, strict=True))

    whole = scores(history)
    for row, reasons in zip(got.rows, got.reasons, strict=True):
        change = {
            past.item_id: whole[row] - scores(tuple(p for p in history if p is not past))[row] for past in history
        }
        named = [reason for reason in reasons if reason.kind == "history"]
        assert named[0].item_id == max(change, key=lambda item: abs(change[item]))
        for reason in named:
            assert reason.effect == pytest.approx(change[reason.item_id], abs=1e-4)
