"""Spectral features of an item graph: what is near in the graph is near in a few hundred numbers.

The leading eigenvectors of the symmetric-normalised adjacency, each scaled to SPREAD a row in the mean. A model that
projects them shares what it learns of an item with the whole region of the graph (Laplacian eigenmaps: Belkin & Niyogi
2003, doi:10.1162/089976603321780317).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import scipy.sparse.linalg

SPREAD = 0.1
"""Root mean square of a feature: that of a unit vector of 100 numbers."""


def spectral_features(graph: sp.csr_matrix, dim: int, *, seed: int = 0) -> npt.NDArray[np.float32]:
    """(n, dim) float32 of a symmetric (n, n) graph, largest eigenvalue first; `dim` is cut to n - 2."""
    n = graph.shape[0]
    dim = min(dim, n - 2)
    if dim < 1:
        return np.zeros((n, 0), np.float32)
    start = np.random.default_rng(seed).normal(size=n).astype(np.float32)
    values, vectors = scipy.sparse.linalg.eigsh(graph.astype(np.float32), k=dim, v0=start, which="LA")
    vectors = vectors[:, np.argsort(-values)] * (SPREAD * np.sqrt(n))
    # The sign of an eigenvector is nobody's choice: the largest entry is positive.
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    features: npt.NDArray[np.float32] = (vectors * np.sign(largest)).astype(np.float32)
    return features
