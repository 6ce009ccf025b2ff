"""Metrics against a naive definition and against another library, and their edges."""

import importlib
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import StageError
from training import ranking_metrics
from training.ranking_metrics import Ranking, hits, per_user, rank_all, to_find


def naive(scores: np.ndarray, seen: set[int], relevant: set[int], k: int) -> tuple[float, float]:
    order = [i for i in sorted(range(len(scores)), key=lambda i: -scores[i]) if i not in seen][:k]
    gains = [1 / np.log2(place + 2) for place, item in enumerate(order) if item in relevant]
    ideal = sum(1 / np.log2(place + 2) for place in range(min(k, len(relevant))))
    return len(set(order) & relevant) / len(relevant), sum(gains) / ideal


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 12))
def test_equals_the_naive_definition(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    users, items = 5, 9
    scores = rng.permutation(users * items).reshape(users, items).astype(np.float32)  # distinct: no ties
    seen = sp.csr_matrix((rng.random((users, items)) < 0.3).astype(np.float32))
    relevant = (rng.random((users, items)) < 0.4) & (seen.toarray() == 0)
    judged = np.flatnonzero(relevant.any(1))
    relevant_matrix = sp.csr_matrix(relevant.astype(np.float32))
    ranking = rank_all(lambda rows: scores[rows], judged, seen, k=k, seed=seed)
    found = per_user(ranking, relevant_matrix, [k])
    for place, user in enumerate(judged):
        recall, ndcg = naive(
            scores[user], set(np.flatnonzero(seen.toarray()[user])), set(np.flatnonzero(relevant[user])), k
        )
        assert found[f"recall@{k}"][place] == pytest.approx(recall)
        assert found[f"ndcg@{k}"][place] == pytest.approx(ndcg)


def test_seen_items_are_never_ranked_even_when_few_are_left() -> None:
    seen = sp.csr_matrix(np.array([[1, 1, 0, 1]], np.float32))
    ranking = rank_all(lambda rows: np.ones((len(rows), 4), np.float32), np.array([0]), seen, k=3)
    assert ranking.rows.tolist() == [[2, -1, -1]]


def test_a_constant_score_gains_nothing_from_the_order_of_the_items() -> None:
    users, items = 400, 50
    relevant = np.zeros((users, items), np.float32)
    relevant[:, :5] = 1.0  # every relevant item stands first in the table
    seen = sp.csr_matrix((users, items), dtype=np.float32)
    recalls = [
        per_user(
            rank_all(lambda rows: np.zeros((len(rows), items), np.float32), np.arange(users), seen, k=5, seed=s),
            sp.csr_matrix(relevant),
            [5],
        )["recall@5"].mean()
        for s in range(40)
    ]
    assert np.mean(recalls) == pytest.approx(0.1, abs=0.04)


def test_a_shopper_without_anything_to_find_is_refused() -> None:
    ranking = rank_all(lambda rows: np.ones((len(rows), 3), np.float32), np.array([0]), sp.csr_matrix((1, 3)), k=2)
    with pytest.raises(ValueError, match="at least one relevant item"):
        per_user(ranking, sp.csr_matrix((1, 3)), [2])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000), levels=st.integers(1, 6), k=st.integers(1, 14), share=st.sampled_from([0.0, 0.3, 0.9])
)
def test_the_partial_sort_equals_a_stable_sort_of_everything(seed: int, levels: int, k: int, share: float) -> None:
    """Few distinct scores, so that nearly every list has ties, at its end too."""
    rng = np.random.default_rng(seed)
    users, items = 7, 12
    scores = rng.integers(0, levels, (users, items)).astype(np.float32)
    scores[rng.random((users, items)) < 0.1] = -np.inf
    seen = rng.random((users, items)) < share
    among = rng.random(items) < 0.8
    ranking = rank_all(
        lambda rows: scores[rows], np.arange(users), sp.csr_matrix(seen.astype(np.float32)), k=k, seed=seed, among=among
    )
    order = np.random.default_rng(seed).permutation(items)
    for user in range(users):
        allowed = [i for i in order if among[i] and not seen[user, i] and scores[user, i] > -np.inf]
        expected = sorted(allowed, key=lambda i: -scores[user, i])[:k]
        assert ranking.rows[user].tolist() == expected + [-1] * (k - len(expected))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, (23, 40)).astype(np.float32)
    seen = sp.csr_matrix((rng.random((23, 40)) < 0.2).astype(np.float32))
    relevant = sp.csr_matrix((rng.random((23, 40)) < 0.3).astype(np.float32))
    whole = rank_all(lambda rows: scores[rows], np.arange(23), seen, k=10)
    found = hits(whole, relevant)
    monkeypatch.setattr(ranking_metrics, "BLOCK", 3 * 40)
    monkeypatch.setattr(ranking_metrics, "LOOKUPS", 4 * 10)
    done: list[tuple[int, int]] = []
    parts = rank_all(
        lambda rows: scores[rows], np.arange(23), seen, k=10, on_block=lambda now, total: done.append((now, total))
    )
    np.testing.assert_array_equal(parts.rows, whole.rows)
    np.testing.assert_array_equal(hits(parts, relevant), found)
    assert done == [(min(3 * (i + 1), 23), 23) for i in range(8)]


