"""Sparse EASE: EASE through a sparse factor of the inverse, for catalogs whose items² does not fit.

EASE needs P = A^-1 of A = XᵀX + ridge I. Here P ≈ KᵀK with K sparse and lower triangular over the items by falling
popularity: row k regresses item k on its `neighbors` most correlated ones among the more popular. It is the factorised
sparse approximate inverse (FSAI; Kolotilina & Yeremin 1993, doi:10.1137/0614004), which among all factors of that
pattern is closest to A^-1 in the Kullback-Leibler sense (Schäfer, Katzfuss & Owhadi 2021, arXiv:2004.14455); with
every more popular item as a neighbor it is exact and the scores are EASE's. Only items that share a shopper become
neighbors, so a small difference stays however many are allowed.

SANSA (Spišák et al. 2023, doi:10.1145/3604915.3608827) has the same shape, P ≈ KᵀD^-1K and score = X KᵀD^-1K, but gets
there through a sparsified Cholesky factor (LDLᵀ, ordered against fill-in) and an iterative sparse inverse of that.
This needs no factor of A and no sparse Cholesky library: small dense systems, none of which can break down.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from service.errors import InputError
from training.baselines.item_pairs import largest, products, row_of
from training.ranking_metrics import Scores

PAIRS_A_BATCH = 8_000_000
"""Entries of the small dense systems that are solved together."""

Rows = npt.NDArray[np.int64]


def sparse_ease(train: sp.csr_matrix, *, ridge: float = 300.0, neighbors: int = 100) -> Scores:
    """Fit on a binary (users, items) float32 matrix; items without interactions score 0, as EASE's closed form has it.

    Memory: 8 bytes a pair of items that some shopper shares, 8 bytes for each of `neighbors` an item, and batches.
    Raises InputError where Gram + ridge is not positive definite.
    """
    by_popularity, factor = inverse_of_gram(train, ridge=ridge, neighbors=neighbors)
    histories = train[:, by_popularity]
    to_factor, diagonal = factor.T.tocsr(), np.asarray(factor.multiply(factor).sum(0), np.float32).ravel()

    def scores(users: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        own = histories[users]
        half = np.ascontiguousarray((own @ to_factor).toarray().T)
        through = (to_factor @ half).T  # history times P
        out = np.zeros((len(users), train.shape[1]), np.float32)
        # B = I - P / diag P: what an item of the history says of itself is not counted.
        out[:, by_popularity] = own.toarray() - through / diagonal
        return out

    return scores


def inverse_of_gram(train: sp.csr_matrix, *, ridge: float, neighbors: int) -> tuple[Rows, sp.csr_matrix]:
    """The items with interactions by falling popularity (w,), and K (w, w) in that order with P ≈ KᵀK."""
    count = np.asarray(train.sum(0)).ravel()
    by_popularity = np.argsort(-count, kind="stable")[: np.count_nonzero(count)]
    histories = train[:, by_popularity]
    histories.sort_indices()
    return by_popularity, inverse_factor(*_gram_and_pattern(histories, ridge, neighbors))


def _gram_and_pattern(histories: sp.csr_matrix, ridge: float, neighbors: int) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """A = XᵀX + ridge I below and on its diagonal, and each row's `neighbors` largest correlations |A_ij|/√(A_ii A_jj).

    Items of `histories` (users, n) in the order of the factor; both (n, n), columns ascending.
    """
    spread = np.sqrt(np.asarray(histories.sum(0), np.float32).ravel() + np.float32(ridge))
    gram, pattern = [], []
    for rows, together in products(histories.T.tocsr(), histories):
        row = row_of(together)
        column = together.indices
        below = column <= row + rows.start
        row, column, value = row[below], column[below], together.data[below]
        own = row + rows.start == column
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=together.shape[0]))])
        correlation = np.where(own, 0, value / (spread[row + rows.start] * spread[column]))
        pattern.append(largest(sp.csr_matrix((correlation, column, indptr), together.shape), neighbors))
        gram.append(sp.csr_matrix((value + np.float32(ridge) * own, column, indptr), together.shape))
    return sp.vstack(gram, format="csr"), sp.vstack(pattern, format="csr")


def inverse_factor(lower: sp.csr_matrix, pattern: sp.csr_matrix) -> sp.csr_matrix:
    """K with KᵀK ≈ A^-1: the lower triangle of A (n, n) with its diagonal, columns each row may use -> (n, n) float32.

    For row k with S its pattern and k itself, last: A[S, S] = L Lᵀ, and the row is L^-T e_last. Rows of like length are
    solved together.
    """
    lengths = np.diff(pattern.indptr)
    order = np.argsort(lengths, kind="stable")
    parts: list[tuple[Rows, Rows, npt.NDArray[np.float32]]] = []
    start = 0
    while start < len(order):
        sizes = (lengths[order[start:]].astype(np.int64) + 1) ** 2 * np.arange(1, len(order) - start + 1)
        batch = order[start : start + max(1, int(np.searchsorted(sizes, PAIRS_A_BATCH, side="right")))]
        used, stored = _padded(pattern, batch)
        solved = _last_of_inverse_factor(lower, used, stored)
        parts.append((np.repeat(batch, stored.sum(1)), used[stored], solved[stored]))
        start += len(batch)
    row, column, value = (np.concatenate(part) for part in zip(*parts, strict=True))
    return sp.csr_matrix((value, (row, column)), lower.shape)


def _padded(pattern: sp.csr_matrix, batch: Rows) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """Each row's columns, ascending, then the row itself in the last place: (b, m), and which places are used."""
    length = np.diff(pattern.indptr)[batch]
    place = np.arange(length.max() + 1)
    stored = place < length[:, None]
    used = np.zeros(stored.shape, np.int64)
    used[stored] = pattern[batch].indices
    stored[:, -1], used[:, -1] = True, batch
    return used, stored


def _last_of_inverse_factor(lower: sp.csr_matrix, used: Rows, stored: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """L^-T e_last of each A[S, S] = L Lᵀ: (b, m) columns -> (b, m). Places that are not used stand as identity."""
    b, m = used.shape
    one, other = np.tril_indices(m)
    value = np.asarray(lower[used[:, one].ravel(), used[:, other].ravel()]).reshape(b, -1)
    value *= stored[:, one] & stored[:, other]
    systems = np.zeros((b, m, m), np.float32)
    systems[:, one, other] = value
    systems[:, np.arange(m), np.arange(m)] += ~stored
    factor, failed = torch.linalg.cholesky_ex(torch.from_numpy(systems))
    if failed.any():
        raise InputError("the items' Gram matrix is not positive definite", where="ridge", todo="Raise the ridge")
    last = torch.zeros(b, m, 1)
    last[:, -1] = 1
    solved: npt.NDArray[np.float32] = torch.linalg.solve_triangular(factor.mT, last, upper=True)[:, :, 0].numpy()
    return solved
