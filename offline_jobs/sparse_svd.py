"""A tall sparse table's leading directions, without a dense table as tall as it.

Subspace iteration with a random start (Halko, Martinsson, Tropp 2011, algorithm 4.4) on the side of the columns: each
round is Y <- orthonormal(A' (A Y)), a block of rows at a time, so the only dense tables are (columns, rank + 10) and
one block's. The rows are summed in the blocks' order: the same bytes for any number of threads.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from scipy import sparse

FloatTable = npt.NDArray[np.float32]
OVERSAMPLING = 10
ROUNDS = 5
BLOCK = 16_384
"""Rows at once."""


def leading_directions(table: sparse.csr_matrix, rank: int, *, seed: int, threads: int) -> FloatTable:
    """Float32 (columns, rank): the first right singular vectors of `table` (rows, columns), the strongest first.

    Of each, the largest number by size is positive: a sign that the decomposition leaves open.
    """
    width = min(rank + OVERSAMPLING, *table.shape)
    blocks = [table[start : start + BLOCK] for start in range(0, table.shape[0], BLOCK)]
    basis = np.random.default_rng(seed).standard_normal((table.shape[1], width), np.float32)
    with ThreadPoolExecutor(threads) as pool:

        def squared(y: FloatTable) -> FloatTable:
            """A' A y."""
            total = np.zeros_like(y)
            for first in range(0, len(blocks), threads):  # a few at a time: each result is as large as y
                for part in pool.map(lambda block: block.T @ (block @ y), blocks[first : first + threads]):
                    total += part
            return total

        for _ in range(ROUNDS):
            basis = np.linalg.qr(squared(basis))[0]
        inner = basis.T.astype(np.float64) @ squared(basis)
    strength, rotation = np.linalg.eigh((inner + inner.T) / 2)
    directions = basis @ rotation[:, np.argsort(-strength, kind="stable")[:rank]].astype(np.float32)
    largest = np.abs(directions).argmax(axis=0)
    return np.asarray(directions * np.sign(directions[largest, np.arange(directions.shape[1])]), np.float32)
