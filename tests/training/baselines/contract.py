"""What every baseline keeps to, as a suite that its test inherits in three lines.

class TestEase(NeighborContract):
    @staticmethod
    def fit(train, seed):
        return ease(train, ridge=5.0)
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from tests.training.conftest import CLUSTERS, ITEMS_EACH, planted_interactions
from training.dataset import TRAIN, VALIDATION
from training.ranking_metrics import Scores, per_user, rank_all

NEW_USER, UNSOLD = 150, 90
"""The row of a user without history, and of an item that nobody bought, beside the planted ones."""


class ScoresContract:
    """Scores are numbers, the same whoever asks how often and beside whom."""

    @staticmethod
    def fit(train: sp.csr_matrix, seed: int) -> Scores:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def train(cls) -> sp.csr_matrix:
        """Six clusters of 15 items and 25 shoppers, six buys each; then one shopper and one item without any."""
        matrix = planted_interactions().within([TRAIN]).matrix()
        matrix.resize(NEW_USER + 1, UNSOLD + 1)
        return matrix

    @pytest.fixture(scope="class")
    @classmethod
    def scores(cls, train: sp.csr_matrix) -> Scores:
        return cls.fit(train, 0)

    def test_scores_are_finite_float32_for_every_pair(self, scores: Scores, train: sp.csr_matrix) -> None:
        found = scores(np.arange(train.shape[0]))
        assert found.dtype == np.float32
        assert found.shape == train.shape
        assert np.isfinite(found).all()

    def test_the_same_seed_gives_the_same_scores(self, scores: Scores, train: sp.csr_matrix) -> None:
        users = np.arange(train.shape[0])
        np.testing.assert_array_equal(self.fit(train, 0)(users), scores(users))

    def test_a_block_of_users_scores_as_one_at_a_time(self, scores: Scores) -> None:
        users = np.array([7, 3, NEW_USER, 3])
        alone = np.concatenate([scores(users[i : i + 1]) for i in range(len(users))])
        np.testing.assert_allclose(scores(users), alone, rtol=1e-5, atol=1e-6)

    def test_fitting_leaves_the_interactions_as_they_were(self, train: sp.csr_matrix) -> None:
        before = train.copy()
        self.fit(train, 0)(np.arange(4))
        assert (before != train).nnz == 0

    def test_an_item_that_nobody_bought_leads_for_no_one(self, scores: Scores) -> None:
        found = scores(np.arange(NEW_USER))
        assert (found[:, UNSOLD] < found.max(1)).all()


class NeighborContract(ScoresContract):
    """A model that learns what goes together finds the cluster."""

    def test_the_held_out_item_is_found(self, scores: Scores, train: sp.csr_matrix) -> None:
        relevant = planted_interactions().within([VALIDATION]).matrix()
        relevant.resize(train.shape)
        ranking = rank_all(scores, np.arange(NEW_USER), train, k=10)
        assert per_user(ranking, relevant, [10])["recall@10"].mean() > 0.9

    def test_what_is_not_masked_stays_within_the_cluster(self, scores: Scores) -> None:
        """The model masks nothing: what was bought is scored like the rest, and the cluster leads by itself."""
        users = np.arange(NEW_USER)
        first = rank_all(scores, users, sp.csr_matrix((NEW_USER, UNSOLD + 1)), k=5).rows
        assert np.mean(first // ITEMS_EACH == (users % CLUSTERS)[:, None]) > 0.98

    def test_a_user_without_history_is_told_nothing(self, scores: Scores) -> None:
        np.testing.assert_array_equal(scores(np.array([NEW_USER])), 0)
