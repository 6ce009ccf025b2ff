"""Where the fusion begins: the principal axes of text and image together, so that untrained it keeps raw likeness."""

from __future__ import annotations

import numpy as np

from offline_jobs.array_types import FloatArray
from offline_jobs.item_vectors import BLOCK, IMAGE, TEXT, ItemVectors

MOST = 50_000
"""Items whose axes are computed: a sample is enough for a covariance of 896 numbers."""


def principal_axes(vectors: ItemVectors, dim: int, seed: int) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Text's and image's weights (dim, width) and biases (dim,) that give the centred concatenation's PCA.

    From items that have both, from any of them where fewer than two do; nothing where fewer than two have any.
    """
    tables = (vectors.tables[TEXT], vectors.tables[IMAGE])
    both = np.flatnonzero(tables[0].present & tables[1].present)
    rows = both if len(both) > 1 else np.flatnonzero(tables[0].present | tables[1].present)
    if len(rows) < 2:
        return {}
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST, replace=False))
    width = sum(table.width for table in tables)
    total, squares = np.zeros(width), np.zeros((width, width))
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        joined = np.concatenate([table.rows(block) for table in tables], axis=1, dtype=np.float64)
        total += joined.sum(axis=0)
        squares += joined.T @ joined
    mean = total / len(rows)
    covariance = (squares - len(rows) * np.outer(mean, mean)) / (len(rows) - 1)
    values, found = np.linalg.eigh(covariance)
    axes = found[:, ::-1][:, :dim].T  # (dim, width), largest variance first
    axes = axes * np.sign(axes[np.arange(dim), np.abs(axes).argmax(axis=1)])[:, None]
    axes /= np.sqrt(max(values[::-1][:dim].sum(), 1e-12))
    cut = tables[0].width
    return {
        name: (axes[:, part].astype(np.float32), (-axes[:, part] @ mean[part]).astype(np.float32))
        for name, part in ((TEXT, slice(0, cut)), (IMAGE, slice(cut, None)))
    }
