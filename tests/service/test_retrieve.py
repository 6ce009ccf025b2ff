from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service import filter_plan
from service.bundle.reader import open_bundle
from service.bundle.store import active_version
from service.errors import BundleForeignError, ModelError
from service.retrieve import Passing, Plan, Retriever

NOTHING = np.empty(0, np.int32)


def opened(root: Path) -> Retriever:
    return Retriever(open_bundle(root / active_version(root)))


@pytest.fixture
def exact(exact_bundle_root: Path) -> Retriever:
    return opened(exact_bundle_root)


@pytest.fixture
def approximate(bundle_root: Path) -> Retriever:
    return opened(bundle_root)


def nearest(world: Any, vector: Any, exclude: Any) -> Any:
    similarity = world.vectors @ vector
    similarity[exclude] = -np.inf
    return np.argsort(-similarity, kind="stable")[: len(similarity) - len(exclude)]


@pytest.mark.parametrize("excluded", [0, 1, 90, 400, 590])
def test_the_nearest_are_found_even_where_all_that_come_first_are_excluded(
    exact: Retriever, world: Any, excluded: int
) -> None:
    for row in range(0, 600, 60):
        vector = world.vectors[row]
        exclude = np.sort(nearest(world, vector, NOTHING)[:excluded]).astype(np.int32)
        found = exact.search(vector, 100, at_least=0, exclude=exclude)
        expected = nearest(world, vector, exclude)[:100]
        assert found.rows.tolist() == expected.tolist()
        np.testing.assert_allclose(found.scores, world.vectors[expected] @ vector, rtol=1e-5)


def test_an_approximate_index_finds_most_of_the_nearest(approximate: Retriever, world: Any) -> None:
    hits = 0
    for vector in world.vectors[::10]:
        found = approximate.search(vector, 20, at_least=0, exclude=NOTHING)
        hits += len(set(found.rows.tolist()) & set(nearest(world, vector, NOTHING)[:20].tolist()))
    assert hits / (60 * 20) > 0.95


@pytest.mark.parametrize("excluded", [0, 100, 500, 590, 600])
def test_an_approximate_index_leaves_nobody_short(approximate: Retriever, world: Any, excluded: int) -> None:
    """The planted clusters lie so far apart that the graph alone does leave some short."""
    for row in range(0, 600, 60):
        vector = world.vectors[row]
        exclude = np.sort(nearest(world, vector, NOTHING)[:excluded]).astype(np.int32)
        found = approximate.search(vector, 50, at_least=50, exclude=exclude)
        assert len(found.rows) == min(50, 600 - excluded)
        assert len(set(found.rows.tolist())) == len(found.rows)
        assert not set(found.rows.tolist()) & set(exclude.tolist())
        assert np.all(np.diff(found.scores) <= 0)


def test_a_search_depth_for_an_index_without_one_is_refused(planted: ModuleType, world: Any, tmp_path: Path) -> None:
    good = planted.publish(world, tmp_path / "good", factory="Flat")
    wrong = good.index.model_copy(update={"ef_search": 64})
    planted.publish(world, tmp_path / "wrong", factory="Flat", index=wrong)
    with pytest.raises(BundleForeignError, match="search depth"):
        opened(tmp_path / "wrong")


def test_a_vector_that_is_not_finite_is_an_error_of_the_model(approximate: Retriever, world: Any) -> None:
    vector = world.vectors[0].copy()
    vector[3] = np.nan
    with pytest.raises(ModelError, match="not finite"):
        approximate.search(vector, 10, at_least=10, exclude=NOTHING)


def reference(
    vectors: Any, vector: Any, count: int, mask: Any = None, exclude: Any = NOTHING
) -> tuple[list[int], list[float]]:
    """One item after the other, in plain Python."""
    scored = [
        (-float(np.float64(row_vector) @ np.float64(vector)), row)
        for row, row_vector in enumerate(vectors)
        if (mask is None or mask[row]) and row not in set(exclude.tolist())
    ]
    best = sorted(scored)[:count]
    return [row for _, row in best], [-score for score, _ in best]


