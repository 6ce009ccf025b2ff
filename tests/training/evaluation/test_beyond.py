"""Figures beyond hits against their definitions, on lists whose answer is known."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation import beyond as module
from training.evaluation.beyond import beyond, gini, intra_list_diversity, popularity_lift
from training.ranking_metrics import Ranking

KNOWN = sp.csr_matrix(np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]], np.float32))  # degrees 3, 2, 1, 0


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=15))
def test_gini_is_half_the_mean_difference_over_the_mean(counts: list[int]) -> None:
    x = np.array(counts)
    expected = np.abs(x[:, None] - x[None]).mean() / (2 * x.mean()) if x.sum() else 0.0
    assert gini(x) == pytest.approx(expected)


def test_gini_is_nought_where_all_are_listed_alike_and_near_one_where_one_takes_all() -> None:
    assert gini(np.full(50, 3)) == pytest.approx(0.0)
    assert gini(np.eye(1, 50, dtype=int)[0] * 7) == pytest.approx(0.98)


def test_coverage_counts_candidates_alone() -> None:
    ranking = Ranking(np.array([0, 1]), np.array([[2, 3], [3, -1]]))
    assert beyond(ranking, KNOWN, k=2)["coverage@2"] == 0.5
    assert beyond(ranking, KNOWN, k=1)["coverage@1"] == 0.5
    among = np.array([True, False, True, False])
    assert beyond(ranking, KNOWN, k=2, among=among)["coverage@2"] == 0.5
    assert "intra_list_diversity@2" not in beyond(ranking, KNOWN, k=2)


def test_lists_as_popular_as_histories_have_a_lift_of_one() -> None:
    users = np.array([0, 2])
    history = (5 / 2 + 6 / 3) / 2
    assert popularity_lift(np.array([[0, 1], [0, 2]]), KNOWN, users) == pytest.approx((2.5 + 2) / 2 / history)
    assert popularity_lift(np.array([[3, -1], [3, -1]]), KNOWN, users) == 0.0
    assert popularity_lift(np.array([[0, -1], [-1, -1]]), KNOWN, users) == pytest.approx(3 / history)
    assert popularity_lift(np.array([[-1, -1]]), KNOWN, users[:1]) == 0.0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_diversity_is_the_mean_over_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(12, 4)).astype(np.float32)
    content[rng.random(12) < 0.2] = 0  # items without content
    rows = np.stack([rng.permutation(12)[:5] for _ in range(6)])
    rows[rng.random(rows.shape) < 0.2] = -1
    lists = []
    for row in rows:
        told = [content[i] / np.linalg.norm(content[i]) for i in row if i >= 0 and content[i].any()]
        if len(told) > 1:
            lists.append(np.mean([1 - a @ b for a, b in itertools.combinations(told, 2)]))
    assert intra_list_diversity(rows, content) == pytest.approx(np.mean(lists) if lists else 0.0, abs=1e-5)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    content, rows = rng.normal(size=(30, 8)).astype(np.float32), rng.integers(0, 30, (11, 5))
    whole = intra_list_diversity(rows, content)
    monkeypatch.setattr(module, "BLOCK", 2 * 5 * 8)
    assert intra_list_diversity(rows, content) == pytest.approx(whole)
