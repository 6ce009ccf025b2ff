"""What the re-ranker sees around a shopper: the last events, and the item graph between them and the candidates.

Training and serving both call these two functions, so a model meets online exactly what it was fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SECONDS_A_DAY = 86_400.0


@dataclass(frozen=True)
class Relation:
    """One edge type of the item graph, constant degree K, as two aligned tables."""

    neighbors: npt.NDArray[np.int32]
    """(items, K); -1 where an item has fewer than K neighbors."""
    weights: npt.NDArray[np.float32]
    """(items, K); 0 where padded."""


@dataclass(frozen=True)
class History:
    """A shopper's last events, newest first, padded at the end to a fixed length L."""

    rows: npt.NDArray[np.int32]
    """(L,) item rows; 0 where padded."""
    mask: npt.NDArray[np.float32]
    """(L,) 1 for an event, 0 for padding."""
    age_days: npt.NDArray[np.float32]
    """(L,) days between the event and `now`, never negative; 0 where padded."""


def last_events(rows: npt.NDArray[np.int32], times: npt.NDArray[np.int64], *, now: int, length: int) -> History:
    """The newest `length` events of `rows` (n,), which happened at `times` (n,) in unix seconds, oldest first."""
    kept = min(len(rows), length)
    padded = np.zeros(length, np.int32)
    mask = np.zeros(length, np.float32)
    age = np.zeros(length, np.float32)
    if kept:
        padded[:kept] = rows[-kept:][::-1]
        mask[:kept] = 1.0
        age[:kept] = np.maximum((now - times[-kept:][::-1]) / SECONDS_A_DAY, 0.0)
    return History(padded, mask, age)


def edges(
    candidates: npt.NDArray[np.int32], history: History, relations: Sequence[Relation]
) -> npt.NDArray[np.float32]:
    """Weights (C, L, R) of the item graph from each history item to each candidate; 0 where there is no edge.

    `candidates` (C,) are distinct item rows. An edge h -> c exists in relation r where c is among r's neighbors of h.
    """
    out = np.zeros((len(candidates), len(history.rows), len(relations)), np.float32)
    if not len(candidates):
        return out
    order = np.argsort(candidates, kind="stable")
    ordered = candidates[order]
    events = int(history.mask.sum())
    for r, relation in enumerate(relations):
        near = relation.neighbors[history.rows[:events]]
        position = np.searchsorted(ordered, near)
        np.minimum(position, len(ordered) - 1, out=position)
        event, slot = np.nonzero(ordered[position] == near)
        out[order[position[event, slot]], event, r] = relation.weights[history.rows[event], slot]
    return out
