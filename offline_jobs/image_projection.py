"""From a network's features to the fusion's 512 numbers: centred, turned and scaled by the catalogue's own images.

    x = normalise(sqrt(features));  y = normalise((x - mean) @ matrix);  matrix = U diag((e / e_0) ** -1/4)

The root (the encoder takes it) tames the few features that fire hard. U and e are the leading eigenvectors and
eigenvalues of the covariance of x (a PCA), and the exponent halves the spread of its axes: the strongest axes of an
ImageNet network say what a product is, which drowns its colour and its cut where they are left as they are
(docs/ENCODERS.md has the numbers). Both moments are shrunk by `PRIOR` imagined images around the origin, alike in all
directions: a shop of three pictures is not turned into three corners of a triangle.

It depends on the catalogue, so it is part of what made the vectors: `projection.npz` beside them holds it (mean float32
(features,), matrix float32 (features, 512)), for a picture that comes later to be laid in the same space.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from offline_jobs.array_types import FloatArray
from offline_jobs.embedding_shards import normalise

PRIOR = 100
"""Imagined images that shrink the moments."""
EXPONENT = -0.25
"""Of an eigenvalue, in its axis' scale: 0 is a plain PCA, -0.5 whitens."""


@dataclass(frozen=True)
class Projection:
    """How features become vectors; see the module's docstring."""

    mean: FloatArray
    matrix: FloatArray

    def __call__(self, features: FloatArray) -> FloatArray:
        """float32 (n, features), of any length, to unit rows float32 (n, width); a zero row stays zero."""
        unit = normalise(features)
        there = unit.any(axis=1, keepdims=True)
        return normalise(np.asarray(((unit - self.mean) @ self.matrix) * there, np.float32))

    def save(self, path: Path) -> None:
        """Write it as .npz, without pickle."""
        np.savez(path, mean=self.mean, matrix=self.matrix)


def load_projection(path: Path) -> Projection:
    """What `Projection.save` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return Projection(file["mean"], file["matrix"])


def fit_projection(blocks: Iterable[FloatArray], features: int, width: int) -> Projection:
    """The projection of unit rows that come in blocks (n, features); zero rows are left out.

    One BLAS thread, so that the same images give the same bytes; no more than a block is in memory.
    """
    count, total = 0, np.zeros(features)
    gram: npt.NDArray[np.float64] = np.zeros((features, features))
    with threadpool_limits(1):
        for block in blocks:
            there = block[block.any(axis=1)]
            count += len(there)
            total += there.sum(axis=0, dtype=np.float64)
            gram += there.T @ there
        mean = total / (count + PRIOR)
        centred = gram - np.outer(total, mean) - np.outer(mean, total) + count * np.outer(mean, mean)
        alike = max(float(np.trace(centred)) / max(count, 1), 1e-6) / features
        covariance = (centred + PRIOR * alike * np.eye(features)) / (count + PRIOR)
        values, axes = np.linalg.eigh(covariance)
    axes, values = axes[:, ::-1][:, :width], values[::-1][:width]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(width)])
    return Projection(mean.astype(np.float32), (axes * (values / values[0]) ** EXPONENT).astype(np.float32))
