"""Approximate nearest neighbours of all items at once: each list of an inverted file against its nearest lists.

k-means puts about `LIST_ROWS` similar items in a list. All items of a list are then compared with all items of the
same few lists in one matrix product, so the search runs at the speed of BLAS, and within those lists it is exact.
Which lists a list is compared with is voted by its items: those that are their nearest after their own.
What that finds is known beforehand: a neighbour is found where its list is among those. So how many lists it takes for
a wanted recall is read off a sample's exact neighbours, before the search.
"""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
import scipy.sparse as sp
import torch
from rich.console import Console
from rich.progress import track

from offline_jobs.array_types import FloatArray, IntArray, RowArray
from offline_jobs.knn_exact import in_parallel
from offline_jobs.knn_rank import Scores, dots, keep_best

LIST_ROWS = 192
"""Items a list, on average."""
TRAIN_ROWS, TRAIN_PASSES = 16, 5
"""Items a list that k-means learns from, and how often it goes over them."""
VOTES = 8
"""Nearest lists of an item that count."""
MOST_PROBES = 256
"""Lists that a list is compared with, at most."""
SPARE = 3
"""Proposals beyond k and the item itself: float32 may rank the k-th behind them."""
ELEMENTS = 2**24
"""float32 scores of one step (64 MiB a thread): a crowded list is taken in parts."""


@dataclass(frozen=True)
class Lists:
    """An inverted file over a table (rows, d)."""

    of: RowArray
    """(rows,) the list of each row."""
    order: RowArray
    """(rows,) the rows, list by list."""
    start: RowArray
    """(lists + 1,) where each list begins in `order`."""
    probes: RowArray
    """(lists, at most MOST_PROBES) the lists each is compared with, itself first, best first."""

    def recall(self, asked: RowArray, exact: IntArray) -> Scores:
        """Share of the exact neighbours (a, k) of rows (a,) in the first 1, 2, .. lists probed (probes,)."""
        there = exact >= 0
        row = np.repeat(asked, there.sum(axis=1))
        theirs = self.of[exact[there]]
        at = self.probes[self.of[row]] == theirs[:, None]
        hits = np.bincount(at.argmax(axis=1)[at.any(axis=1)], minlength=self.probes.shape[1])
        return np.cumsum(hits) / max(len(row), 1)


def make_lists(table: FloatArray, seed: int = 0) -> Lists:
    """Divide the rows of a table (rows, d), rows at least 1, in lists by spherical k-means."""
    rows, width = table.shape
    count = max(1, rows // LIST_ROWS)
    sample = np.random.default_rng(seed).choice(rows, min(rows, count * TRAIN_ROWS), replace=False)
    means = faiss.Kmeans(
        width,
        count,
        niter=TRAIN_PASSES,
        spherical=True,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=rows,
    )
    means.train(np.ascontiguousarray(table[np.sort(sample)]))
    near = np.empty((rows, min(VOTES, count)), np.int64)
    for at in range(0, rows, 8_192):
        part = np.ascontiguousarray(table[at : at + 8_192])
        near[at : at + 8_192] = means.index.search(part, near.shape[1])[1]
    of = near[:, 0].astype(np.int32)
    order = np.argsort(of, kind="stable")
    start = np.searchsorted(of[order], np.arange(count + 1))
    closest = means.index.search(means.index.reconstruct_n(), min(count, MOST_PROBES))[1]
    return Lists(of, order, start, _probes(of, near, closest))


def _probes(of: RowArray, near: RowArray, closest: RowArray) -> RowArray:
    """Each list's lists: itself, then by votes in both directions, then by distance of the means.

    of (rows,) and near (rows, votes): the lists of each row; closest (lists, most): each list's nearest by mean.
    """
    count, most = closest.shape
    weight = np.tile(1.0 / np.arange(1, near.shape[1] + 1), len(near))
    votes = sp.csr_matrix((weight, (np.repeat(of, near.shape[1]), near.ravel())), shape=(count, count))
    votes = (votes + votes.T).tocoo()
    # One sortable score for each (list, list) pair: itself, any vote, then the means' ranks; the best of a pair counts.
    row = np.concatenate([np.arange(count), votes.row, np.repeat(np.arange(count), most)])
    col = np.concatenate([np.arange(count), votes.col, closest.ravel()])
    score = np.concatenate([np.full(count, np.inf), votes.data, np.tile(-np.arange(most, dtype=np.float64), count)])
    order = np.lexsort((-score, col, row))
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (np.diff(row[order]) != 0) | (np.diff(col[order]) != 0)
    kept = order[first]
    probes = np.full((count, most), -1, np.int32)
    keep_best(probes, np.zeros((count, most)), row[kept], col[kept], np.minimum(score[kept], 2.0**20))
    return probes


def join(table: FloatArray, lists: Lists, probes: int, k: int, title: str = "knn") -> tuple[IntArray, Scores]:
    """The k nearest other rows of each row in its list's first `probes` lists: (rows, k), -1 for none, and scores."""
    found = np.full((len(table), k), -1, np.int32)
    scores = np.full((len(table), k), -np.inf)
    by_list = table[lists.order]
    slices = [slice(start, end) for start, end in zip(lists.start[:-1], lists.start[1:], strict=True)]

    def one(number: int) -> None:
        near = [slices[probe] for probe in lists.probes[number, :probes]]
        columns = np.concatenate([lists.order[part] for part in near])
        others = np.concatenate([by_list[part] for part in near])
        own = slices[number]
        step = max(1, ELEMENTS // max(len(columns), 1))
        for start in range(own.start, own.stop, step):
            part = slice(start, min(start + step, own.stop))
            proposed = torch.from_numpy(by_list[part] @ others.T).topk(min(k + 1 + SPARE, len(columns)), sorted=False)
            _decide(found, scores, lists.order[part], by_list[part], columns, others, proposed.indices.numpy())

    numbers = np.flatnonzero(np.diff(lists.start))
    for _ in track(
        in_parallel(one, numbers.tolist()),
        description=title,
        total=len(numbers),
        console=Console(stderr=True),
        transient=True,
    ):
        pass
    return found, scores


def _decide(
    found: IntArray,
    scores: Scores,
    rows: RowArray,
    vectors: FloatArray,
    columns: RowArray,
    others: FloatArray,
    proposed: RowArray,
) -> None:
    """Write the best of `proposed` (rows, m), positions in `columns`, into the tables, by float64 cosine."""
    left = np.repeat(np.arange(len(rows)), proposed.shape[1])
    col = columns[proposed.ravel()]
    other = col != rows[left]
    left, col, right = left[other], col[other], proposed.ravel()[other]
    keep_best(found, scores, rows[left], col, dots(vectors, left, others, right))
