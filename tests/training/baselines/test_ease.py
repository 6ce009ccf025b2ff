"""EASE against least squares, column by column."""

import numpy as np
import pytest
import scipy.sparse as sp

from service.errors import InputError
from tests.training.baselines.contract import NeighborContract
from tests.training.baselines.worlds import random_interactions
from training.baselines import ease
from training.ranking_metrics import Scores


class TestEase(NeighborContract):
    @staticmethod
    def fit(train: sp.csr_matrix, seed: int) -> Scores:
        return ease(train, ridge=5.0)


def test_each_item_is_a_ridge_regression_on_all_others() -> None:
    matrix = random_interactions(0)
    gram = (matrix.T @ matrix).toarray() + 5.0 * np.eye(matrix.shape[1])
    expected = np.zeros_like(gram)
    for j in range(len(gram)):
        rest = np.delete(np.arange(len(gram)), j)
        expected[rest, j] = np.linalg.solve(gram[np.ix_(rest, rest)], gram[rest, j])
    np.testing.assert_allclose(ease(matrix, ridge=5.0)(np.arange(40)), matrix @ expected, atol=1e-5)


def test_items_that_are_bought_together_always_need_a_ridge() -> None:
    twins = sp.csr_matrix(np.ones((4, 2), np.float32))
    with pytest.raises(InputError, match="Raise the ridge"):
        ease(twins, ridge=0.0)
