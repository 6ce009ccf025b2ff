"""The hot path: a query in, a recommendation out. Read this file first.

    cache -> history -> user vector -> retrieve, without what was seen -> re-rank -> best k -> ids, titles -> event log

Each step is a stage in a module of its own. Here is their order, and what happens where one of them cannot.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from service.cache import AnswerCache, Found
from service.catalog import Catalog
from service.domain import (
    Answer,
    Candidates,
    Degradation,
    Impression,
    Query,
    Recommendation,
    RecommendedItem,
    Strategy,
)
from service.errors import ModelError
from service.event_log import EventLog
from service.logs import RateLimit
from service.metrics import Metrics
from service.rerank import Reranker
from service.retrieve import Retriever
from service.shoppers import Shopper, Shoppers

log = logging.getLogger(__name__)

NOTHING = np.empty(0, np.int32)
"""What a shopper of whom nothing is known has seen."""


class Stopwatch:
    """Times the stages of one request: into the answer and into the histogram."""

    def __init__(self, observe: Callable[[str, float], None]) -> None:
        self._observe = observe
        self.timing_ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time what happens in the context as `stage`, less the stages timed inside it."""
        before = sum(self.timing_ms.values())
        started = time.perf_counter()
        try:
            yield
        finally:
            inside_ms = sum(self.timing_ms.values()) - before
            seconds = time.perf_counter() - started - inside_ms / 1000
            self.timing_ms[stage] = round(seconds * 1000, 4)
            self._observe(stage, seconds)


class Recommender:
    """Answers queries from one bundle. `service/wiring.py` builds it."""

    def __init__(
        self,
        *,
        bundle_version: str,
        num_candidates: int,
        shoppers: Shoppers,
        retriever: Retriever,
        reranker: Reranker,
        catalog: Catalog,
        cache: AnswerCache,
        event_log: EventLog,
        metrics: Metrics,
    ) -> None:
        self._bundle_version = bundle_version
        self._num_candidates = num_candidates
        self._shoppers = shoppers
        self._retriever = retriever
        self._reranker = reranker
        self._catalog = catalog
        self._cache = cache
        self._event_log = event_log
        self._metrics = metrics
        self._limit = RateLimit()

    async def recommend(self, query: Query, *, transport: str) -> Recommendation:
        """Answer one query and log what was shown; `transport` (`rest` or `grpc`) goes into the log."""
        watch = Stopwatch(self._metrics.observe_stage)
        with watch("cache"):
            user_row = self._shoppers.row(query.user_id)
            found = await self._cache.get_or_compute(
                self._key(user_row, query.k), lambda: self._compute(user_row, query, watch)
            )
        with watch("items"):
            items = self._catalog.items(found.answer.rows, found.answer.scores)
        return self._shown(query, found, items, watch, transport)

    def warm_up(self) -> None:
        """Answer for a few known shoppers, and tell nobody: the first real request finds everything loaded."""
        count = len(self._shoppers)
        for user_row in {0, count // 2, count - 1} if count else ():
            query = Query(user_id="", k=self._num_candidates, request_id="warm-up")
            self._compute(user_row, query, Stopwatch(lambda stage, seconds: None))

    def _key(self, user_row: int | None, k: int) -> str:
        """Everything an answer depends on. All unknown shoppers share one answer, and no user id goes to Redis."""
        shopper = "unknown" if user_row is None else user_row
        return f"answer:{self._bundle_version}:{self._num_candidates}:{k}:{shopper}"

    def _compute(self, user_row: int | None, query: Query, watch: Stopwatch) -> Answer:
        """The answer when no cache has it. Plain and synchronous: it takes a millisecond or two on one thread."""
        if user_row is None:
            return self._popular(query.k, NOTHING)
        with watch("history"):
            shopper = self._shoppers.shopper(user_row)
        if not len(shopper.seen):
            return self._popular(query.k, NOTHING)
        try:
            with watch("user_vector"):
                vector = self._shoppers.vector(shopper.history)
            with watch("retrieve"):
                count = max(self._num_candidates, query.k)
                candidates = self._retriever.search(vector, count, at_least=query.k, exclude=shopper.seen)
        except ModelError as error:
            self._report(error, query)
            return self._popular(query.k, shopper.seen, Degradation.RETRIEVAL_FAILED)
        return self._personal(candidates, shopper, query, watch)

    def _personal(self, candidates: Candidates, shopper: Shopper, query: Query, watch: Stopwatch) -> Answer:
        try:
            with watch("rerank"):
                scores = self._reranker.scores(candidates, shopper.history)
        except ModelError as error:
            self._report(error, query)
            return _answer(candidates.rows, candidates.scores, Strategy.PERSONAL, query.k, Degradation.RERANK_FAILED)
        with watch("top_k"):
            best = np.argsort(-scores, kind="stable")[: query.k]  # stable: equals stay in retrieval order
            return _answer(candidates.rows[best], scores[best], Strategy.PERSONAL, query.k)

    def _popular(self, k: int, seen: npt.NDArray[np.int32], *degraded: Degradation) -> Answer:
        popular = self._catalog.popular(k, exclude=seen)
        return _answer(popular.rows, popular.scores, Strategy.POPULAR, k, *degraded)

    def _shown(
        self, query: Query, found: Found, items: tuple[RecommendedItem, ...], watch: Stopwatch, transport: str
    ) -> Recommendation:
        """The answer as this request's own: with an id, counted and logged, wherever it came from."""
        answer = found.answer
        degraded = (*found.degraded, *answer.degraded)
        for degradation in degraded:
            self._metrics.count_degraded(degradation)
        recommendation_id = uuid4().hex
        with watch("event_log"):
            self._event_log.write(
                Impression(
                    event_id=uuid4().hex,
                    recommendation_id=recommendation_id,
                    request_id=query.request_id,
                    user_id=query.user_id,
                    timestamp=time.time(),
                    item_ids=tuple(item.item_id for item in items),
                    scores=answer.scores,
                    strategy=answer.strategy,
                    bundle_version=self._bundle_version,
                    degraded=degraded,
                    cached=found.cached,
                    transport=transport,
                )
            )
        return Recommendation(
            recommendation_id=recommendation_id,
            user_id=query.user_id,
            items=items,
            strategy=answer.strategy,
            bundle_version=self._bundle_version,
            cached=found.cached,
            degraded=degraded,
            timing_ms=watch.timing_ms,
        )

    def _report(self, error: ModelError, query: Query) -> None:
        if self._limit.allows():
            log.error("an answer is degraded: %s", error, extra={"request_id": query.request_id})


def _answer(
    rows: npt.NDArray[np.int32],
    scores: npt.NDArray[np.float32],
    strategy: Strategy,
    k: int,
    *degraded: Degradation,
) -> Answer:
    """The first k of `rows` and `scores`, best first, as the value that is cached."""
    if len(rows) < k:
        degraded = (*degraded, Degradation.TOO_FEW_ITEMS)
    return Answer(tuple(rows[:k].tolist()), tuple(scores[:k].tolist()), strategy, degraded)
