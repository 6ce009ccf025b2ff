"""What is done once an answer went out: the shadow is asked the same, retrieval is held against exact search.

None of it changes an answer or is waited for. It is done in turns of its own while nothing else is waiting for one, a
few at a time; what there is no time for is dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from service.domain import Answer, Query
from service.errors import PlotPointeError
from service.generation import Generation
from service.generations import Roles
from service.logs import RateLimit
from service.metrics import Metrics
from service.recommend import Recommender, Work
from service.state_codec import ShopperState
from service.turns import Turns

log = logging.getLogger(__name__)

MOST_AT_ONCE = 4
"""Requests that may be looked at again at the same time."""
LEAST_PRIORITY = 19
"""The nice value of the thread that searches exactly."""
NOTED_SHARE = 1 / 8
"""Share of the answers whose scores and cold items are noted: enough for a distribution, and nobody pays for it."""


class Aftermath:
    """Looks again at some of the requests of one tenant."""

    def __init__(
        self,
        recommender: Recommender,
        turns: Turns,
        metrics: Metrics,
        roles: Callable[[], Roles[Generation]],
        *,
        recall_share: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`recommender`: one of its own, so that its work is in no stage's time; `recall_share` of the requests."""
        self._recommender = recommender
        self._turns = turns
        self._metrics = metrics
        self._roles = roles
        self._recall_share = recall_share
        self._chance = chance
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = ThreadPoolExecutor(1, thread_name_prefix="recall", initializer=_give_way)
        self._limit = RateLimit()
        self._summary = RateLimit()
        self._compared = 0
        self._overlap = 0.0

    def answered(self, query: Query, state: ShopperState, generation: Generation, answer: Answer) -> None:
        """An answer went out. Returns at once."""
        if answer.rows and self._chance() < NOTED_SHARE:
            popularity = generation.catalog.tables.popularity(np.array(answer.rows, np.int32))
            self._metrics.observe_answer(answer.strategy, answer.scores[0], float((popularity == 0).mean()))
        shadow = self._roles().shadow
        if shadow is not None and shadow.generation is not generation and self._chance() < shadow.share:
            if self._may_begin():
                self._begin(self._compare(query, state, generation, answer, shadow.generation))
            else:
                self._metrics.count_shadow("dropped")
        if self._chance() < self._recall_share and self._may_begin():
            self._begin(self._measure_recall(query, state, generation))

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._idle.shutdown(cancel_futures=True)

    def _may_begin(self) -> bool:
        return len(self._tasks) < MOST_AT_ONCE and not self._turns.waiting

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and self._limit.allows():
            log.error("looking at a request again failed", exc_info=error)

    async def _compare(
        self, query: Query, state: ShopperState, generation: Generation, answer: Answer, shadow: Generation
    ) -> None:
        """Ask the shadow the same, and note how much of the answer it shows too."""
        shown = {generation.item_id(row) for row in answer.rows}
        try:
            seconds, other = await self._computed(query, state, shadow)
        except PlotPointeError as error:
            self._metrics.count_shadow("failed")
            if self._limit.allows():
                log.warning("the shadow %s failed: %s", shadow.version, error)
            return
        also = {shadow.item_id(row) for row in other.rows}
        overlap = len(shown & also) / max(len(shown), len(also), 1)
        self._metrics.observe_shadow(overlap, seconds)
        self._metrics.count_shadow("compared")
        self._compared += 1
        self._overlap += overlap
        if self._summary.allows():
            mean = self._overlap / self._compared
            log.info("shadow %s: overlap %.3f over %d answers", shadow.version, mean, self._compared)

    async def _computed(self, query: Query, state: ShopperState, generation: Generation) -> tuple[float, Answer]:
        work = _again(query, state, generation)
        started = 0.0

        def compute() -> Answer:
            nonlocal started
            started = time.perf_counter()
            return self._recommender.answers(generation, [work])[0]

        answer = await self._turns.take(compute)
        return time.perf_counter() - started, answer

    async def _measure_recall(self, query: Query, state: ShopperState, generation: Generation) -> None:
        """How much of what an exact search finds is among the candidates. The search itself runs in a thread."""
        work = _again(query, state, generation)
        await self._turns.take(lambda: self._recommender.answers(generation, [work]))
        if work.vector is None or work.candidates is None:
            return  # popular items: nothing was retrieved
        live = work.catalog.tables.live
        search = partial(
            generation.retriever.exact,
            work.vector,
            max(generation.num_candidates, work.depth),
            exclude=work.exclude,
            passing=work.passing,
            live_vectors=None if live is None else live.item_vectors,
        )
        exact = await asyncio.get_running_loop().run_in_executor(self._idle, search)
        if len(exact.rows):
            self._metrics.observe_recall(float(np.isin(exact.rows, work.candidates.rows).mean()))


def _give_way() -> None:
    """This thread computes where nobody else wants to: an exact search at half a million items takes tens of ms."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LEAST_PRIORITY)


def _again(query: Query, state: ShopperState, generation: Generation) -> Work:
    """The same request, with all the time it wants."""
    user_row = generation.shoppers.row(query.user_id) if query.user_id else None
    return Work(replace(query, deadline=None), generation.catalog, user_row, state)
