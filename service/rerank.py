"""Stage: score the candidates again, each attending to the shopper's history along the item graph. One ONNX call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from service.bundle.reader import Bundle
from service.bundle.signatures import RERANKER
from service.domain import Candidates
from service.item_tables import ItemTables
from service.neighborhood import History, last_events
from service.onnx_model import OnnxModel

SMALLEST = 32
"""Candidates of the smallest shape bucket."""
LOWEST = -1e4
"""Retrieval score of a padded candidate."""
AT_ONCE = 8
"""Requests of one call. More gain nothing on one thread, and their tensors leave the cache of a core."""

Feeds = dict[str, npt.NDArray[np.float32]]


class Reranker:
    """The bundle's re-ranker.

    Candidates are padded to one of a few shapes (C), because onnxruntime plans its memory a shape. A padded one has
    no edges and the lowest score, with which it counts for nothing beside the others.
    """

    def __init__(self, bundle: Bundle, *, most_candidates: int) -> None:
        self._num_items = bundle.manifest.num_items
        self._model = OnnxModel(bundle.model_path(RERANKER))
        self.buckets = _buckets(most_candidates)
        """Numbers of candidates (C) that the model is called with, ascending."""

    def scores(self, candidates: Candidates, history: History, tables: ItemTables) -> npt.NDArray[np.float32]:
        """(C,) a new score for each candidate; larger is better. Raises ModelError."""
        feeds = self.feeds(candidates, history, tables)
        return self._model.run("scores", feeds)[0, : len(candidates.rows)]

    def scores_many(
        self, candidates: Sequence[Candidates], histories: Sequence[History], tables: ItemTables
    ) -> list[npt.NDArray[np.float32]]:
        """As `scores`, of several requests: those of the same shapes share calls. Raises ModelError."""
        feeds = [self.feeds(c, h, tables) for c, h in zip(candidates, histories, strict=True)]
        alike: dict[tuple[int, ...], list[int]] = {}
        for place, feed in enumerate(feeds):
            alike.setdefault(feed["edges"].shape, []).append(place)
        out: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)] * len(feeds)
        for places in alike.values():
            for start in range(0, len(places), AT_ONCE):
                chunk = places[start : start + AT_ONCE]
                together = _joined([feeds[p] for p in chunk])
                for place, scores in zip(chunk, self._model.run("scores", together), strict=True):
                    out[place] = scores[: len(candidates[place].rows)]
        return out

    def variants(self, feeds: Feeds, changes: Sequence[Feeds], count: int) -> npt.NDArray[np.float32]:
        """(v, count) scores of one request's `feeds` with each of `changes` laid over them, AT_ONCE a call."""
        out = []
        for start in range(0, len(changes), AT_ONCE):
            chunk = changes[start : start + AT_ONCE]
            together = {name: np.concatenate([change.get(name, feeds[name]) for change in chunk]) for name in feeds}
            out.append(self._model.run("scores", together)[:, :count])
        return np.concatenate(out) if out else np.empty((0, count), np.float32)

    def feeds(self, candidates: Candidates, history: History, tables: ItemTables) -> Feeds:
        """The model's inputs for one request, batch dimension 1, candidates padded to a bucket."""
        n = len(candidates.rows)
        size = next((bucket for bucket in self.buckets if bucket >= n), 1 << (n - 1).bit_length())
        return {
            "candidate_vectors": _padded(tables.item_vectors(candidates.rows), size),
            "candidate_scores": _padded(candidates.scores, size, LOWEST),
            "candidate_popularity": _padded(tables.popularity(candidates.rows), size),
            "history_vectors": tables.history_vectors(history.rows)[None],
            "history_mask": history.mask[None],
            "history_age_days": history.age_days[None],
            "edges": _padded(tables.edges(candidates.rows, history), size),
        }

    def warm_up(self, history_lengths: Iterable[int], tables: ItemTables) -> None:
        """Call the model once in every shape that a request can have, so that no shopper waits for the first call."""
        for length in history_lengths:
            history = last_events(np.zeros(1, np.int32), np.zeros(1, np.int64), now=0, length=length)
            for bucket in self.buckets:
                rows = np.arange(min(bucket, self._num_items), dtype=np.int32)
                self.scores(Candidates(rows, np.zeros(len(rows), np.float32)), history, tables)


def _joined(feeds: Sequence[Feeds]) -> Feeds:
    """Several requests' inputs as one. One alone is not copied: its tensors are larger than a core's nearest cache."""
    if len(feeds) == 1:
        return feeds[0]
    return {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}


def _padded(values: npt.NDArray[np.float32], size: int, fill: float = 0.0) -> npt.NDArray[np.float32]:
    """(n, ...) to (1, size, ...)."""
    if len(values) == size:
        return np.ascontiguousarray(values[None], np.float32)
    out = np.full((1, size, *values.shape[1:]), fill, np.float32)
    out[0, : len(values)] = values
    return out


def _buckets(most: int) -> tuple[int, ...]:
    """Powers of two from SMALLEST, and last `most` itself: the usual request is then not padded at all."""
    buckets = []
    size = SMALLEST
    while size < most:
        buckets.append(size)
        size *= 2
    return (*buckets, most)
