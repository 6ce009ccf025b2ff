"""The linear item graph: in closed form, what each item of a history says for every other item.

    M = B + (t A_t + v A_v) p^a + c A_t B + d B A_t + e P p^b

    B    EASE (Steck 2019, arXiv:1905.03375): ridge regression of every item on all others
    A    symmetric-normalised graph of nearest items by text (t) or by image (v), edges without weights
    P    R̂ᵀR̂, two steps of a random walk over R̂ = D_u^-1/2 R D_i^-1/2
    p    an item's interactions, divided by their mean; it scales columns, so that popular items come first

A shopper's score is the sum of M's rows over the history. Each row keeps its largest entries: that makes an item graph
of constant degree, an edge type to the graph-attention network and to the re-ranker alike.

Dense in the items with interactions up to `max_dense_items`; beyond, B comes from a sparse approximate inverse
(`baselines/sparse_ease.py`), and every product is pruned.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict, Field

from service.neighborhood import Relation
from training.baselines.ease import ease_weights
from training.baselines.item_pairs import empty_graph, largest, products, row_of, write_largest
from training.baselines.sparse_ease import inverse_of_gram
from training.dataset import degree_normalised, relation_matrix

BLOCK = 512
"""Rows of M that are made at once."""
Triplets = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]
PRUNED = 4
"""Beyond the dense size, B keeps so many times the edges that M keeps."""


class LinearSettings(BaseModel):
    """How the linear item graph is made."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    ridge: float = Field(300.0, gt=0)
    """EASE's ridge."""
    text: float = Field(0.08, ge=0)
    """Weight of the nearest by text (t)."""
    image: float = Field(0.032, ge=0)
    """Weight of the nearest by image (v)."""
    text_exponent: float = Field(0.3, ge=0)
    """Exponent of popularity at the nearest by text and image (a)."""
    text_then_ease: float = Field(1.28, ge=0)
    """Weight of EASE over the nearest by text of what the shopper has (c)."""
    ease_then_text: float = Field(0.1, ge=0)
    """Weight of the nearest by text of what EASE finds (d)."""
    walk: float = Field(0.0167, ge=0)
    """Weight of the random walk (e)."""
    walk_exponent: float = Field(0.4, ge=0)
    """Exponent of popularity at the random walk (b)."""
    degree: int = Field(200, ge=1)
    """Edges kept of each item."""
    max_dense_items: int = Field(25_000, ge=0)
    """Most items with interactions for which B is dense: 8 bytes a pair of items, time cubic in them."""
    sparse_neighbors: int = Field(100, ge=1)
    """Beyond that, neighbors an item in the sparse inverse."""


def linear_graph(train: sp.csr_matrix, relations: dict[str, Relation], settings: LinearSettings) -> Relation:
    """The graph of a binary (users, items) matrix; `relations` holds `text_knn` and `image_knn` over all its items.

    An edge h -> c weighs what an event of h says for c. Items without interactions have edges by content alone. Raises
    InputError where the Gram matrix with its ridge is not positive definite.
    """
    n = train.shape[1]
    popularity = np.asarray(train.sum(0), np.float32).ravel()
    popularity /= max(float(popularity.mean()), 1e-12)
    dense = np.count_nonzero(popularity) <= settings.max_dense_items
    ease = _DenseEase(train, settings) if dense else _SparseEase(train, settings)
    text, image = (relation_matrix(relations[name], weighted=False) for name in ("text_knn", "image_knn"))
    content = (settings.text * text + settings.image * image) @ sp.diags(popularity**settings.text_exponent)
    walk = degree_normalised(train)
    back = walk.T.tocsr()
    toward = settings.walk * popularity**settings.walk_exponent
    graph = empty_graph(n, settings.degree)
    for start in range(0, n, BLOCK):
        rows = slice(start, min(start + BLOCK, n))
        sparse = content[rows] + (back[rows] @ walk) @ sp.diags(toward)
        _keep(graph, rows, ease.rows(rows, text), sparse.tocsr())
    return graph


def _keep(graph: Relation, rows: slice, linear: npt.NDArray[np.float32] | sp.csr_matrix, other: sp.csr_matrix) -> None:
    """Write the largest entries of `linear + other` (block, n) into the graph's rows, largest first, none to itself."""
    if isinstance(linear, np.ndarray):
        linear[row_of(other), other.indices] += other.data
        linear[np.arange(linear.shape[0]), np.arange(rows.start, rows.stop)] = 0
        k = min(graph.neighbors.shape[1], linear.shape[1])
        best = np.argpartition(-linear, k - 1, axis=1)[:, :k]
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(linear, best, 1), axis=1, kind="stable"), 1)
        value = np.take_along_axis(linear, best, 1)
        graph.neighbors[rows, :k] = np.where(value > 0, best, -1)
        graph.weights[rows, :k] = np.maximum(value, 0)
        return
    block = (linear + other).tocsr().astype(np.float32)
    block.setdiag(0, rows.start)
    block.sort_indices()
    write_largest(graph, rows, block)


class _DenseEase:
    """B + c A_t B + d B A_t, dense over the items with interactions."""

    def __init__(self, train: sp.csr_matrix, settings: LinearSettings) -> None:
        self._settings = settings
        self._warm, self._weights = ease_weights(train, ridge=settings.ridge)
        self._place = np.full(train.shape[1], -1)
        self._place[self._warm] = np.arange(len(self._warm))

    def rows(self, rows: slice, text: sp.csr_matrix) -> npt.NDArray[np.float32]:
        """(block, n) float32."""
        s, weights = self._settings, self._weights
        near = text[rows][:, self._warm]
        out = np.zeros((rows.stop - rows.start, text.shape[1]), np.float32)
        out[:, self._warm] = s.text_then_ease * (near @ weights)
        place = self._place[rows]
        known = np.flatnonzero(place >= 0)
        own = weights[place[known]]
        out[known[:, None], self._warm] += own
        out[known] += s.ease_then_text * (text[self._warm].T @ own.T).T
        return out


class _SparseEase:
    """The same with B = I - P / diag P from a sparse P ≈ KᵀK, each row of B pruned to its largest entries."""

    def __init__(self, train: sp.csr_matrix, settings: LinearSettings) -> None:
        self._settings = settings
        order, factor = inverse_of_gram(train, ridge=settings.ridge, neighbors=settings.sparse_neighbors)
        diagonal = np.asarray(factor.multiply(factor).sum(0), np.float32).ravel()
        parts = list(self._parts(factor, diagonal))
        row, column, value = (np.concatenate(part) for part in zip(*parts, strict=True))
        self._weights = sp.csr_matrix((value, (order[row], order[column])), (train.shape[1],) * 2)

    def _parts(self, factor: sp.csr_matrix, diagonal: npt.NDArray[np.float32]) -> Iterator[Triplets]:
        """Rows, columns and values of B, some rows at a time."""
        for rows, inverse in products(factor.T.tocsr(), factor):
            column = inverse.indices
            row = row_of(inverse)
            value = np.where(row + rows.start == column, 0, -inverse.data / diagonal[column]).astype(np.float32)
            kept = largest(
                sp.csr_matrix((value, column, inverse.indptr), inverse.shape), PRUNED * self._settings.degree
            )
            yield np.repeat(np.arange(rows.start, rows.stop), np.diff(kept.indptr)), kept.indices, kept.data

    def rows(self, rows: slice, text: sp.csr_matrix) -> sp.csr_matrix:
        """(block, n) float32."""
        s, own = self._settings, self._weights[rows]
        return (own + s.text_then_ease * (text[rows] @ self._weights) + s.ease_then_text * (own @ text)).tocsr()