@st.composite
def searches(draw: Any) -> dict[str, Any]:
    """What to ask of the planted shop: a filter, exclusions, and new items, all by chance."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    live = draw(st.integers(0, 8))
    rows = 600 + live
    share = draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.95, 1.0]))
    excluded = draw(st.sampled_from([0, 1, 60, 600, rows]))
    return {
        "vector": random.normal(size=32).astype(np.float32),
        "count": draw(st.integers(1, 250)),
        "passing": draw(st.sampled_from([None, Passing.of(random.random(rows) < share)])),
        "exclude": np.sort(random.choice(rows, excluded, replace=False)).astype(np.int32),
        "live_vectors": random.normal(size=(live, 32)).astype(np.float32) if live else None,
    }


def all_vectors(world: Any, asked: dict[str, Any]) -> Any:
    live = asked["live_vectors"]
    return world.vectors if live is None else np.concatenate([world.vectors, live])


def mask_of(asked: dict[str, Any]) -> Any:
    return None if asked["passing"] is None else asked["passing"].mask


FIXTURES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


@FIXTURES
@given(searches())
def test_an_exact_index_answers_as_one_item_after_the_other(exact: Retriever, world: Any, asked: Any) -> None:
    rows, scores = reference(
        all_vectors(world, asked), asked["vector"], asked["count"], mask_of(asked), asked["exclude"]
    )
    for found in (exact.search(at_least=0, **asked), exact.exact(**asked)):
        assert found.rows.dtype == np.int32
        assert found.scores.dtype == np.float32
        assert found.rows.tolist() == rows
        np.testing.assert_allclose(found.scores, scores, rtol=1e-4, atol=1e-5)


@FIXTURES
@given(searches())
def test_an_approximate_index_returns_what_passes_and_never_too_few(
    approximate: Retriever, world: Any, asked: Any
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filter_plan, "ROW_US", 10.0)  # comparing is dear: the index is asked wherever it can be
        found = approximate.search(at_least=asked["count"], **asked)
    allowed = np.ones(len(all_vectors(world, asked)), np.bool_) if asked["passing"] is None else mask_of(asked).copy()
    allowed[asked["exclude"]] = False
    assert allowed[found.rows].all()
    assert len(set(found.rows.tolist())) == len(found.rows) == min(asked["count"], allowed.sum())
    assert (np.diff(found.scores) <= 0).all()
    np.testing.assert_allclose(
        found.scores, all_vectors(world, asked)[found.rows] @ asked["vector"], rtol=1e-4, atol=1e-5
    )


@FIXTURES
@given(searches(), st.integers(1, 5))
def test_several_at_once_get_what_each_gets_alone(approximate: Retriever, world: Any, asked: Any, several: int) -> None:
    vectors = np.stack([asked.pop("vector"), *world.vectors[: several - 1]])
    excludes = [asked.pop("exclude"), *(np.arange(n, dtype=np.int32) for n in range(several - 1))]
    together = approximate.search_many(vectors, at_least=0, exclude=excludes, **asked)
    for vector, exclude, found in zip(vectors, excludes, together, strict=True):
        if asked["passing"] is not None and asked["passing"].share < 0.9:
            alone = approximate.exact(vector, exclude=exclude, **asked)  # so few items are always compared
        else:
            alone = approximate.search(vector, at_least=0, exclude=exclude, **asked)
        common = set(found.rows.tolist()) & set(alone.rows.tolist())
        assert len(common) >= 0.9 * len(alone.rows)
        assert not set(found.rows.tolist()) & set(exclude.tolist())


def test_nobody_and_nothing(approximate: Retriever, world: Any) -> None:
    empty = np.empty((0, 32), np.float32)
    assert approximate.search_many(empty, 10, at_least=10, exclude=[]) == []
    none = Passing.of(np.zeros(600, np.bool_))
    assert len(approximate.search(world.vectors[0], 10, at_least=10, exclude=NOTHING, passing=none).rows) == 0
    found = approximate.search(world.vectors[0], 10, at_least=10, exclude=NOTHING, live_vectors=empty)
    assert len(found.rows) == 10


def test_a_search_takes_one_thread_wherever_it_runs(approximate: Retriever, world: Any) -> None:
    def threads() -> int:
        faiss.omp_set_num_threads(2)
        approximate.search(world.vectors[0], 10, at_least=10, exclude=NOTHING)
        return int(faiss.omp_get_max_threads())

    with ThreadPoolExecutor(max_workers=1) as pool:
        assert pool.submit(threads).result() == 1


def test_equals_are_in_order_of_rows(exact: Retriever, world: Any) -> None:
    same = np.tile(world.vectors[7] * 2, (5, 1))
    found = exact.search(world.vectors[7], 4, at_least=4, exclude=np.array([601], np.int32), live_vectors=same)
    assert found.rows.tolist() == [600, 602, 603, 604]


def test_a_mask_of_another_moment_is_refused(approximate: Retriever, world: Any) -> None:
    with pytest.raises(AssertionError, match="different moments"):
        approximate.search(world.vectors[0], 5, at_least=5, exclude=NOTHING, passing=Passing.of(np.ones(601, np.bool_)))


LARGE, GROUPS, COUNT = 20_000, 200, 100


@pytest.fixture(scope="module")
def shop(planted: ModuleType, bundle_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """20,000 items in clusters of very different sizes, and a graph index: (retriever, vectors, cluster of each)."""
    random = np.random.default_rng(3)
    share = 1 / np.arange(1, GROUPS + 1)
    cluster = random.choice(GROUPS, LARGE, p=share / share.sum())
    vectors = random.normal(size=(GROUPS, 32))[cluster] + random.normal(size=(LARGE, 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    path = tmp_path_factory.mktemp("large")
    planted.write_index(path / "index.faiss", vectors, "HNSW32,Flat")
    bundle = open_bundle(bundle_root / active_version(bundle_root))
    index = bundle.manifest.index.model_copy(update={"ef_search": 150, "ntotal": LARGE})
    manifest = bundle.manifest.model_copy(update={"num_items": LARGE, "index": index})
    return Retriever(replace(bundle, path=path, manifest=manifest, item_vectors=vectors)), vectors, cluster


def masks(shop: Any, kind: str, share: float) -> Any:
    random = np.random.default_rng(4)
    if kind == "by chance":
        return random.random(LARGE) < share
    order = random.permutation(GROUPS)
    sizes = np.bincount(shop[2], minlength=GROUPS)[order]
    return np.isin(shop[2], order[: 1 + int(np.argmax(np.cumsum(sizes) >= share * LARGE))])


def recall(shop: Any, passing: Passing, **changed: Any) -> float:
    retriever, vectors, _ = shop
    hits = []
    for row in range(0, LARGE, 800):
        exclude = np.arange(row, row + 20, dtype=np.int32)
        asked = {"exclude": exclude, "passing": passing, **changed}
        expected = retriever.exact(vectors[row], COUNT, **asked).rows
        found = retriever.search(vectors[row], COUNT, at_least=20, **asked).rows
        assert len(found) == len(expected) == min(COUNT, passing.mask.sum() - passing.mask[exclude].sum())
        hits.append(len(set(found.tolist()) & set(expected.tolist())) / max(len(expected), 1))
    return float(np.mean(hits))


@pytest.mark.parametrize("kind", ["by chance", "by cluster"])
@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001])
def test_answers_equal_the_exact_reference(shop: Any, kind: str, share: float) -> None:
    passing = Passing.of(masks(shop, kind, share))
    assert shop[0].plan(passing) is Plan.EXACT
    assert recall(shop, passing) == 1.0


@pytest.mark.parametrize("kind", ["by chance", "by cluster"])
@pytest.mark.parametrize("share", [0.85, 0.5, 0.1, 0.01])
def test_answers_of_the_index_equal_it_nearly(
    shop: Any, kind: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a shop many times as large, where comparing takes longer than asking the index."""
    monkeypatch.setattr(filter_plan, "ROW_US", 1000.0)
    passing = Passing.of(masks(shop, kind, share))
    assert shop[0].plan(passing) is Plan.POST_FILTER
    assert recall(shop, passing) >= 0.98


