"""Which items the same shopper bought close in time, and how well vectors find them.

Pairs to learn from come from training rows alone (split 0): `training_pairs` never sees another row. Pairs to measure
with lead from what a shopper bought to an item of the held-out split (`held_out_pairs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from offline_jobs.array_types import BoolArray, FloatArray, IntArray
from service.errors import DataError
from training.dataset import TRAIN, Interactions

__all__ = [
    "Interactions",
    "Judged",
    "held_out_pairs",
    "merge_repeats",
    "read_interactions",
    "recall_of_co_bought",
    "recalls",
    "training_pairs",
]

DAY = 86_400
QUERIES_AT_ONCE = 256


def read_interactions(split_directory: Path, num_items: int) -> Interactions:
    """The split stage's interactions, repeated purchases of an item merged. DataError where a row is out of range."""
    path = split_directory / "interactions.npz"
    with np.load(path) as file:
        rows = Interactions(
            file["user_row"].astype(np.int32),
            file["item_row"].astype(np.int32),
            file["timestamp"].astype(np.int64),
            file["split"].astype(np.int8),
            num_items=num_items,
        )
    if len(rows) and not (rows.item_row.min() >= 0 and rows.item_row.max() < num_items):
        raise DataError(
            f"item_row goes from {rows.item_row.min()} to {rows.item_row.max()}, the items are {num_items}",
            where=str(path),
            todo="Run ingest, split and the embeddings again on the same data",
        )
    return merge_repeats(rows)


def merge_repeats(rows: Interactions) -> Interactions:
    """One row a (user, item): its lowest split, and the last timestamp in that split; sorted by user, item.

    A training row's fields come from training rows alone: a later repeat in a held-out split changes nothing of it.
    """
    order = np.lexsort((-rows.timestamp, rows.split, rows.item_row, rows.user_row))
    user, item = rows.user_row[order], rows.item_row[order]
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
    return rows.where(order[first])


def training_pairs(rows: Interactions, *, window_days: float, reach: int, seed: int) -> IntArray:
    """Unordered pairs (p, 2) of items that a shopper bought in split 0, close in time and in order."""
    train = rows.where(rows.split == TRAIN)
    left, right = _close_rows(train, window_days=window_days, reach=reach, seed=seed)
    return np.stack([train.item_row[left], train.item_row[right]], axis=1)


def held_out_pairs(rows: Interactions, split: int, *, window_days: float, reach: int, seed: int) -> IntArray:
    """Distinct pairs (p, 2), sorted: an item bought up to `split`, and an item bought close to it in `split`."""
    known = rows.where(rows.split <= split)
    left, right = _close_rows(known, window_days=window_days, reach=reach, seed=seed)
    both = np.concatenate([np.stack([left, right], axis=1), np.stack([right, left], axis=1)])
    both = both[known.split[both[:, 1]] == split]
    return np.unique(known.item_row[both], axis=0).reshape(-1, 2)


