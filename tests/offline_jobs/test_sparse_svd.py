"""The leading directions are those of a dense decomposition, and the same for any number of threads."""

import numpy as np
import pytest
from scipy import sparse

from offline_jobs import sparse_svd
from offline_jobs.sparse_svd import leading_directions


@pytest.fixture
def table():
    """Rows around 5 planted directions, and noise; sparse."""
    rng = np.random.default_rng(3)
    dense = rng.normal(size=(300, 5)) * [9, 7, 5, 4, 3] @ rng.normal(size=(5, 40)) + rng.normal(size=(300, 40))
    return sparse.csr_matrix((dense * (rng.random(dense.shape) < 0.9)).astype(np.float32))


def test_directions_are_the_exact_ones(table):
    _, _, exact = np.linalg.svd(table.toarray().astype(np.float64), full_matrices=False)
    found = leading_directions(table, 5, seed=0, threads=1)
    np.testing.assert_allclose(np.abs((found * exact[:5].T).sum(0)), 1, atol=1e-4)
    assert (found[np.abs(found).argmax(0), np.arange(5)] > 0).all()


def test_blocks_in_order_give_the_same_bytes_for_any_number_of_threads(table, monkeypatch):
    monkeypatch.setattr(sparse_svd, "BLOCK", 32)
    found = [leading_directions(table, 5, seed=1, threads=threads) for threads in (1, 2, 3)]
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()


def test_a_rank_of_all_columns_keeps_all(table):
    found = leading_directions(table, 40, seed=0, threads=1)
    assert found.shape == (40, 40)
    np.testing.assert_allclose(found.T @ found, np.eye(40), atol=1e-4)
