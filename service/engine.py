"""What a shop's callers can ask, around the hot path of `recommend.py`: state, cache, deadline, admission, log.

    state -> cache -> (admission -> turn -> recommend.py) -> ids, titles -> impression

Every answer gets an id of its own and a line in the log, wherever it came from.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

import numpy as np

from service.admission import Admission
from service.asked import Asked, Together
from service.cache_keys import recommend_key
from service.deadlines import in_time, with_deadline
from service.domain import (
    Answer,
    EventsReceipt,
    FeedbackEvent,
    ItemChange,
    ItemList,
    ItemsReceipt,
    PopularQuery,
    Query,
    Recommendation,
    RerankQuery,
    SimilarQuery,
)
from service.errors import PlotPointeError, UnknownItemError, UnknownTenantError
from service.event_log import EventLog
from service.generation import Serving
from service.lists import Lists
from service.live_catalog import LiveCatalog
from service.lookup import Found
from service.metrics import Metrics
from service.model_info import ModelInfo, model_info
from service.pace import Stopwatch
from service.presenter import Presenter
from service.recommend import Recommender
from service.selection import Selections
from service.shopper_states import ShopperStates, StateLookup
from service.state_codec import NOBODY
from service.trends import Trends
from service.turns import Turns

AT_ONCE = 8
"""Queries of a batch that are computed in one turn of the event loop: others wait for no longer than that."""
NOBODY_KNOWN = StateLookup(NOBODY)
DEFAULT = "default"
"""The tenant of a service that serves one shop."""


class Engine:
    """One shop. `wiring.py` builds it."""

    def __init__(
        self,
        *,
        generations: Serving,
        recommender: Recommender,
        selections: Selections,
        states: ShopperStates,
        trends: Trends,
        live: LiveCatalog,
        turns: Turns,
        admission: Admission,
        presenter: Presenter,
        event_log: EventLog,
        metrics: Metrics,
        default_deadline_s: float | None,
    ) -> None:
        """`default_deadline_s`: what a request without a deadline of its own has; None for no such bound."""
        self._generations = generations
        self._recommender = recommender
        self._selections = selections
        self._states = states
        self._trends = trends
        self._live = live
        self._turns = turns
        self._admission = admission
        self._presenter = presenter
        self._lists = Lists(generations, selections, turns, admission, presenter, trends)
        self._event_log = event_log
        self._metrics = metrics
        self._default_deadline_s = default_deadline_s

    async def recommend(self, query: Query, *, transport: str) -> Recommendation:
        """The best items for one shopper.

        Raises InvalidFilterError, BundleMissingError (for a `bundle_version` that is not loaded), DeadlineError,
        OverloadedError.
        """
        watch = Stopwatch()
        query = with_deadline(query, self._default_deadline_s)
        asked = await self._asked(query)
        watch.lap("state")
        found = self._at_hand(asked)
        timing: dict[str, float] = {}
        if found is None:

            def compute() -> Answer:
                work = asked.work()
                answer = self._recommender.answers(asked.generation, [work])[0]
                timing.update(work.watch.timing_ms)
                return answer

            found = await in_time(
                query.deadline,
                asked.generation.cache.get_or_compute(
                    self._flight(asked),
                    compute,
                    asked.catalog.shows,
                    admit=lambda: self._admission.check(query.deadline),
                ),
            )
        watch.lap("cache", inside_ms=sum(timing.values()))
        return self._presenter.recommendation(asked, found, watch, dict(timing), transport)

    async def recommend_batch(
        self, queries: Sequence[Query], *, transport: str
    ) -> list[Recommendation | PlotPointeError]:
        """As `recommend`, of several shoppers in one call, in order; what is wrong with one is its own answer."""
        answers: list[Recommendation | PlotPointeError] = []
        for start in range(0, len(queries), AT_ONCE):
            answers += await self._batch(queries[start : start + AT_ONCE], transport)
        return answers

    async def rerank(self, query: RerankQuery, *, transport: str) -> Recommendation:
        """The caller's own list in the shopper's order; items that no one knows, or that are gone, are left out."""
        watch = Stopwatch()
        wanted = Query(
            query.user_id,
            max(len(query.item_ids), 1),
            query.request_id,
            history=query.history,
            seed_items=query.seed_items,
            exclude_seen=False,
            explain=query.explain,
            with_metadata=query.with_metadata,
            deadline=query.deadline,
        )
        asked = await self._asked(with_deadline(wanted, self._default_deadline_s))
        watch.lap("state")
        self._admission.check(asked.query.deadline)
        rows = asked.catalog.rows(query.item_ids)
        work = asked.work(among=rows[~np.isin(rows, asked.catalog.gone)])
        answer = await in_time(
            asked.query.deadline, self._turns.take(lambda: self._recommender.answers(asked.generation, [work])[0])
        )
        watch.lap("wait", inside_ms=sum(work.watch.timing_ms.values()))
        return self._presenter.recommendation(
            asked, Found(answer, cached=False), watch, work.watch.timing_ms, transport
        )

    async def similar(self, query: SimilarQuery, *, transport: str) -> ItemList:
        """See `Lists.similar`."""
        return await self._lists.similar(query, transport=transport)

    async def popular(self, query: PopularQuery, *, transport: str) -> ItemList:
        """See `Lists.popular`."""
        return await self._lists.popular(query, transport=transport)

    async def write_events(self, events: Sequence[FeedbackEvent], *, request_id: str) -> EventsReceipt:
        """Keep what shoppers did: in the log first, then in what the next answer is made of.

        Raises UnavailableError where the log cannot take them: the caller has to send them again.
        """
        catalog = self._generations.current.catalog
        self._event_log.write_feedback(events, request_id=request_id, now=time.time())
        result = await self._states.append(events)
        await self._trends.add(result.new)
        unknown = sum(catalog.row(event.item_id) is None for event in result.new)
        for event in result.new:
            self._metrics.count_event(event.kind)
        return EventsReceipt(result.accepted, result.duplicates, unknown, result.shared)

    async def upsert_items(self, changes: Sequence[ItemChange], *, request_id: str) -> ItemsReceipt:
        """Say what there is to say of some items; those that no one knows are new, and shown once they are embedded."""
        return await self._live.upsert(changes)

    async def patch_items(self, changes: Sequence[ItemChange], *, request_id: str) -> ItemsReceipt:
        """Change some fields of items that are known. Raises UnknownItemError, changing none, where one is not."""
        catalog = self._generations.current.catalog
        for place, change in enumerate(changes):
            if catalog.row(change.item_id) is None or self._live.is_deleted(change.item_id):
                raise UnknownItemError(
                    f"no item is known as {change.item_id[:80]!r}; put it there whole first",
                    where=f"items[{place}].item_id",
                )
        return await self._live.patch(changes)

    async def delete_items(self, item_ids: Sequence[str], *, request_id: str) -> ItemsReceipt:
        """Take some items out of every answer; ids that no one knows are no error."""
        return await self._live.delete(item_ids)

    def model(self) -> ModelInfo:
        """What is being served."""
        return model_info(self._generations.current.manifest)

    async def _batch(self, queries: Sequence[Query], transport: str) -> list[Recommendation | PlotPointeError]:
        """Several requests side by side; those that have to be computed go through the stages together."""
        groups: dict[int, Together] = {}
        begun = [self._one_of_batch(query, groups, transport) for query in queries]
        results: list[Recommendation | PlotPointeError] = []
        for result in await asyncio.gather(*begun, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, PlotPointeError):
                raise result
            results.append(result)
        return results

    async def _one_of_batch(self, query: Query, groups: dict[int, Together], transport: str) -> Recommendation:
        watch = Stopwatch()
        query = with_deadline(query, self._default_deadline_s)
        asked = await self._asked(query)
        self._selections.passing(asked.catalog, query.filter)  # what is wrong with this filter is nobody else's fault
        self._selections.moved(asked.catalog, query.rules)
        watch.lap("state")
        found = self._at_hand(asked)
        timing_ms: Mapping[str, float] = {}
        if found is None:
            work = asked.work()
            group = groups.setdefault(asked.catalog.serial, Together(self._turns, self._recommender, asked.generation))
            found = await in_time(
                query.deadline,
                asked.generation.cache.get_or_await(
                    self._flight(asked),
                    lambda: group.answer(work),
                    asked.catalog.shows,
                    admit=lambda: self._admission.check(query.deadline),
                ),
            )
            timing_ms = {} if found.cached else work.watch.timing_ms
        watch.lap("cache")
        return self._presenter.recommendation(asked, found, watch, timing_ms, transport)

    async def _asked(self, query: Query) -> Asked:
        """Everything that an answer depends on, read at one moment. Raises InvalidFilterError, BundleMissingError."""
        lookup = await self._lookup(query.user_id)
        generation = self._generations.serving(query.user_id, query.bundle_version)
        catalog = generation.catalog
        user_row = generation.shoppers.row(query.user_id) if query.user_id else None
        key = recommend_key(generation.version, generation.num_candidates, catalog, query, user_row, lookup.state)
        return Asked(query, generation, catalog, user_row, lookup, key)

    def _at_hand(self, asked: Asked) -> Found | None:
        """The answer that this process has; a stale one too, where there is little time for another."""
        return asked.generation.cache.peek(asked.key, asked.catalog.shows, stale=self._is_hurried(asked.query))

    def _flight(self, asked: Asked) -> str:
        """Whoever has little time computes for themselves: others shall not share what was cut short."""
        return f"{asked.key}:short" if self._is_hurried(asked.query) else asked.key

    def _is_hurried(self, query: Query) -> bool:
        return query.deadline is not None and (
            query.deadline - time.monotonic() < 10 * self._turns.mean_compute_seconds
        )

    async def _lookup(self, user_id: str) -> StateLookup:
        if not user_id:
            return NOBODY_KNOWN
        return self._states.peek(user_id) or await self._states.get(user_id)


class Engines:
    """The shops of one service, by tenant."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = dict(engines)
        self.names = tuple(self._engines)
        self._only = next(iter(self._engines.values())) if len(self._engines) == 1 else None

    def get(self, tenant: str = "") -> Engine:
        """The shop of a tenant; an empty name is the only shop, or the one called `default`.

        Raises UnknownTenantError.
        """
        if not tenant and self._only is not None:
            return self._only
        try:
            return self._engines[tenant or DEFAULT]
        except KeyError:
            what = f"no shop is served as {tenant[:64]!r}" if tenant else "the request must name its shop"
            raise UnknownTenantError(what, where="x-plotpointe-tenant") from None