def _close_rows(
    rows: Interactions, *, window_days: float, reach: int, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions of two rows of one user at most `reach` purchases and `window_days` apart; ties in seeded order."""
    shuffle = np.random.default_rng(seed).permutation(len(rows))
    order = np.lexsort((shuffle, rows.timestamp, rows.user_row))
    user, time = rows.user_row[order], rows.timestamp[order]
    found = []
    for step in range(1, min(reach, max(len(order) - 1, 0)) + 1):
        close = (user[step:] == user[:-step]) & (time[step:] - time[:-step] <= window_days * DAY)
        at = np.flatnonzero(close)
        found.append(np.stack([order[at], order[at + step]]))
    both = np.concatenate(found, axis=1) if found else np.zeros((2, 0), np.int64)
    return both[0], both[1]


@dataclass(frozen=True)
class Judged:
    """Some query items, the items bought with each, and the items among which they are looked for.

    Everything is a position in `rows`, so that a table need only have those items' vectors.
    """

    rows: npt.NDArray[np.int64]
    """item_row of every item that takes part, ascending."""
    candidates: BoolArray
    """Which of `rows` may be found."""
    queries: npt.NDArray[np.int64]
    """Query items, distinct."""
    targets: npt.NDArray[np.int64]
    """Targets of all queries, one after another."""
    offsets: npt.NDArray[np.int64]
    """(queries + 1,): where each query's targets begin."""

    @classmethod
    def of(
        cls, pairs: IntArray, candidates: BoolArray, *, max_queries: int, max_candidates: int, seed: int = 0
    ) -> Judged:
        """Of pairs (p, 2), as `held_out_pairs` gives them, a sample of so many queries.

        candidates (items,): of more than `max_candidates` the targets and a sample of the others.
        """
        rng = np.random.default_rng(seed)
        queries, start, count = np.unique(pairs[:, 0], return_index=True, return_counts=True)
        chosen = np.arange(len(queries))
        if len(chosen) > max_queries:
            chosen = np.sort(rng.choice(len(queries), max_queries, replace=False))
        lists = [pairs[start[q] : start[q] + count[q], 1] for q in chosen]
        targets = np.concatenate(lists) if lists else np.zeros(0, np.int32)
        found = np.flatnonzero(candidates)
        if len(found) > max_candidates:
            kept = np.unique(targets[candidates[targets]])
            others = np.setdiff1d(found, kept)
            room = max(max_candidates - len(kept), 0)
            found = np.union1d(kept, rng.choice(others, min(room, len(others)), replace=False))
        rows = np.unique(np.concatenate([found, queries[chosen], targets])).astype(np.int64)
        return cls(
            rows=rows,
            candidates=np.isin(rows, found),
            queries=np.searchsorted(rows, queries[chosen]),
            targets=np.searchsorted(rows, targets),
            offsets=np.cumsum([0, *(len(part) for part in lists)]),
        )


def recalls(vectors: FloatArray, present: BoolArray, judged: Judged, *, k: int) -> npt.NDArray[np.float64]:
    """For each query (queries,) the share of its targets among the k nearest candidates by cosine, not itself.

    vectors (rows, d): unit rows; present (rows,): an absent query or target is a miss, not left out.
    """
    table = torch.from_numpy(vectors)
    barred = torch.from_numpy(np.where(present & judged.candidates, 0.0, -np.inf).astype(np.float32))
    hits = np.zeros(len(judged.targets), np.bool_)
    for start in range(0, len(judged.queries), QUERIES_AT_ONCE):
        queries = torch.from_numpy(judged.queries[start : start + QUERIES_AT_ONCE])
        scores = (table[queries] @ table.T).add_(barred)
        scores[torch.arange(len(queries)), queries] = -torch.inf
        score, best = torch.topk(scores, min(k, len(table)), dim=1)
        found = torch.where(score > -torch.inf, best, -1).numpy()
        ends = judged.offsets[start : start + len(queries) + 1]
        of_query = np.repeat(np.arange(len(queries)), np.diff(ends))
        targets = judged.targets[ends[0] : ends[-1]]
        hits[ends[0] : ends[-1]] = (found[of_query] == targets[:, None]).any(axis=1)
    of_query = np.repeat(np.arange(len(judged.queries)), np.diff(judged.offsets))
    shares = np.bincount(of_query, weights=hits, minlength=len(judged.queries)) / np.diff(judged.offsets)
    return shares * present[judged.queries]


def recall_of_co_bought(vectors: FloatArray, present: BoolArray, pairs: IntArray, *, k: int) -> float:
    """The mean of `recalls` over all queries and items, vectors (items, d); NaN where there are no pairs."""
    if not len(pairs):
        return float("nan")
    everyone = np.ones(len(present), np.bool_)
    judged = Judged.of(pairs, everyone, max_queries=len(pairs), max_candidates=len(present))
    return float(recalls(vectors[judged.rows], present[judged.rows], judged, k=k).mean())
