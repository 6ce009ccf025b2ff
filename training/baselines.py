"""Simple models that a graph model has to beat: each fits on a binary (users, items) matrix and scores users.

Popularity; ItemKNN (cosine with shrinkage); iALS (Hu, Koren, Volinsky 2008, by `implicit`); EASE (Steck 2019,
arXiv:1905.03375).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from training.ranking_metrics import Scores


def popularity(popularity_of: npt.NDArray[np.float32]) -> Scores:
    """The same order for everyone: (items,) counts."""
    return lambda users: np.tile(popularity_of, (len(users), 1))


def item_knn(train: sp.csr_matrix, *, neighbors: int = 100, shrinkage: float = 10.0) -> Scores:
    """Cosine between item columns, shrunk towards 0 where few shoppers carry it, top `neighbors` an item."""
    counts = np.asarray(train.sum(0)).ravel()
    together = (train.T @ train).tocsr()
    together.setdiag(0)
    together.eliminate_zeros()
    row = np.repeat(np.arange(together.shape[0]), np.diff(together.indptr))
    norm = np.sqrt(counts[row] * counts[together.indices]) + shrinkage
    likeness = sp.csr_matrix((together.data / norm, together.indices, together.indptr), together.shape)
    for i in range(likeness.shape[0]):
        part = slice(likeness.indptr[i], likeness.indptr[i + 1])
        values = likeness.data[part]
        if len(values) > neighbors:
            values[np.argpartition(values, -neighbors)[:-neighbors]] = 0
    likeness.eliminate_zeros()
    return lambda users: (train[users] @ likeness).toarray().astype(np.float32)


def ease(train: sp.csr_matrix, *, ridge: float = 100.0) -> Scores:
    """EASE over the items with interactions: memory 4 bytes a pair of items, time cubic in them."""
    warm = np.flatnonzero(np.asarray(train.sum(0)).ravel() > 0)
    matrix = train[:, warm]
    gram = (matrix.T @ matrix).toarray().astype(np.float32)
    gram[np.diag_indices_from(gram)] += ridge
    # LAPACK's own inverse from the Cholesky factor: half the work of solving against the identity.
    factor, info = scipy.linalg.lapack.spotrf(gram, lower=1, overwrite_a=1)
    inverse, info = scipy.linalg.lapack.spotri(factor, lower=1, overwrite_c=1)
    if info:
        raise ArithmeticError(f"the Gram matrix is not positive definite (LAPACK info {info})")
    weights = np.tril(inverse) + np.tril(inverse, -1).T
    weights /= -np.diag(weights)[None, :].copy()
    np.fill_diagonal(weights, 0.0)

    def scores(users: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        out = np.full((len(users), train.shape[1]), -1e9, np.float32)
        out[:, warm] = matrix[users] @ weights
        return out

    return scores


def ials(
    train: sp.csr_matrix, *, factors: int = 128, regularization: float = 0.05, iterations: int = 15, seed: int = 0
) -> Scores:
    """Implicit-feedback alternating least squares; needs the `dev` extra's `implicit`."""
    from implicit.als import AlternatingLeastSquares

    with threadpool_limits(1, "blas"):  # ALS runs its own threads; BLAS threads beneath them only fight
        model = AlternatingLeastSquares(
            factors=factors,
            regularization=regularization,
            iterations=iterations,
            random_state=seed,
            use_gpu=False,
            num_threads=1,
        )
        model.fit(train.astype(np.float32), show_progress=False)
    users, items = np.asarray(model.user_factors), np.asarray(model.item_factors)
    return lambda rows: (users[rows] @ items.T).astype(np.float32)
