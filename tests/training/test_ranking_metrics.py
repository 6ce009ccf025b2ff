"""Metrics against a naive definition, and their edges."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from training.ranking_metrics import interval95, per_user, rank_all


def naive(scores: np.ndarray, seen: set[int], relevant: set[int], k: int) -> tuple[float, float]:
    order = [i for i in sorted(range(len(scores)), key=lambda i: -scores[i]) if i not in seen][:k]
    gains = [1 / np.log2(place + 2) for place, item in enumerate(order) if item in relevant]
    ideal = sum(1 / np.log2(place + 2) for place in range(min(k, len(relevant))))
    return len(set(order) & relevant) / len(relevant), sum(gains) / ideal


@settings(max_examples=60, deadline=None)
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


def test_the_interval_holds_the_mean_and_narrows_with_more_shoppers() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.random(50), rng.random(5000)
    low, high = interval95(few)
    assert low < few.mean() < high
    assert high - low > interval95(many)[1] - interval95(many)[0]
