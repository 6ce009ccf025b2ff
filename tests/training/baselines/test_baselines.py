"""Baselines against their definitions."""

import numpy as np
import scipy.sparse as sp

from training import baselines
from training.dataset import TRAIN, VALIDATION, Dataset
from training.fit import relevant_items
from training.ranking_metrics import per_user, rank_all


def small(seed: int = 0) -> sp.csr_matrix:
    matrix = sp.csr_matrix((np.random.default_rng(seed).random((30, 12)) < 0.3).astype(np.float32))
    return matrix[:, np.asarray(matrix.sum(0)).ravel() > 0]


def test_ease_is_the_closed_form_ridge_regression_with_a_zero_diagonal() -> None:
    matrix = small()
    gram = (matrix.T @ matrix).toarray() + 5.0 * np.eye(matrix.shape[1])
    expected = np.zeros_like(gram)
    for j in range(len(gram)):  # column by column: least squares on every other item
        rest = np.delete(np.arange(len(gram)), j)
        expected[rest, j] = np.linalg.solve(gram[np.ix_(rest, rest)], gram[rest, j])
    scores = baselines.ease(matrix, ridge=5.0)(np.arange(30))
    np.testing.assert_allclose(scores, matrix.toarray() @ expected, atol=1e-4)


def test_item_knn_scores_by_shrunk_cosine_of_columns() -> None:
    matrix = small(1)
    dense = matrix.toarray()
    together, count = dense.T @ dense, dense.sum(0)
    likeness = together / (np.sqrt(np.outer(count, count)) + 10.0)
    np.fill_diagonal(likeness, 0)
    np.testing.assert_allclose(baselines.item_knn(matrix)(np.arange(30)), dense @ likeness, rtol=1e-4, atol=1e-6)


def test_item_knn_keeps_so_many_neighbors() -> None:
    matrix = small(2)
    one_each = baselines.item_knn(matrix, neighbors=1)
    assert (np.count_nonzero(one_each(np.arange(30)), axis=1) <= np.diff(matrix.indptr)).all()


def test_baselines_find_planted_clusters_and_popularity_does_not(dataset: Dataset) -> None:
    train, judged = (dataset.interactions.within([s]) for s in (TRAIN, VALIDATION))
    relevant, users = relevant_items(train, judged)
    matrix = train.matrix()

    def recall(scores: object) -> float:
        return float(per_user(rank_all(scores, users, matrix, k=10), relevant, [10])["recall@10"].mean())

    for fitted in (baselines.item_knn(matrix), baselines.ease(matrix, ridge=5.0), baselines.ials(matrix, factors=8)):
        assert recall(fitted) > 0.9
    assert recall(baselines.popularity(np.asarray(matrix.sum(0)).ravel())) < 0.3
