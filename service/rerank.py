"""Stage: score the candidates again, each attending to the shopper's history along the item graph. One ONNX call."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from service.bundle.reader import Bundle
from service.bundle.signatures import RERANKER
from service.domain import Candidates
from service.neighborhood import History, edges, last_events, no_places
from service.onnx_model import OnnxModel

SMALLEST = 32
"""Candidates of the smallest shape bucket."""
LOWEST = -1e4
"""Retrieval score of a padded candidate."""


class Reranker:
    """The bundle's re-ranker.

    Candidates are padded to one of a few shapes (C), because onnxruntime plans its memory a shape. A padded one has
    no edges and the lowest score, with which it counts for nothing beside the others.
    """

    def __init__(self, bundle: Bundle, *, most_candidates: int) -> None:
        self._bundle = bundle
        self._model = OnnxModel(bundle.model_path(RERANKER))
        self._places = no_places(bundle.manifest.num_items)
        self.buckets = _buckets(most_candidates)
        """Numbers of candidates (C) that the model is called with, ascending."""

    def scores(self, candidates: Candidates, history: History) -> npt.NDArray[np.float32]:
        """(C,) a new score for each candidate; larger is better. Raises ModelError."""
        b, n = self._bundle, len(candidates.rows)
        size = next((bucket for bucket in self.buckets if bucket >= n), n)

        def padded(values: npt.NDArray[np.float32], fill: float = 0.0) -> npt.NDArray[np.float32]:
            """(n, ...) to (1, size, ...)."""
            if n == size:
                return values[None]
            out = np.full((1, size, *values.shape[1:]), fill, np.float32)
            out[0, :n] = values
            return out

        feeds = {
            "candidate_vectors": padded(b.item_vectors[candidates.rows]),
            "candidate_scores": padded(candidates.scores, LOWEST),
            "candidate_popularity": padded(b.popularity[candidates.rows]),
            "history_vectors": b.history_vectors[history.rows][None],
            "history_mask": history.mask[None],
            "history_age_days": history.age_days[None],
            "edges": padded(edges(candidates.rows, history, b.relations, self._places)),
        }
        return self._model.run("scores", feeds)[0, :n]

    def warm_up(self, history_lengths: Iterable[int]) -> None:
        """Call the model once in every shape that a request can have, so that no shopper waits for the first call."""
        for length in history_lengths:
            history = last_events(np.zeros(1, np.int32), np.zeros(1, np.int64), now=0, length=length)
            for bucket in self.buckets:
                rows = np.arange(bucket, dtype=np.int32) % self._bundle.manifest.num_items
                self.scores(Candidates(rows, np.zeros(bucket, np.float32)), history)


def _buckets(most: int) -> tuple[int, ...]:
    """Powers of two from SMALLEST, and last `most` itself: the usual request is then not padded at all."""
    buckets = []
    size = SMALLEST
    while size < most:
        buckets.append(size)
        size *= 2
    return (*buckets, most)
