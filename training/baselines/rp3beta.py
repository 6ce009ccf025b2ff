"""RP3beta (Paudel, Christoffel, Newell, Bernstein 2017, doi:10.1145/2955101): random walks of three steps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from training.baselines.item_pairs import largest, linear_scores, products, row_of
from training.ranking_metrics import Scores


def rp3beta(train: sp.csr_matrix, *, alpha: float = 0.5, beta: float = 0.1, neighbors: int = 400) -> Scores:
    """Walk user -> item -> user -> item; damp popular ends.

    With P = D_u^-1 R and Q = D_i^-1 Rᵀ the steps' probabilities, each raised to `alpha`:
    score = P (Q P without its diagonal) / n_i^beta, where each item keeps the `neighbors` likeliest ends. A walk back
    to the item it came from says nothing new, so the diagonal is left out. `train` (users, items) binary float32.
    """
    users, items = (np.maximum(np.asarray(train.sum(axis), np.float32).ravel(), 1) for axis in (1, 0))
    power = np.float32(-alpha)
    to_item, to_user = _scaled(train, users**power), _scaled(train.T.tocsr(), items**power)
    damping = items ** np.float32(-beta)
    blocks = []
    for rows, walk in products(to_user, to_item):
        walk.data *= damping[walk.indices]
        walk.data[rows.start + row_of(walk) == walk.indices] = 0
        blocks.append(largest(walk, neighbors))
    return linear_scores(to_item, sp.vstack(blocks, format="csr"))


def _scaled(matrix: sp.csr_matrix, by: npt.NDArray[np.float32]) -> sp.csr_matrix:
    """Row i times by[i]."""
    return sp.csr_matrix((matrix.data * by[row_of(matrix)], matrix.indices, matrix.indptr), matrix.shape)
