"""Popularity: the same for everyone, and it knows no clusters."""

import numpy as np
import scipy.sparse as sp

from tests.training.baselines.contract import ScoresContract
from training.baselines import popularity
from training.ranking_metrics import Scores


class TestPopularity(ScoresContract):
    @staticmethod
    def fit(train: sp.csr_matrix, seed: int) -> Scores:
        return popularity(np.asarray(train.sum(0)).ravel())


def test_everyone_gets_the_counts() -> None:
    np.testing.assert_array_equal(popularity(np.array([2.0, 0.5], np.float32))(np.array([4, 9])), [[2, 0.5], [2, 0.5]])
