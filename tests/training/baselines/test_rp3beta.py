"""RP3beta against powers of the dense transition matrix."""

import numpy as np
import pytest
import scipy.sparse as sp

from tests.training.baselines.contract import NeighborContract
from tests.training.baselines.worlds import random_interactions
from training.baselines import rp3beta
from training.ranking_metrics import Scores


class TestRp3beta(NeighborContract):
    @staticmethod
    def fit(train: sp.csr_matrix, seed: int) -> Scores:
        return rp3beta(train, neighbors=20)


def walks_of_three(matrix: sp.csr_matrix, alpha: float) -> np.ndarray:
    """User to item by a walk of three steps on the bipartite graph, each step's probability raised to alpha."""
    users, items = matrix.shape
    adjacent = np.zeros((users + items, users + items))
    adjacent[:users, users:] = matrix.toarray()
    adjacent[users:, :users] = matrix.toarray().T
    step = (adjacent / np.maximum(adjacent.sum(1, keepdims=True), 1)) ** alpha
    walks = np.linalg.matrix_power(step, 3)[:users, users:]
    # Less the walks that turn back to the item they came from.
    back = np.linalg.matrix_power(step, 2)[users:, users:].diagonal()
    return walks - step[:users, users:] * back


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (1.0, 0.7), (0.4, 0.3)])
def test_equals_the_cube_of_the_transition_matrix_damped_by_popularity(alpha: float, beta: float) -> None:
    matrix = random_interactions(2)
    damping = np.maximum(np.asarray(matrix.sum(0)).ravel(), 1) ** -beta
    expected = walks_of_three(matrix, alpha) * damping
    found = rp3beta(matrix, alpha=alpha, beta=beta, neighbors=15)(np.arange(40))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_with_alpha_one_and_every_walk_probabilities_sum_to_at_most_one() -> None:
    reached = rp3beta(random_interactions(3), alpha=1.0, beta=0.0, neighbors=15)(np.arange(40)).sum(1)
    assert reached[3] == 0  # a user without history goes nowhere
    assert (np.delete(reached, 3) > 0).all()
    assert (reached < 1).all()


def test_each_item_keeps_its_likeliest_ends() -> None:
    matrix = random_interactions(4)
    one = rp3beta(matrix, neighbors=1)(np.arange(40))
    assert (np.count_nonzero(one, axis=1) <= np.diff(matrix.indptr)).all()
    assert np.count_nonzero(one) > 0
