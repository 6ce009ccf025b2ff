"""k nearest items by cosine: exact, and approximate with its measured recall beside it.

Exact means exact: float32 proposes all that could be a neighbour, float64 decides, and ties go to the lower item_row.
Approximate differs in one thing: some neighbours are not proposed. The parts:

    knn_equal   equal vectors are searched for once
    knn_exact   rows against all, or all pairs of blocks once
    knn_join    lists of similar items against their nearest lists: approximate
    knn_rank    float64 cosines and the order of ties
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offline_jobs.array_types import BoolArray, FloatArray, IntArray, RowArray
from offline_jobs.knn_equal import Distinct, distinct, spread
from offline_jobs.knn_exact import all_pairs, by_rows
from offline_jobs.knn_join import join, make_lists
from offline_jobs.knn_rank import Scores

log = logging.getLogger(__name__)

ALL_PAIRS_FROM = 50_000
"""From so many distinct vectors, looking at each pair once pays for the approximate search that must go before it."""
BOUND_PROBES = 16
"""Lists of that approximate search: what it misses costs a few more pairs to score, not a wrong answer."""


@dataclass(frozen=True)
class Knn:
    """neighbors (items, k) int32, best first, -1 where there is none; weights (items, k) float32 cosine, 0 there."""

    neighbors: IntArray
    weights: FloatArray
    is_exact: bool
    recall: float
    """Share of the exact neighbours that are here: 1 where exact, measured on a sample where approximate."""
    probes: int = 0
    """Lists that each list of the approximate search was compared with; 0 where exact."""

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
    recall: float = 0.98,
    min_recall: float = 0.95,
    recall_sample: int = 1_000,
    seed: int = 0,
    device: str | None = None,
    scratch: Path | None = None,
    title: str = "knn",
) -> Knn:
    """The k nearest present items of each present item, not itself: exact up to so many items, approximate beyond.

    vectors (items, d) float32, unit rows where `present` (items,); absent rows have no edge and nobody has one to them.
    recall: what the approximate search is set to reach; where it measures less than `min_recall` all the same, it
    looks at twice as many lists, and at last gives way to exact search. device: a torch device that searches all rows
    exactly whatever their number, such as "cuda". scratch: a folder in which a long exact search keeps its state.
    """
    groups, table = _distinct_table(vectors, present)
    exact_only = int(present.sum()) <= exact_up_to or device is not None
    if len(groups) < 2 or exact_only:
        return _exact(table, groups, len(vectors), k, device=device, scratch=scratch, title=title, seed=seed)
    rng = np.random.default_rng(seed)
    samples = [np.sort(rng.choice(len(groups), min(recall_sample, len(groups)), replace=False)) for _ in "ab"]
    truths = [by_rows(table, sample, k, title=f"{title}: recall") for sample in samples]
    lists = make_lists(table, seed)
    probes = enough_probes(lists.recall(samples[0], truths[0][0]), recall)
    while True:
        found, scores = join(table, lists, probes, k, title=title)
        # Measured on items that had no part in choosing the number of lists.
        measured = _item_recall(table, groups, samples[1], truths[1], (found[samples[1]], scores[samples[1]]))
        if measured >= min_recall:
            log.info("%s: recall %.4f with %d lists", title, measured, probes)
            return _as_items(table, groups, found, scores, len(vectors), recall=measured, probes=probes)
        if probes >= lists.probes.shape[1]:
            log.warning("%s: recall %.4f even with %d lists; searching exactly", title, measured, probes)
            return _exact(table, groups, len(vectors), k, scratch=scratch, title=title, seed=seed, bounds=scores[:, -1])
        log.warning("%s: recall %.4f with %d lists, below %.4f; looking further", title, measured, probes, min_recall)
        probes = min(2 * probes, lists.probes.shape[1])


def exact_nearest(vectors: FloatArray, present: BoolArray, k: int, *, title: str = "knn") -> Knn:
    """The exact k nearest present items of each present item; see `nearest`."""
    return nearest(vectors, present, k, exact_up_to=len(vectors), title=title)


def enough_probes(by_probes: Scores, recall: float) -> int:
    """The fewest lists whose share of the exact neighbours, by number of lists (probes,), is `recall`; else all."""
    enough = np.flatnonzero(by_probes >= recall)
    return int(enough[0]) + 1 if len(enough) else len(by_probes)


def recall_against(exact: IntArray, approximate: IntArray) -> float:
    """Share of the exact neighbours (rows, k) that the approximate ones (rows, k) hold; -1 counts on neither side."""
    there = exact >= 0
    hit = (exact[:, :, None] == approximate[:, None, :]).any(axis=2) & there
    return float(hit.sum() / max(int(there.sum()), 1))


def _distinct_table(vectors: FloatArray, present: BoolArray) -> tuple[Distinct, FloatArray]:
    """Groups of equal vectors and the distinct ones (groups, d); no copy where all are present and distinct."""
    groups = distinct(vectors, np.flatnonzero(present).astype(np.int32))
    if len(groups) == len(vectors):
        return groups, np.ascontiguousarray(vectors, dtype=np.float32)
    return groups, np.ascontiguousarray(vectors[groups.first], dtype=np.float32)


def _exact(
    table: FloatArray,
    groups: Distinct,
    items: int,
    k: int,
    *,
    device: str | None = None,
    scratch: Path | None = None,
    title: str,
    seed: int,
    bounds: Scores | None = None,
) -> Knn:
    if device is None and len(groups) >= ALL_PAIRS_FROM:

        def reached() -> Scores:
            if bounds is not None:
                return bounds
            return join(table, make_lists(table, seed), BOUND_PROBES, k, title=f"{title}: bounds")[1][:, -1]

        found, scores = all_pairs(table, reached, k, scratch=scratch, title=title)
    else:
        found, scores = by_rows(table, np.arange(len(groups)), k, device=device, title=title)
    return _as_items(table, groups, found, scores, items, recall=1.0, probes=0)


def _as_items(
    table: FloatArray, groups: Distinct, found: IntArray, scores: Scores, items: int, *, recall: float, probes: int
) -> Knn:
    neighbors = np.full((items, found.shape[1]), -1, np.int32)
    weights = np.zeros((items, found.shape[1]), np.float32)
    members, ids, values = spread(table, groups, np.arange(len(groups)), found, scores)
    neighbors[members] = ids
    weights[members] = np.where(ids >= 0, values, 0.0)
    return Knn(neighbors, weights, is_exact=probes == 0, recall=recall, probes=probes)


def _item_recall(
    table: FloatArray,
    groups: Distinct,
    asked: RowArray,
    exact: tuple[IntArray, Scores],
    got: tuple[IntArray, Scores],
) -> float:
    """Recall over the items of the asked groups (a,), equal items spread out on both sides."""
    return recall_against(spread(table, groups, asked, *exact)[1], spread(table, groups, asked, *got)[1])
