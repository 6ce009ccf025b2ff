"""What is measured inside one process: the kernels alone, the index's recall, and the stages that answers tell of."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from service.bundle.reader import Bundle
from service.bundle.store import active_version
from service.cache import AnswerCache, MemoryCache
from service.generation import Generation, open_generation

EVENTS = 50
DAY = 86_400


class Shoppers:
    """Shoppers of a bundle whose histories are full, in an order drawn by seed; and histories that nobody has."""

    def __init__(self, bundle: Bundle, seed: int = 0) -> None:
        self._bundle = bundle
        self._random = np.random.default_rng(seed)
        lengths = np.diff(bundle.history_offsets)
        full = np.flatnonzero(lengths >= min(EVENTS, int(lengths.max())))
        self.events = int(lengths[full].min())
        """The fewest that any of them has."""
        self.ids = [bundle.user_ids[int(row)] for row in self._random.permutation(full)]

    def made_up_histories(self) -> Iterator[list[dict[str, object]]]:
        """Histories of EVENTS events, each half of one shopper's and half of another's, as a request brings them."""
        users = len(self._bundle.history_offsets) - 1
        while True:
            rows: dict[int, None] = {}
            while len(rows) < EVENTS:
                start, end = self._bundle.history_offsets[(user := int(self._random.integers(users))) : user + 2]
                rows |= dict.fromkeys(self._bundle.history_items[start:end][: EVENTS // 2].tolist())
            newest = self._bundle.manifest.as_of
            yield [
                {"item_id": self._bundle.item_ids[row], "timestamp": newest - DAY * (EVENTS - place)}
                for place, row in enumerate(list(rows)[:EVENTS])
            ]


def open_bundle_of(root: Path) -> Generation:
    """The active bundle below `root`, as the service opens it."""
    return open_generation(
        root / active_version(root),
        num_candidates=None,
        cache=lambda _: AnswerCache(MemoryCache(max_entries=1, ttl_seconds=1), None, lambda tier, result: None),
    )


def kernels(generation: Generation, user_ids: Sequence[str]) -> tuple[float, float]:
    """Requests a second, and a second of processor time, of user tower, FAISS search and re-ranker alone, on core 0.

    Their inputs are made in between, untimed: the kernels find them in the cache of the core, as they would at best.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {0})
    # The libraries' own objects: whatever the service puts around them is what is to be measured.
    tower, index = generation.shoppers._tower._session, generation.retriever._index
    reranker, tables = generation.reranker._model._session, generation.catalog.tables
    taken = cpu = 0.0
    for user_id in user_ids:
        row = generation.shoppers.row(user_id)
        assert row is not None
        rows, times = generation.shoppers.past(row)
        seen = np.unique(rows)
        history = generation.shoppers.history(rows, times, now=generation.shoppers.as_of)
        feeds = {
            "history_vectors": tables.history_vectors(history.rows)[None],
            "history_mask": history.mask[None],
            "history_age_days": history.age_days[None],
        }
        wanted = generation.num_candidates + len(seen)
        began, began_cpu = time.perf_counter(), time.thread_time()
        vector = tower.run(["user_vector"], feeds)[0]
        index.search(vector, wanted)
        taken, cpu = taken + time.perf_counter() - began, cpu + time.thread_time() - began_cpu
        found = generation.retriever.search(vector[0], generation.num_candidates, at_least=1, exclude=seen)
        inputs = generation.reranker.feeds(found, history, tables)
        began, began_cpu = time.perf_counter(), time.thread_time()
        reranker.run(["scores"], inputs)
        taken, cpu = taken + time.perf_counter() - began, cpu + time.thread_time() - began_cpu
    os.sched_setaffinity(0, before)
    return len(user_ids) / taken, len(user_ids) / cpu


def recall(generation: Generation, user_ids: Sequence[str]) -> float:
    """Mean share of the exact nearest candidates that retrieval finds, for these shoppers."""
    shares = []
    for user_id in user_ids:
        row = generation.shoppers.row(user_id)
        assert row is not None
        rows, times = generation.shoppers.past(row)
        history = generation.shoppers.history(rows, times, now=generation.shoppers.as_of)
        vector = generation.shoppers.vector(history, generation.catalog.tables)
        asked: dict[str, Any] = {"exclude": np.unique(rows)}
        found = generation.retriever.search(vector, generation.num_candidates, at_least=20, **asked)
        exact = generation.retriever.exact(vector, generation.num_candidates, **asked)
        # by score and not by row: equals are as good as one another
        shares.append(float(np.mean(found.scores >= exact.scores[-1] - 1e-4)) * len(found.rows) / len(exact.rows))
    return round(float(np.mean(shares)), 4)


def stages_of(replies: Sequence[bytes]) -> dict[str, float]:
    """Median milliseconds of each stage that the answers tell of."""
    timings = [orjson.loads(reply)["timing_ms"] for reply in replies]
    return {
        stage: round(float(np.median([timing[stage] for timing in timings if stage in timing])), 4)
        for stage in timings[0]
    }
