"""What the models see around a shopper and around a new item: last events, edges to the candidates, neighbors' shares.

Training and serving both call these functions, so a model meets online exactly what it was fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

SECONDS_A_DAY = 86_400.0
SHARPNESS = 16
"""Exponent of a cosine in its share."""
SIEVE = 1 << 16
"""Slots of the table that tells most neighbors from candidates: a power of two."""


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
    length, count = len(history.rows), len(relations)
    out = np.zeros((len(candidates), length, count), np.float32)
    events = history.rows[: int(history.mask.sum())].astype(np.intp)
    layout = _layout(len(events), tuple(relation.neighbors.shape[1] for relation in relations))
    near = np.empty(len(layout.cell), np.int32)
    for relation, (start, end) in zip(relations, layout.spans, strict=True):
        part = near[start:end].reshape(len(events), relation.neighbors.shape[1])
        relation.neighbors.take(events, axis=0, out=part, mode="clip")  # any other mode copies once more
    # Few of the thousands are candidates. A small table says of most that they are not: `places` does not fit in the
    # cache next to the processor.
    maybe = np.zeros(SIEVE, np.bool_)
    maybe[candidates & (SIEVE - 1)] = True
    hits = maybe.take(near & (SIEVE - 1)).nonzero()[0]
    found = near.take(hits)
    places[candidates] = np.arange(len(candidates), dtype=np.int32)
    place = places.take(found)  # a neighbor of -1 reads the last item's place, and is dropped below
    places[candidates] = -1
    kept = ((place >= 0) & (found >= 0)).nonzero()[0]
    hits = hits.take(kept)
    cell = layout.cell.take(hits)
    # Where a hit's weight lies among all of its relation's: as far from the hit's place here as its event's row is
    # from the event's own place.
    source = hits + ((events - np.arange(len(events)))[:, None] * layout.widths - layout.starts).take(cell)
    weights = np.empty(len(hits), np.float32)
    first = 0
    for relation, last in zip(relations, hits.searchsorted(layout.ends).tolist(), strict=True):
        relation.weights.reshape(-1).take(source[first:last], out=weights[first:last], mode="clip")
        first = last
    out.reshape(-1)[place.take(kept) * (length * count) + cell] = weights
    return out


@dataclass(frozen=True)
class _Layout:
    """How the neighbors of n events in each relation lie end to end, one relation after another.

    One array, because a handful of calls to NumPy for each relation is what `edges` would otherwise spend its time on.
    """

    spans: tuple[tuple[int, int], ...]
    """Where each relation begins and ends."""
    starts: npt.NDArray[np.intp]
    """(R,)"""
    ends: npt.NDArray[np.intp]
    """(R,)"""
    widths: npt.NDArray[np.intp]
    """(R,) neighbors an event."""
    cell: npt.NDArray[np.intp]
    """(all,) event * R + relation of each place."""


@lru_cache(maxsize=128)
def _layout(events: int, widths: tuple[int, ...]) -> _Layout:
    """One for each length that a history can have: some hundred kilobytes each."""
    wide = np.array(widths, np.intp)
    ends = np.cumsum(events * wide)
    starts = ends - events * wide
    each = np.arange(events) * len(widths)
    cell = np.concatenate([np.empty(0, np.intp), *(np.repeat(each + r, width) for r, width in enumerate(widths))])
    return _Layout(tuple(zip(starts.tolist(), ends.tolist(), strict=True)), starts, ends, wide, cell)


def shares(cosines: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What each neighbor (..., n) counts for: its cosine to a power, as shares of one; at 0 and below nothing."""
    if not cosines.size:
        return np.zeros(cosines.shape, np.float32)
    most = cosines.max(-1, keepdims=True)
    powers = np.maximum(cosines / np.where(most > 0, most, 1.0), 0).astype(np.float64) ** SHARPNESS
    total = powers.sum(-1, keepdims=True)
    return np.asarray(powers / np.where(total > 0, total, 1.0), np.float32)
