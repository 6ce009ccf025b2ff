"""Which items the same shopper bought close in time, and how well vectors find them.

Pairs to learn from come from training rows alone (split 0): `training_pairs` never sees another row. Pairs to measure
with lead from what a shopper bought to an item of the held-out split (`held_out_pairs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from offline_jobs.array_types import BoolArray, FloatArray, IntArray
from service.errors import DataError
from training.dataset import TRAIN

DAY = 86_400


@dataclass(frozen=True)
class Interactions:
    """Purchases: one user, one item, a time (unix seconds) and a split a row."""

    user_row: IntArray
    item_row: IntArray
    timestamp: npt.NDArray[np.int64]
    split: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.user_row)

    def where(self, mask: BoolArray) -> Interactions:
        """The rows that `mask` (rows,) keeps."""
        return Interactions(self.user_row[mask], self.item_row[mask], self.timestamp[mask], self.split[mask])


def read_interactions(split_directory: Path, num_items: int) -> Interactions:
    """The split stage's interactions, repeated purchases of an item merged. DataError where a row is out of range."""
    path = split_directory / "interactions.npz"
    with np.load(path) as file:
        rows = Interactions(
            file["user_row"].astype(np.int32),
            file["item_row"].astype(np.int32),
            file["timestamp"].astype(np.int64),
            file["split"].astype(np.int8),
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
    kept = order[first]
    return Interactions(rows.user_row[kept], rows.item_row[kept], rows.timestamp[kept], rows.split[kept])


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


def recall_of_co_bought(
    vectors: FloatArray,
    present: BoolArray,
    pairs: IntArray,
    *,
    k: int,
    candidates: BoolArray | None = None,
    max_queries: int = 2_000,
    seed: int = 0,
) -> float:
    """Mean over query items of the share of their targets among the k nearest candidates by cosine.

    vectors (items, d) unit rows; present (items,): an absent query or target is a miss, not left out; pairs (p, 2)
    as `held_out_pairs` gives them; candidates (items,): who may be found, all
    present items by default. NaN where there are no pairs.
    """
    if not len(pairs):
        return float("nan")
    queries, start, count = np.unique(pairs[:, 0], return_index=True, return_counts=True)
    chosen = np.arange(len(queries))
    if len(chosen) > max_queries:
        chosen = np.sort(np.random.default_rng(seed).choice(len(queries), max_queries, replace=False))
    may = present if candidates is None else present & candidates
    shares = np.zeros(len(chosen))
    for block in np.array_split(np.arange(len(chosen)), max(1, len(chosen) // 256)):
        rows = queries[chosen[block]]
        scores = vectors[rows] @ vectors.T
        scores[:, ~may] = -np.inf
        scores[np.arange(len(rows)), rows] = -np.inf
        best = np.argpartition(-scores, min(k, scores.shape[1] - 1), axis=1)[:, :k]
        for place, at in enumerate(block):
            query = chosen[at]
            targets = pairs[start[query] : start[query] + count[query], 1]
            found = best[place][np.isfinite(scores[place, best[place]])]
            shares[at] = np.isin(targets, found).mean() if present[rows[place]] else 0.0
    return float(shares.mean())
