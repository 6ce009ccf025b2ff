"""iALS against the normal equations that it solves."""

import numpy as np
import scipy.sparse as sp

from tests.training.baselines.contract import NeighborContract
from tests.training.baselines.worlds import random_interactions
from training.baselines import ials
from training.ranking_metrics import Scores


class TestIals(NeighborContract):
    @staticmethod
    def fit(train: sp.csr_matrix, seed: int) -> Scores:
        return ials(train, factors=8, seed=seed)


def alternate(matrix: sp.csr_matrix, factors: int, weight: float, ridge: float, rounds: int) -> np.ndarray:
    """Every row's own weighted least squares, to the end."""
    target = matrix.toarray().astype(np.float64)
    confidence = np.where(target > 0, weight, 1.0)
    rng = np.random.default_rng(0)
    users, items = (rng.normal(size=(n, factors)) for n in target.shape)
    for _ in range(rounds):
        for own, other, wanted, sure in ((users, items, target, confidence), (items, users, target.T, confidence.T)):
            for row in range(len(own)):
                weighted = other * sure[row][:, None]
                own[row] = np.linalg.solve(weighted.T @ other + ridge * np.eye(factors), weighted.T @ wanted[row])
    return users @ items.T


def test_reaches_the_fit_of_exact_least_squares() -> None:
    matrix = random_interactions(5)
    found = ials(matrix, factors=12, regularization=2.0, alpha=3.0, iterations=400)(np.arange(40))
    # With nearly as many factors as items and this much ridge both end in one optimum, whatever the start.
    np.testing.assert_allclose(found, alternate(matrix, 12, 3.0, 2.0, 400), atol=5e-3)


def test_threads_do_not_change_the_result() -> None:
    matrix, users = random_interactions(6), np.arange(40)
    np.testing.assert_array_equal(ials(matrix, threads=1)(users), ials(matrix, threads=2)(users))
