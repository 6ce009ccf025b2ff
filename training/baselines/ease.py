"""EASE (Steck 2019, arXiv:1905.03375): ridge regression of every item on all others, in closed form.

    P = (XᵀX + ridge I)^-1,   B_ij = -P_ij / P_jj,   B_jj = 0,   score = X B

Dense: 4 bytes a pair of items with interactions, time cubic in them. `sparse_ease` is for catalogs beyond that.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse as sp

from service.errors import InputError
from training.baselines.item_pairs import products
from training.ranking_metrics import Scores

MIRROR_BLOCK = 1024


def ease(train: sp.csr_matrix, *, ridge: float = 300.0) -> Scores:
    """Fit on a binary (users, items) float32 matrix; items without interactions score 0, as the closed form has it.

    Raises InputError where Gram + ridge is not positive definite.
    """
    warm, weights = ease_weights(train, ridge=ridge)
    matrix = train[:, warm]

    def scores(users: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        out = np.zeros((len(users), train.shape[1]), np.float32)
        out[:, warm] = matrix[users] @ weights
        return out

    return scores


def ease_weights(train: sp.csr_matrix, *, ridge: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """B over the items with interactions: their rows (w,) and the weights (w, w), zero on the diagonal."""
    warm = np.flatnonzero(np.asarray(train.sum(0)).ravel() > 0)
    matrix = train[:, warm]
    weights = np.zeros((len(warm), len(warm)), np.float32)
    for rows, together in products(matrix.T.tocsr(), matrix):
        weights[rows] = together.toarray()
    weights[np.diag_indices_from(weights)] += ridge
    weights = _inverse(weights)
    weights /= -np.diag(weights)[None, :].copy()
    np.fill_diagonal(weights, 0.0)
    return warm, weights


def _inverse(symmetric: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Invert a positive definite (n, n) matrix in its own memory.

    LAPACK's own inverse from the Cholesky factor does half the work of solving against the identity. It wants columns
    one after the other: the transpose of a symmetric matrix is the same matrix, laid out so.
    """
    factor, info = scipy.linalg.lapack.spotrf(symmetric.T, lower=1, overwrite_a=1)
    if info == 0:
        inverse, info = scipy.linalg.lapack.spotri(factor, lower=1, overwrite_c=1)
    if info:
        raise InputError("the items' Gram matrix is not positive definite", where="ridge", todo="Raise the ridge")
    for start in range(0, len(inverse), MIRROR_BLOCK):
        own = slice(start, start + MIRROR_BLOCK)
        inverse[own, own] = np.tril(inverse[own, own]) + np.tril(inverse[own, own], -1).T
        inverse[own, own.stop :] = inverse[own.stop :, own].T
    return np.ascontiguousarray(inverse.T)