def test_the_models_own_memory_is_left_as_it_was() -> None:
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    before = table.copy()
    seen = sp.csr_matrix(np.array([[0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]], np.float32))
    ranking = rank_all(lambda rows: table[rows[0] : rows[-1] + 1], np.arange(3), seen, k=2)
    assert ranking.rows.tolist() == [[2, 1], [3, 2], [3, 2]]
    np.testing.assert_array_equal(table, before)


def test_scores_that_are_not_numbers_are_refused() -> None:
    scores = np.ones((2, 5), np.float32)
    scores[1, 3] = np.nan
    with pytest.raises(StageError, match="user row 1"):
        rank_all(lambda rows: scores[rows], np.arange(2), sp.csr_matrix((2, 5)), k=2)


def test_places_without_an_item_are_no_hits() -> None:
    relevant = sp.csr_matrix(np.array([[0, 0, 1], [1, 0, 0]], np.float32))
    ranking = Ranking(np.array([0, 1]), np.array([[2, -1], [-1, 0]]))
    assert hits(ranking, relevant).tolist() == [[True, False], [False, True]]
    assert not hits(ranking, sp.csr_matrix((2, 3))).any()


def test_what_is_known_is_not_asked_for_and_strangers_are_not_judged() -> None:
    known = sp.csr_matrix(np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]], np.float32))
    held_out = sp.csr_matrix(np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32))
    relevant, users = to_find(known, held_out)
    assert users.tolist() == [0, 3]
    assert relevant.toarray().tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]]


@pytest.fixture(scope="module")
def ranx() -> Iterator[ModuleType]:
    """The other library, interpreted: compiling it takes longer than all these tests."""
    import numba

    numba.config.DISABLE_JIT = True
    yield importlib.import_module("ranx")
    numba.config.DISABLE_JIT = False


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 15))
def test_another_library_finds_the_same(ranx: ModuleType, seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    users, items = 6, 20
    scores = rng.random((users, items)).astype(np.float32)
    seen = rng.random((users, items)) < 0.2
    relevant = (rng.random((users, items)) < 0.3) & ~seen
    relevant[:, 0] |= ~relevant.any(1)
    ours = per_user(
        rank_all(lambda rows: scores[rows], np.arange(users), sp.csr_matrix(seen & ~relevant, dtype=np.float32), k=k),
        sp.csr_matrix(relevant.astype(np.float32)),
        [k],
    )
    candidates = relevant | ~seen
    qrels = {str(u): {str(i): 1 for i in np.flatnonzero(relevant[u])} for u in range(users)}
    run = {str(u): {str(i): float(scores[u, i]) for i in np.flatnonzero(candidates[u])} for u in range(users)}
    names = [f"recall@{k}", f"ndcg@{k}"]
    theirs = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), names, return_mean=False)
    for name in names:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9)
