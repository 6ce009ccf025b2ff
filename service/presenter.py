"""From rows and scores to what a caller is told and what the log keeps of it: every answer gets its own id."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from service.asked import Asked
from service.catalog import Catalog
from service.domain import (
    Answer,
    Degradation,
    Impression,
    ItemList,
    Query,
    Recommendation,
    RecommendedItem,
)
from service.event_log import EventLog
from service.generation import Generation
from service.lookup import Found
from service.metrics import Metrics
from service.pace import Stopwatch
from service.remembered import Remembered
from service.state_codec import ShopperState

SHOWN = 512
"""Answers whose items are kept as they are shown: some 6 KiB each. What is asked for again and again is asked often."""


class Presenter:
    """Makes answers presentable, wherever they came from, counts them and logs them."""

    def __init__(
        self,
        event_log: EventLog,
        metrics: Metrics,
        answered: Callable[[Query, ShopperState, Generation, Answer], None] = lambda *_: None,
    ) -> None:
        """`answered` is told of each recommendation that goes out: shadows and samples of recall begin there."""
        self._event_log = event_log
        self._metrics = metrics
        self._answered = answered
        self._shown: Remembered[Answer, tuple[RecommendedItem, ...]] = Remembered(SHOWN)

    def recommendation(
        self, asked: Asked, found: Found, watch: Stopwatch, timing_ms: Mapping[str, float], transport: str
    ) -> Recommendation:
        """The answer as this request's own; `timing_ms` are the stages of the computation, where it was one."""
        query, generation, answer = asked.query, asked.generation, found.answer
        degraded = (*found.degraded, *answer.degraded)
        if not asked.lookup.available:
            degraded = (Degradation.STATE_UNAVAILABLE, *degraded)
        if found.cached:
            context = (asked.catalog.serial, query.offset, query.with_metadata)
            items = self._shown.get(answer, context, lambda: _items(asked, answer))
        else:
            items = _items(asked, answer)
        watch.lap("items")
        recommendation_id = self._log(
            query.request_id, query.user_id, items, answer, generation, degraded, found.cached, transport
        )
        self._observe(watch)
        self._answered(query, asked.lookup.state, generation, answer)
        return Recommendation(
            recommendation_id=recommendation_id,
            user_id=query.user_id,
            items=items,
            strategy=answer.strategy,
            bundle_version=generation.version,
            cached=found.cached,
            degraded=degraded,
            timing_ms={**watch.timing_ms, **timing_ms},
        )

    def item_list(
        self,
        found: Found,
        generation: Generation,
        catalog: Catalog,
        watch: Stopwatch,
        *,
        request_id: str,
        with_metadata: bool,
        transport: str,
    ) -> ItemList:
        """An answer about no shopper."""
        answer = found.answer
        items = catalog.items(answer.rows, answer.scores, with_metadata=with_metadata)
        watch.lap("items")
        recommendation_id = self._log(request_id, "", items, answer, generation, (), found.cached, transport)
        self._observe(watch)
        return ItemList(recommendation_id, items, generation.version, watch.timing_ms)

    def _observe(self, watch: Stopwatch) -> None:
        """The last lap, and all of them into the histogram; what was computed is in it already."""
        watch.lap("event_log")
        for stage, ms in watch.timing_ms.items():
            self._metrics.observe_stage(stage, ms / 1000)

    def _log(
        self,
        request_id: str,
        user_id: str,
        items: tuple[RecommendedItem, ...],
        answer: Answer,
        generation: Generation,
        degraded: tuple[Degradation, ...],
        cached: bool,
        transport: str,
    ) -> str:
        """Count an answer and write its impression; returns the answer's id."""
        for degradation in degraded:
            self._metrics.count_degraded(degradation)
        recommendation_id = new_id()
        self._event_log.write(
            Impression(
                event_id=new_id(),
                recommendation_id=recommendation_id,
                request_id=request_id,
                user_id=user_id,
                timestamp=time.time(),
                item_ids=tuple(item.item_id for item in items),
                scores=answer.scores,
                strategy=answer.strategy,
                bundle_version=generation.version,
                degraded=degraded,
                cached=cached,
                transport=transport,
            )
        )
        return recommendation_id


def _items(asked: Asked, answer: Answer) -> tuple[RecommendedItem, ...]:
    query = asked.query
    return asked.catalog.items(
        answer.rows,
        answer.scores,
        first_rank=query.offset + 1,
        reasons=answer.reasons,
        with_metadata=query.with_metadata,
    )


def new_id() -> str:
    """128 random bits in hex."""
    return os.urandom(16).hex()
