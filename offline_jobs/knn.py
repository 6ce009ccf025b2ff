"""k nearest items by cosine: exact, and approximate with its measured recall beside it.

Exact means exact: faiss proposes a few more than k in float32, the proposals are scored again in float64, and a row
whose last proposal is as good as its k-th (many equal items) gets all that could tie. Ties go to the lower item_row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from rich.console import Console
from rich.progress import track

from offline_jobs.array_types import BoolArray, FloatArray, IntArray, RowArray

SPARE = 12
"""Proposals beyond k; rows with more equal items than that take the slow way."""
ROUNDING = 1e-5
"""float32 dot products of unit vectors are nearer than this to the true cosine."""


@dataclass(frozen=True)
class Knn:
    """neighbors (items, k) int32, best first, -1 where there is none; weights (items, k) float32 cosine, 0 there."""

    neighbors: IntArray
    weights: FloatArray
    is_exact: bool
    recall: float
    """Share of the exact neighbours that are here: 1 where exact, measured on a sample where approximate."""

    def num_edges(self) -> int:
        """Directed edges."""
        return int((self.neighbors >= 0).sum())

    def save(self, path: Path) -> None:
        """Write `neighbors` and `weights` as npz, without pickle."""
        np.savez(path, neighbors=self.neighbors, weights=self.weights)


def nearest(
    vectors: FloatArray,
    present: BoolArray,
    k: int,
    *,
    exact_up_to: int = 100_000,
    ef_search: int = 128,
    recall_sample: int = 1_000,
    seed: int = 0,
    title: str = "knn",
) -> Knn:
    """The k nearest present items of each present item, not itself: exact up to so many items, HNSW beyond.

    vectors (items, d) float32, unit rows where `present` (items,); absent rows have no edge and nobody has one to them.
    """
    rows = np.flatnonzero(present)
    if len(rows) <= exact_up_to:
        return exact_nearest(vectors, present, k, title=title)
    approximate = approximate_nearest(vectors, present, k, ef_search=ef_search)
    sample = np.sort(np.random.default_rng(seed).choice(rows, min(recall_sample, len(rows)), replace=False))
    exact = exact_nearest(vectors, present, k, queries=sample, title=f"{title}: recall")
    return Knn(
        approximate.neighbors,
        approximate.weights,
        is_exact=False,
        recall=recall_against(exact.neighbors[sample], approximate.neighbors[sample]),
    )


def exact_nearest(
    vectors: FloatArray,
    present: BoolArray,
    k: int,
    *,
    queries: RowArray | None = None,
    block: int = 1_024,
    title: str = "knn",
) -> Knn:
    """Exact neighbours of `queries` (item rows, all present items by default); rows not asked for are left empty."""
    result = _empty(len(vectors), k)
    rows = np.flatnonzero(present)
    asked = rows if queries is None else np.asarray(queries, dtype=np.int64)
    asked = asked[present[asked]]
    if len(rows) < 2 or not len(asked):
        return result
    table = np.ascontiguousarray(vectors[rows], dtype=np.float32)
    index = faiss.IndexFlatIP(table.shape[1])
    index.add(table)
    want = min(k + 1 + SPARE, len(rows))  # itself is among them
    blocks = [asked[start : start + block] for start in range(0, len(asked), block)]
    for part in track(blocks, description=title, console=Console(stderr=True), transient=True):
        scores, places = index.search(np.ascontiguousarray(vectors[part], dtype=np.float32), want)
        found = rows[places]
        _store(result, part, *_best(vectors, part, found, k))
        if want < len(rows):
            # The k-th neighbour scores at least as the (k+1)-th proposal; all that could tie with it must be proposed.
            least = scores[:, k] - ROUNDING
            unsure = np.flatnonzero(scores[:, -1] >= least)
            for few in np.array_split(unsure, -(-len(unsure) // 256)) if len(unsure) else []:
                everything = vectors[part[few]] @ table.T
                for at, all_scores in zip(few, everything, strict=True):
                    possible = rows[np.flatnonzero(all_scores >= least[at])]
                    _store(result, part[at : at + 1], *_best(vectors, part[at : at + 1], possible[None, :], k))
    return result


def approximate_nearest(
    vectors: FloatArray, present: BoolArray, k: int, *, ef_search: int = 128, ef_construction: int = 120
) -> Knn:
    """Neighbours by HNSW32 over inner product; `recall` is not measured here (NaN), see `nearest`."""
    result = _empty(len(vectors), k)
    rows = np.flatnonzero(present)
    if len(rows) < 2:
        return result
    table = np.ascontiguousarray(vectors[rows], dtype=np.float32)
    index = faiss.IndexHNSWFlat(table.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = ef_construction
    index.hnsw.efSearch = max(ef_search, k + 1)
    index.add(table)
    for start in range(0, len(rows), 4_096):
        part = rows[start : start + 4_096]
        _, places = index.search(table[start : start + 4_096], min(k + 1, len(rows)))
        found = np.where(places >= 0, rows[places], -1)
        _store(result, part, *_best(vectors, part, found, k))
    return Knn(result.neighbors, result.weights, is_exact=False, recall=float("nan"))


def recall_against(exact: IntArray, approximate: IntArray) -> float:
    """Share of the exact neighbours (rows, k) that the approximate ones (rows, k) hold; -1 counts on neither side."""
    there = exact >= 0
    hit = (exact[:, :, None] == approximate[:, None, :]).any(axis=2) & there
    return float(hit.sum() / max(int(there.sum()), 1))


def _empty(items: int, k: int) -> Knn:
    return Knn(np.full((items, k), -1, np.int32), np.zeros((items, k), np.float32), is_exact=True, recall=1.0)


def _store(result: Knn, rows: RowArray, neighbors: IntArray, weights: FloatArray) -> None:
    width = neighbors.shape[1]
    result.neighbors[rows, :width] = neighbors
    result.weights[rows, :width] = weights


def _best(vectors: FloatArray, rows: RowArray, found: RowArray, k: int) -> tuple[IntArray, FloatArray]:
    """The k best of `found` (rows or 1, m; -1 for none) for each row by float64 cosine, then by lower item_row."""
    found = np.broadcast_to(found, (len(rows), found.shape[1]))
    scores = np.empty(found.shape, np.float64)
    for at, row in enumerate(rows):
        scores[at] = (vectors[found[at]].astype(np.float64) * vectors[row].astype(np.float64)).sum(axis=1)
    scores[(found == rows[:, None]) | (found < 0)] = -np.inf
    order = np.lexsort((found, -scores), axis=1)[:, :k]
    best = np.take_along_axis(scores, order, axis=1)
    there = np.isfinite(best)
    neighbors = np.where(there, np.take_along_axis(found, order, axis=1), -1).astype(np.int32)
    return neighbors, np.where(there, best, 0.0).astype(np.float32)
