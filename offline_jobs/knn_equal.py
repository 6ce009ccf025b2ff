"""Equal vectors searched for once: a catalogue repeats titles and photos, and 10,000 equal items tie with one another.

The search sees each distinct vector once, under its lowest item_row; afterwards every neighbour that stands for equal
items is spread out to them, so that equal cosines still go to the lower item_row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offline_jobs.array_types import FloatArray, IntArray, RowArray
from offline_jobs.knn_rank import Scores, cosines, keep_best

CHUNK = 8_192
"""Rows hashed at once."""
MIXER = np.uint64(0x9E3779B97F4A7C15)
"""Spreads the bits of a number over 64 (the golden ratio's)."""
SPREAD = 4_000_000
"""Pairs spread out at once, at most (24 bytes each, sorted)."""


@dataclass(frozen=True)
class Distinct:
    """Groups of items with equal vectors, ordered by their first item."""

    first: RowArray
    """(groups,) lowest item_row of each group, ascending."""
    items: RowArray
    """(items,) present item rows, by group and then ascending."""
    start: RowArray
    """(groups + 1,) where each group begins in `items`."""

    def __len__(self) -> int:
        return len(self.first)

    def sizes(self) -> RowArray:
        """Items of each group (groups,)."""
        return np.diff(self.start)


def distinct(vectors: FloatArray, rows: RowArray, seed: int = 0) -> Distinct:
    """Group the item rows `rows` (n,), ascending, by equal vectors (their bytes).

    By a 64-bit hash that is then verified: a row whose hash meets another vector's stays a group of its own.
    """
    _, first, group = np.unique(_hashes(vectors, rows, seed), return_index=True, return_inverse=True)
    leader = first[group]  # position in rows of the first with that hash
    others = np.flatnonzero(leader != np.arange(len(rows)))
    for start in range(0, len(others), CHUNK):
        few = others[start : start + CHUNK]
        same = (vectors[rows[few]] == vectors[rows[leader[few]]]).all(axis=1)
        leader[few[~same]] = few[~same]
    order = np.argsort(leader, kind="stable")
    opens = np.flatnonzero(np.diff(leader[order], prepend=-1))
    return Distinct(rows[leader[order][opens]], rows[order], np.append(opens, len(rows)))


def _hashes(vectors: FloatArray, rows: RowArray, seed: int) -> npt.NDArray[np.uint64]:
    """A 64-bit hash (n,) of each row's bytes: its numbers mixed, times random odd weights."""
    weights = np.random.default_rng(seed).integers(0, 2**63, vectors.shape[1], dtype=np.uint64) * 2 + 1
    hashes = np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), CHUNK):
        block = np.ascontiguousarray(vectors[rows[start : start + CHUNK]], dtype=np.float32).view(np.uint32)
        mixed = block * MIXER
        hashes[start : start + CHUNK] = ((mixed ^ (mixed >> np.uint64(29))) * weights).sum(axis=1, dtype=np.uint64)
    return hashes


def spread(
    table: FloatArray, groups: Distinct, asked: RowArray, found: IntArray, scores: Scores
) -> tuple[RowArray, IntArray, Scores]:
    """From neighbouring groups to neighbouring items.

    table (groups, d): the distinct vectors; asked (a,): groups; found (a, k): each one's k nearest other groups, -1
    for none, with scores (a, k). Returns the items (n,) of the asked groups, by group, and their neighbours (n, k)
    as item rows with scores (n, k), -inf where there is none.
    """
    k = found.shape[1]
    sizes = groups.sizes()
    best = np.full((len(asked), k + 1), -1, np.int32)
    best_scores = np.full((len(asked), k + 1), -np.inf)
    best[:, :k] = np.where(found >= 0, groups.first[found], -1)
    best_scores[:, :k] = scores
    many = np.flatnonzero((sizes[asked] > 1) | ((sizes[found] > 1) & (found >= 0)).any(axis=1))
    step = max(1, SPREAD // (k + 1) ** 2)
    for part in (many[at : at + step] for at in range(0, len(many), step)):
        own = asked[part].astype(np.int64)
        candidates = np.concatenate([own[:, None], found[part]], axis=1)
        their_scores = np.concatenate([cosines(table, own, own)[:, None], scores[part]], axis=1).ravel()
        taken = np.where(candidates >= 0, np.minimum(sizes[candidates], k + 1), 0).ravel()
        rank = np.arange(taken.sum()) - np.repeat(np.cumsum(taken) - taken, taken)
        items = groups.items[np.repeat(groups.start[candidates.ravel()], taken) + rank]
        row = np.repeat(np.repeat(np.arange(len(part)), k + 1), taken)
        ids, values = np.full((len(part), k + 1), -1, np.int32), np.full((len(part), k + 1), -np.inf)
        keep_best(ids, values, row, items, np.repeat(their_scores, taken))
        best[part], best_scores[part] = ids, values
    counts = sizes[asked]
    of = np.repeat(np.arange(len(asked)), counts)
    rank = np.arange(len(of)) - (np.cumsum(counts) - counts)[of]
    members = groups.items[groups.start[asked][of] + rank]
    if len(of) == len(asked) and not len(many):
        return members, best[:, :k], best_scores[:, :k]
    itself = best[of] == members[:, None]
    place = np.where(itself.any(axis=1), itself.argmax(axis=1), k)
    at = np.arange(k) + (np.arange(k) >= place[:, None])
    return members, np.take_along_axis(best[of], at, axis=1), np.take_along_axis(best_scores[of], at, axis=1)
