"""Metrics of tied scores and of short lists against ranx (Bassani 2022), another library, as oracle."""

import importlib
from collections.abc import Iterator
from types import ModuleType

import numba
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from training.ranking_metrics import per_user, rank_all

USERS, ITEMS, K = 8, 14, 10
METRICS = [f"{name}@{k}" for name in ("recall", "ndcg") for k in (1, 5, K)]
NOTHING = -1.0


@pytest.fixture(scope="module")
def ranx() -> Iterator[ModuleType]:
    """The oracle as plain Python: to compile it takes minutes, to ask it takes milliseconds."""
    numba.config.DISABLE_JIT = True
    yield importlib.import_module("ranx")
    numba.config.DISABLE_JIT = False


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 100_000), levels=st.sampled_from([1, 3, 1_000_000]), known=st.floats(0, 0.9))
def test_equals_ranx(ranx: ModuleType, seed: int, levels: int, known: float) -> None:
    """With few levels most scores tie; with much known fewer than k items are left. The lists judged are the same."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (USERS, ITEMS)).astype(np.float32)
    seen = rng.random((USERS, ITEMS)) < known
    seen[:, 0] = False
    relevant = (rng.random((USERS, ITEMS)) < 0.3) & ~seen
    relevant[:, 0] |= ~relevant.any(1)
    matrix, users = sp.csr_matrix(relevant.astype(np.float32)), np.arange(USERS)
    ranking = rank_all(lambda rows: scores[rows], users, sp.csr_matrix(seen.astype(np.float32)), k=K, seed=seed)
    # (users, items, 2): item and grade, best first; (users, k, 2): item and score. No item is -1: it is never relevant.
    best = np.argsort(~relevant, axis=1, kind="stable")
    qrels = np.stack([best, np.take_along_axis(relevant, best, 1)], -1).astype(np.float64)
    listed = np.where(ranking.rows < 0, NOTHING, ranking.rows)
    run = np.stack([listed, np.tile(np.arange(K, 0, -1), (USERS, 1))], -1).astype(np.float64)
    ours, theirs = per_user(ranking, matrix, [1, 5, K]), ranx.evaluate(qrels, run, METRICS, return_mean=False)
    for name in METRICS:
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-9, err_msg=name)
