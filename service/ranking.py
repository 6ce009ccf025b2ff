"""From scored candidates to the order that is shown: modality weights, rules of a merchandiser, diversity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from service.catalog import NO_ROWS, Rows
from service.domain import ModalityWeights, Reason
from service.item_tables import ItemTables
from service.neighborhood import History

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Moved:
    """Rules with their items as rows."""

    pin: Rows = field(default_factory=lambda: NO_ROWS)
    """(P,) stand first, in this order."""
    shifts: tuple[tuple[float, Callable[[Rows], npt.NDArray[np.bool_]]], ...] = ()
    """Signed strength, and which of some rows it is for."""

    def __bool__(self) -> bool:
        return bool(len(self.pin) or self.shifts)


UNMOVED = Moved()


def weighted(scores: Floats, rows: Rows, history: History, weights: ModalityWeights, tables: ItemTables) -> Floats:
    """(C,) standard scores in each respect, mixed by `weights`: look and meaning by cosine to the history's mean.

    An item without a picture or a text is neither better nor worse than the mean in that respect.
    """
    parts: list[tuple[float, Floats, npt.NDArray[np.bool_]]] = [(weights.behaviour, scores, np.ones(len(rows), bool))]
    for weight, table in ((weights.look, tables.look), (weights.meaning, tables.meaning)):
        if weight:
            events = table(history.rows[history.mask > 0])
            taste = events.sum(0)
            vectors = table(rows)
            parts.append((weight, vectors @ taste, np.asarray(vectors.any(axis=1), bool)))
    total = sum(weight for weight, _, _ in parts)
    mixed = sum((weight / total) * _standard(values, there) for weight, values, there in parts)
    return np.asarray(mixed, np.float32)


def shifted(scores: Floats, rows: Rows, rules: Moved) -> Floats:
    """(C,) scores with boosts added and buries taken off, in units of the range of the scores."""
    if not rules.shifts or not len(scores):
        return scores
    span = float(scores.max() - scores.min()) or 1.0
    out = scores.copy()
    for strength, chosen in rules.shifts:
        # just beyond the range, so that strength 1 leaves no tie between the last moved and the first unmoved
        out[chosen(rows)] += np.float32(strength * span * 1.0001)
    return out


def ordered(scores: Floats, rows: Rows, depth: int, *, diversity: float, tables: ItemTables, pin: Rows) -> Rows:
    """(<= depth,) places of the candidates in the order shown: pins first, then by score, or by marginal relevance."""
    order = np.argsort(-scores, kind="stable").astype(np.int32)  # stable: equals stay in retrieval order
    if diversity > 0:
        order = _diverse(scores, rows, order, depth, diversity, tables)
    if len(pin):
        place = {int(row): i for i, row in enumerate(rows)}
        first = [place[row] for row in pin.tolist() if row in place]
        order = np.concatenate([np.array(first, np.int32), order[~np.isin(order, first)]])
    return order[:depth]


def rule_reasons(row: int, rules: Moved) -> tuple[Reason, ...]:
    """Why a rule moved an item, if one did."""
    if not rules:
        return ()
    one = np.array([row], np.int32)
    moved = [
        Reason("boosted" if strength > 0 else "buried", abs(strength))
        for strength, chosen in rules.shifts
        if chosen(one)[0]
    ]
    return (*([Reason("pinned", 1.0)] if row in rules.pin else []), *moved)


def _diverse(scores: Floats, rows: Rows, order: Rows, depth: int, diversity: float, tables: ItemTables) -> Rows:
    """Maximal marginal relevance (Carbonell and Goldstein, 1998) over the candidates, greedily, best first."""
    vectors = tables.item_vectors(rows)[:, :-1]
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    low, high = float(scores.min()), float(scores.max())
    gain = (1 - diversity) * (scores - low) / ((high - low) or 1.0)
    nearest = np.zeros(len(rows), np.float32)  # likeness to the most alike item chosen so far
    chosen = np.empty(min(depth, len(rows)), np.int32)
    for i in range(len(chosen)):
        best = int(order[0]) if i == 0 else int(np.argmax(gain - diversity * nearest))
        chosen[i] = best
        gain[best] = -np.inf
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return np.concatenate([chosen, order[~np.isin(order, chosen)]])


def _standard(values: Floats, there: npt.NDArray[np.bool_]) -> Floats:
    """Standard scores among those that have a value; 0 for the others."""
    out = np.zeros(len(values), np.float32)
    if there.any():
        own = values[there]
        out[there] = (own - own.mean()) / (float(own.std()) or 1.0)
    return out
