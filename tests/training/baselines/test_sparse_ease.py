"""Sparse EASE: exact where every neighbor is allowed, and close with few."""

import importlib

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InputError
from tests.training.baselines.contract import NeighborContract
from tests.training.baselines.worlds import random_interactions
from training.baselines import ease, sparse_ease
from training.baselines.sparse_ease import inverse_factor
from training.ranking_metrics import Scores


class TestSparseEase(NeighborContract):
    @staticmethod
    def fit(train: sp.csr_matrix, seed: int) -> Scores:
        return sparse_ease(train, ridge=5.0, neighbors=10)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), ridge=st.floats(0.5, 500))
def test_with_every_pair_of_items_shared_by_someone_and_every_neighbor_it_is_ease(seed: int, ridge: float) -> None:
    matrix, users = random_interactions(seed), np.arange(40)
    everything = sp.csr_matrix(np.ones((1, 15), np.float32))
    matrix = sp.vstack([matrix, everything], format="csr")
    found = sparse_ease(matrix, ridge=ridge, neighbors=15)(users)
    np.testing.assert_allclose(found, ease(matrix, ridge=ridge)(users), atol=2e-5)


def test_the_error_falls_as_neighbors_are_added() -> None:
    matrix, users = random_interactions(8, users=300, items=60), np.arange(300)
    exact = ease(matrix, ridge=20.0)(users)
    errors = [np.abs(sparse_ease(matrix, ridge=20.0, neighbors=n)(users) - exact).mean() for n in (1, 4, 15, 60)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * errors[0]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 12))
def test_with_the_whole_triangle_as_pattern_the_factor_is_that_of_the_inverse(seed: int, n: int) -> None:
    square = np.random.default_rng(seed).normal(size=(n, n))
    matrix = (square @ square.T + np.eye(n)).astype(np.float32)
    whole = sp.csr_matrix(np.tril(np.ones((n, n), np.float32), -1))
    factor = inverse_factor(sp.csr_matrix(np.tril(matrix)), whole).toarray()
    np.testing.assert_allclose(factor.T @ factor, np.linalg.inv(matrix), rtol=1e-3, atol=1e-3)


def test_the_factor_keeps_its_pattern_and_its_unit_diagonal() -> None:
    """K A Kᵀ has ones on its diagonal: what makes the factor the closest of its pattern."""
    rng = np.random.default_rng(9)
    square = rng.normal(size=(12, 12))
    matrix = (square @ square.T + np.eye(12)).astype(np.float32)
    allowed = np.tril(rng.random((12, 12)) < 0.4, -1).astype(np.float32)
    factor = inverse_factor(sp.csr_matrix(np.tril(matrix)), sp.csr_matrix(allowed)).toarray()
    assert not factor[(allowed == 0) & ~np.eye(12, dtype=bool)].any()
    np.testing.assert_allclose(np.diag(factor @ matrix @ factor.T), 1, rtol=1e-3)


def test_batches_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, users = random_interactions(10), np.arange(40)
    whole = sparse_ease(matrix, neighbors=6)(users)
    monkeypatch.setattr(importlib.import_module("training.baselines.sparse_ease"), "PAIRS_A_BATCH", 1)
    np.testing.assert_allclose(sparse_ease(matrix, neighbors=6)(users), whole, atol=1e-6)


def test_items_that_are_bought_together_always_need_a_ridge() -> None:
    with pytest.raises(InputError, match="Raise the ridge"):
        sparse_ease(sp.csr_matrix(np.ones((4, 2), np.float32)), ridge=0.0)
