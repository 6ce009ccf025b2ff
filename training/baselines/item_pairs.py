"""Products of items with items in blocks of bounded memory, and each item's largest entries of them.

What the models of neighboring items share: ItemKNN, RP3beta and sparse EASE all start from interactions times
interactions, a matrix (items, items) whose rows are long for popular items.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from service.neighborhood import Relation
from training.ranking_metrics import Scores

PRODUCTS_A_BLOCK = 20_000_000
"""Multiplications a block, and so at most as many stored values: 8 bytes each, and as much again for sorting."""


def products(left: sp.csr_matrix, right: sp.csr_matrix) -> Iterator[tuple[slice, sp.csr_matrix]]:
    """Blocks of rows of `left @ right`: (n, m), (m, p) -> each (block, p), columns ascending, with its rows of n.

    A block is as many rows as PRODUCTS_A_BLOCK allows, but one row at least.
    """
    pattern = sp.csr_matrix((np.ones(left.nnz), left.indices, left.indptr), left.shape)
    spent = np.cumsum(pattern @ np.diff(right.indptr).astype(np.float64))
    start = 0
    while start < left.shape[0]:
        before = spent[start - 1] if start else 0.0
        stop = max(start + 1, int(np.searchsorted(spent, before + PRODUCTS_A_BLOCK, side="right")))
        block = (left[start:stop] @ right).tocsr()
        block.sort_indices()
        yield slice(start, stop), block
        start = stop


def row_of(matrix: sp.csr_matrix) -> npt.NDArray[np.int64]:
    """The row of each stored value: (nnz,)."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def largest(matrix: sp.csr_matrix, k: int) -> sp.csr_matrix:
    """The k largest positive values of each row of a float32 matrix; of equal ones those of the smaller columns.

    Columns must ascend, as they do in what comes back.
    """
    value = matrix.data
    assert value.dtype == np.float32
    row = row_of(matrix)
    kept = value > 0
    if len(value) and np.diff(matrix.indptr).max() > k:
        # Bits of positive floats ascend as the floats do: one sort by row, then by falling value.
        key = (row.astype(np.uint64) << np.uint64(32)) | ~np.maximum(value, 0).view(np.uint32)
        order = np.argsort(key, kind="stable")
        place = np.arange(len(value)) - matrix.indptr[row]
        kept[order[place >= k]] = False
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=matrix.shape[0]))])
    return sp.csr_matrix((value[kept], matrix.indices[kept], indptr), matrix.shape)


def empty_graph(num_items: int, degree: int) -> Relation:
    """An item graph without edges, to be filled: (items, degree) of -1 and 0."""
    return Relation(np.full((num_items, degree), -1, np.int32), np.zeros((num_items, degree), np.float32))


def write_largest(graph: Relation, rows: slice, block: sp.csr_matrix) -> None:
    """Fill `rows` of an empty item graph with the largest positive values of a block (rows, items), largest first.

    As `largest`: float32, columns ascending, of equal values those of the smaller columns.
    """
    best = largest(block, graph.neighbors.shape[1])
    row = row_of(best)
    order = np.lexsort((best.indices, -best.data, row))
    place = np.arange(best.nnz) - best.indptr[row]
    graph.neighbors[rows.start + row, place] = best.indices[order]
    graph.weights[rows.start + row, place] = best.data[order]


def linear_scores(histories: sp.csr_matrix, weights: sp.csr_matrix) -> Scores:
    """A user's score of an item is the sum of its weights from the history: (users, items), (items, items) float32."""
    return lambda users: np.asarray((histories[users] @ weights).toarray(), np.float32)
