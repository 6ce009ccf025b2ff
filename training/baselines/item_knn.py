"""ItemKNN: cosine of items with shrinkage."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from training.ranking_metrics import Scores


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