def test_new_items_are_found_among_those_of_the_index(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_plan, "ROW_US", 1000.0)
    retriever, vectors, _ = shop
    new = vectors[::1000] * 2  # twice as near as the item that each is like
    mask = np.concatenate([masks(shop, "by chance", 0.5), np.arange(len(new)) % 2 == 0])
    for passing in (None, Passing.of(mask)):
        for i in range(0, len(new), 2):
            found = retriever.search(
                vectors[i * 1000], 10, at_least=10, exclude=NOTHING, passing=passing, live_vectors=new
            )
            assert found.rows[0] == LARGE + i
            gone = retriever.search(
                vectors[i * 1000],
                10,
                at_least=10,
                exclude=found.rows[:1],
                passing=passing,
                live_vectors=new,
            )
            assert LARGE + i not in gone.rows
            assert passing is None or mask[gone.rows].all()


def test_the_plan_follows_the_share(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_plan, "ROW_US", 2.0)  # as if the shop had half a million items
    plans = [shop[0].plan(Passing.of(masks(shop, "by chance", share))) for share in (1.0, 0.5, 0.2, 0.02, 0.001)]
    assert plans == [Plan.POST_FILTER] * 3 + [Plan.EXACT] * 2
    assert shop[0].plan(None) is Plan.INDEX
