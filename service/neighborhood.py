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


def no_places(num_items: int) -> npt.NDArray[np.int32]:
    """The scratch table of `edges`: (items,) of -1."""
    return np.full(num_items, -1, np.int32)


def edges(
    candidates: npt.NDArray[np.int32],
    history: History,
    relations: Sequence[Relation],
    places: npt.NDArray[np.int32],
) -> npt.NDArray[np.float32]:
    """Weights (C, L, R) of the item graph from each history item to each candidate; 0 where there is no edge.

    `candidates` (C,) are distinct item rows. An edge h -> c exists in relation r where c is among r's neighbors of h.
    `places` is `no_places` of the catalog, kept by the caller: it is written to meanwhile and left as it was, so that
    no search over hundreds of neighbors an event is needed. Two threads must not share one.
    """
    out = np.zeros((len(candidates), len(history.rows), len(relations)), np.float32)
    events = history.rows[: int(history.mask.sum())]
    places[candidates] = np.arange(len(candidates), dtype=np.int32)
    for r, relation in enumerate(relations):
        near = relation.neighbors[events]
        place = places[near]  # a neighbor of -1 reads the last item's place, and is dropped below
        event, slot = np.nonzero((place >= 0) & (near >= 0))
        out[place[event, slot], event, r] = relation.weights[events[event], slot]
    places[candidates] = -1
    return out
