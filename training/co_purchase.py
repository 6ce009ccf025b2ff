"""Items that the same shoppers have, of whatever interactions a first stage is given.

    weight(i, j) = n_ij / sqrt(n_i n_j)      n_i: shoppers who have i, n_ij: who have both

Made anew for every fit and never read from a file: edges that know a hidden interaction would give its label away.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from service.neighborhood import Relation
from training.baselines.item_pairs import empty_graph, products, row_of, write_largest

DEGREE = 20


def co_purchase_graph(known: sp.csr_matrix, *, degree: int = DEGREE) -> Relation:
    """The `degree` items that weigh most for each, from a binary (users, items) matrix; ties to the lower row."""
    root = np.sqrt(np.maximum(np.asarray(known.sum(0), np.float32).ravel(), 1))
    graph = empty_graph(known.shape[1], degree)
    for rows, together in products(known.T.tocsr(), known):
        row = row_of(together)
        other = together.indices != row + rows.start
        value = np.where(other, together.data / (root[row + rows.start] * root[together.indices]), 0).astype(np.float32)
        write_largest(graph, rows, sp.csr_matrix((value, together.indices, together.indptr), together.shape))
    return graph
