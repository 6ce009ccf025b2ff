"""Who is nearest, decided: cosines in float64, and an order in which equal cosines go to the lower row.

Searching in float32 only proposes. Cosines that differ by less than 2^-40 count as equal, because the order in which
a processor adds 384 products changes the last bits, and two equal items must not trade places with it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from offline_jobs.array_types import FloatArray, IntArray, RowArray
from offline_jobs.compute import available_threads

Scores = npt.NDArray[np.float64]
GRID = 2.0**40
"""Cosines are compared in steps of 1 / GRID (1e-12)."""
CHUNK = 512
"""Pairs scored at once: 384 numbers each in float64, twice, stay in the cache."""
TASK = 8_192
"""Pairs that a thread takes at a time."""


def cosines(table: FloatArray, left: RowArray, right: RowArray) -> Scores:
    """Float64 dot products (pairs,) of the rows `left` and `right` (pairs,) of a table (rows, d), on all cores."""
    scores = np.empty(len(left), np.float64)

    def score(start: int) -> None:
        part = slice(start, start + TASK)
        scores[part] = dots(table, left[part], table, right[part])

    with ThreadPoolExecutor(available_threads(0)) as pool:
        list(pool.map(score, range(0, len(left), TASK)))
    return scores


def dots(ours: FloatArray, left: RowArray, theirs: FloatArray, right: RowArray) -> Scores:
    """Float64 dot products (pairs,) of rows `left` of one table (a, d) with rows `right` of another (b, d)."""
    scores = np.empty(len(left), np.float64)
    for start in range(0, len(left), CHUNK):
        part = slice(start, start + CHUNK)
        np.vecdot(ours[left[part]].astype(np.float64), theirs[right[part]].astype(np.float64), out=scores[part])
    return scores


def keep_best(neighbors: IntArray, scores: Scores | FloatArray, row: RowArray, col: RowArray, score: Scores) -> None:
    """Write each row's best of the pairs (row, col), by score and then by lower col, into the tables' rows (rows, k).

    Pairs must be distinct; what the tables hold of these rows is overwritten from the left, as far as there are pairs.
    """
    order = np.lexsort((col, -np.rint(score * GRID), row))
    row, col, score = row[order], col[order], score[order]
    place = np.arange(len(row)) - np.searchsorted(row, row, side="left")
    best = place < neighbors.shape[1]
    neighbors[row[best], place[best]] = col[best]
    scores[row[best], place[best]] = score[best]
