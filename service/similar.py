"""Stage: items that are like an item, a text or a picture: by look, meaning, behaviour, or as the model blends them.

An exact scan of one table, cosine by cosine: some 20 milliseconds at half a million items, a fraction of one at 20,000.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from service.bundle.reader import Bundle
from service.catalog import Catalog, Rows
from service.domain import By, Candidates, ModalityWeights

Floats = npt.NDArray[np.float32]

ONE_RESPECT = {
    By.LOOK: ModalityWeights(look=1.0),
    By.MEANING: ModalityWeights(meaning=1.0),
    By.BEHAVIOUR: ModalityWeights(behaviour=1.0),
}


class Similar:
    """The likeness of all items to one, from one bundle's tables."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._norms: dict[tuple[str, int], Floats] = {}

    def to_item(self, row: int, by: By, weights: ModalityWeights | None, catalog: Catalog) -> Floats:
        """(R,) likeness of every item to the one at `row`; -inf where there is nothing to compare. Larger is closer."""
        one = np.array([row], np.int32)
        tables = catalog.tables
        if weights is None and by is By.BLEND:
            return self._cosines(self._bundle.item_vectors, "item_vectors", tables.item_vectors(one)[0, :-1], catalog)
        behaviour = self._bundle.behaviour[row] if row < tables.num_known else None
        return self._mixed(weights or ONE_RESPECT[by], tables.look(one)[0], tables.meaning(one)[0], behaviour, catalog)

    def to_content(
        self, look: Floats | None, meaning: Floats | None, weights: ModalityWeights | None, catalog: Catalog
    ) -> Floats:
        """(R,) likeness of every item to a picture's and a text's vector (128,), None where there is none."""
        if weights is None:
            weights = ModalityWeights(look=float(look is not None), meaning=float(meaning is not None))
        return self._mixed(weights, look, meaning, None, catalog)

    def _mixed(
        self,
        weights: ModalityWeights,
        look: Floats | None,
        meaning: Floats | None,
        behaviour: Floats | None,
        catalog: Catalog,
    ) -> Floats:
        """Cosines in each respect, by weight. An item that lacks a respect is judged by those that it has."""
        total = np.zeros(len(catalog), np.float32)
        weight = np.zeros(len(catalog), np.float32)
        for share, name, vector in (
            (weights.look, "look", look),
            (weights.meaning, "meaning", meaning),
            (weights.behaviour, "behaviour", behaviour),
        ):
            if share and vector is not None and vector.any():
                cosines = self._cosines(getattr(self._bundle, name), name, vector, catalog)
                there = np.isfinite(cosines)
                total[there] += share * cosines[there]
                weight[there] += share
        return np.where(weight > 0, total / np.maximum(weight, 1e-12), -np.inf).astype(np.float32)

    def _cosines(self, known: Floats, name: str, vector: Floats, catalog: Catalog) -> Floats:
        """(R,) cosines of a table's rows to `vector`, over as many axes as it has; -inf for zero rows."""
        width = len(vector)
        length = float(np.linalg.norm(vector))
        if length == 0:
            return np.full(len(catalog), -np.inf, np.float32)
        norms = self._norms.get((name, width))
        if norms is None:  # once a table, and only where it is asked for: 2 MB at half a million items
            norms = self._norms[(name, width)] = _norms(known, width)
        cosines = _cosines(known, norms, vector, length)
        live = catalog.tables.live
        if live is None:
            return cosines
        late = getattr(live, name) if name != "behaviour" else np.zeros((len(live), known.shape[1]), np.float32)
        return np.concatenate([cosines, _cosines(late, _norms(late, width), vector, length)])


def best(likeness: Floats, count: int, *, exclude: Rows, passing: npt.NDArray[np.bool_] | None) -> Candidates:
    """The `count` most alike rows, none in `exclude`, all `passing` (R,) where given, none without a likeness."""
    scores = likeness.copy()
    scores[exclude] = -np.inf
    if passing is not None:
        scores[~passing] = -np.inf
    count = min(count, len(scores))
    near = np.argpartition(-scores, count - 1)[:count] if count < len(scores) else np.arange(len(scores))
    near = near[np.isfinite(scores[near])]
    rows = near[np.lexsort((near, -scores[near]))].astype(np.int32)
    return Candidates(rows, scores[rows])


def _norms(table: Floats, width: int) -> Floats:
    """(n,) lengths of the rows over their first `width` axes."""
    lengths: Floats = np.sqrt(np.einsum("ij,ij->i", table[:, :width], table[:, :width]))
    return lengths


def _cosines(table: Floats, norms: Floats, vector: Floats, length: float) -> Floats:
    cosines = np.full(len(table), -np.inf, np.float32)
    np.divide(table[:, : len(vector)] @ vector, norms * length, out=cosines, where=norms > 0)
    return cosines
