"""Items that came after the bundle was made, seen as the model would see them: nothing is fitted again.

The K nearest known items by content, found exactly, stand for the new one, each by its share s_k = c_k^16 / Σ c^16 of
the cosines c_k: a twin says nearly all, neighbors that are equally far say equally much.

    item vector      item_tower.onnx, from the fused vector and the neighbors' item vectors by their shares
    history vector   unit( Σ_k s_k h_k ), as long as those of items that nobody has bought yet
    edges            in every relation the mean of the neighbors' edges, e(a, new) = Σ_k s_k e(a, n_k)

h_k is neighbor k's history vector. docs/ENCODERS.md says how near this comes to what the offline jobs make of the same
items, and which other rules were measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from service.bundle.reader import Bundle
from service.bundle.signatures import ITEM_TOWER
from service.content import Content, NewItem, Vector
from service.errors import EncoderUnavailableError
from service.neighborhood import History, Relation, edges, shares
from service.onnx_model import OnnxModel

NONE = np.empty(0, np.int32)
NEIGHBORS = 20
"""K: as many as the offline jobs give an item in the graph of the fused vectors."""
NORM_SAMPLE = 4_096
"""Unbought items whose history vectors are looked at for their length."""

Rows = npt.NDArray[np.int32]


class NewItems:
    """Makes new items of content, beside one bundle. May be called from several threads."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises EncoderUnavailableError for a bundle without a content table, which is one of before format 2."""
        if bundle.content is None:
            raise EncoderUnavailableError(
                f"the bundle {bundle.manifest.version} has no content table: new items cannot be placed",
                where="content",
                todo="Publish it again with this version of plotpointe",
            )
        self._content: npt.NDArray[np.float32] = bundle.content
        self._item_vectors = bundle.item_vectors
        self._history_vectors = bundle.history_vectors
        self._length = _unbought_length(bundle)
        self._tower = OnnxModel(bundle.model_path(ITEM_TOWER))

    def embed(self, content: Content, *, without: Rows = NONE) -> NewItem:
        """The new item of this content. Raises ModelError.

        `without`: rows of the bundle that are no neighbors: the item itself, where it was there before, and what has
        been deleted since.
        """
        rows, cosines = nearest(self._content, content.fused, NEIGHBORS, without=without)
        parts = shares(cosines)
        return NewItem(
            content=content,
            item_vector=self._item_vector(content, rows, parts),
            history_vector=self._history_vector(rows, parts),
            neighbor_rows=rows,
            neighbor_weights=parts,
        )

    def _item_vector(self, content: Content, rows: Rows, parts: Vector) -> Vector:
        known = rows if len(rows) else np.zeros(1, np.int32)  # a neighbor of weight 0 is none
        feeds = {
            "fused": content.fused[None],
            "neighbor_vectors": self._item_vectors[known][None],
            "neighbor_weights": (parts if len(rows) else np.zeros(1, np.float32))[None],
        }
        vector: Vector = self._tower.run("item_vector", feeds)[0]
        return vector

    def _history_vector(self, rows: Rows, parts: Vector) -> Vector:
        return np.asarray(_unit(parts @ self._history_vectors[rows]) * self._length, np.float32)


def nearest(table: npt.NDArray[np.float32], vector: Vector, k: int, *, without: Rows = NONE) -> tuple[Rows, Vector]:
    """The k rows of `table` (n, d) nearest to a unit vector (d,), exactly, and their cosines; ties to the lower row.

    Rows of zeros have no content and are nobody's neighbors. Fewer than k where the table has no more.
    """
    scores = table @ vector
    scores[scores == 0] = -np.inf  # a row of zeros, or one exactly across, which is no neighbor either
    scores[without] = -np.inf
    k = min(k, int(np.count_nonzero(scores > -np.inf)))
    if not k:
        return NONE, np.empty(0, np.float32)
    best = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    best = best[np.argsort(-scores[best], kind="stable")][:k]
    return best.astype(np.int32), scores[best]


def edges_to_new(
    items: Sequence[NewItem], history: History, relations: Sequence[Relation], places: Rows
) -> npt.NDArray[np.float32]:
    """Weights (M, L, R) from each history item to each of M new items as candidates, as `neighborhood.edges` does it.

    `history` holds rows of the bundle: events of new items are masked in it. `places`: see `neighborhood.edges`.
    """
    rows = np.unique(np.concatenate([NONE, *(item.neighbor_rows for item in items)])).astype(np.int32)
    known = edges(rows, history, relations, places)  # (U, L, R)
    parts = np.zeros((len(items), len(rows)), np.float32)
    for number, item in enumerate(items):
        parts[number, np.searchsorted(rows, item.neighbor_rows)] = item.neighbor_weights
    return np.tensordot(parts, known, axes=1).astype(np.float32, copy=False)


def edges_from_new(
    item: NewItem, candidates: Rows, relations: Sequence[Relation], places: Rows
) -> npt.NDArray[np.float32]:
    """Weights (C, R) from a new item, as an event of the history, to `candidates` (C,), distinct rows of the bundle."""
    n = len(item.neighbor_rows)
    stand_in = History(item.neighbor_rows, np.ones(n, np.float32), np.zeros(n, np.float32))
    known = edges(candidates, stand_in, relations, places)  # (C, n, R)
    return np.tensordot(item.neighbor_weights, known, axes=(0, 1)).astype(np.float32, copy=False)


def _unbought_length(bundle: Bundle) -> float:
    """How long the history vector of an item without interactions is: their median, or that of all where none is."""
    cold = np.flatnonzero(bundle.popularity == 0)
    rows = cold if len(cold) else np.arange(bundle.manifest.num_items)
    step = max(1, len(rows) // NORM_SAMPLE)
    return float(np.median(np.linalg.norm(bundle.history_vectors[rows[::step]], axis=1)))


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows (or one vector) scaled to length 1; what is zero stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), np.float32)
