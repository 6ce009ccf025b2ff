"""ItemKNN against the dense definition."""

import numpy as np
import pytest
import scipy.sparse as sp

from tests.training.baselines.contract import NeighborContract
from tests.training.baselines.worlds import random_interactions
from training.baselines import item_knn, item_pairs
from training.ranking_metrics import Scores


class TestItemKnn(NeighborContract):
    @staticmethod
    def fit(train: sp.csr_matrix, seed: int) -> Scores:
        return item_knn(train, neighbors=20)


def dense(matrix: sp.csr_matrix, neighbors: int, shrinkage: float) -> np.ndarray:
    bought = matrix.toarray().astype(np.float64)
    count = bought.sum(0)
    likeness = bought.T @ bought / (np.sqrt(np.outer(count, count)) + shrinkage)
    np.fill_diagonal(likeness, 0)
    for row in likeness:
        row[np.argsort(-row, kind="stable")[neighbors:]] = 0
    return bought @ likeness


@pytest.mark.parametrize("neighbors", [1, 4, 15])
@pytest.mark.parametrize("products_a_block", [1, 20_000_000])
def test_equals_the_dense_definition(neighbors: int, products_a_block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_pairs, "PRODUCTS_A_BLOCK", products_a_block)
    matrix = random_interactions(1)
    found = item_knn(matrix, neighbors=neighbors, shrinkage=10.0)(np.arange(40))
    np.testing.assert_allclose(found, dense(matrix, neighbors, 10.0), rtol=1e-5, atol=1e-6)
