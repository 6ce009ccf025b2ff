"""ItemKNN (Sarwar et al. 2001, as in Ferrari Dacrema et al. 2019, arXiv:1907.06902): cosine with shrinkage."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from training.baselines.item_pairs import largest, linear_scores, products, row_of
from training.ranking_metrics import Scores


def item_knn(train: sp.csr_matrix, *, neighbors: int = 100, shrinkage: float = 10.0) -> Scores:
    """Likeness c_ij / (√(n_i n_j) + shrinkage) of items that c_ij shoppers share; each keeps its `neighbors` largest.

    An item of the history speaks for its own neighbors (rows of the likeness are cut, not columns): measured better
    than the other way on Amazon Baby from a shrinkage of 10 on. `train` (users, items) binary float32.
    """
    count = np.asarray(train.sum(0), np.float32).ravel()
    blocks = []
    for rows, together in products(train.T.tocsr(), train):
        row = rows.start + row_of(together)
        together.data /= np.sqrt(count[row] * count[together.indices]) + np.float32(shrinkage)
        together.data[row == together.indices] = 0
        blocks.append(largest(together, neighbors))
    return linear_scores(train, sp.vstack(blocks, format="csr"))
