"""A request with everything that its answer depends on, read at one moment; and several that are computed together."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace

from service.catalog import Catalog, Rows
from service.domain import Answer, Query
from service.generation import Generation
from service.recommend import Recommender, Work
from service.shopper_states import StateLookup
from service.turns import Turns


@dataclass(frozen=True, slots=True)
class Asked:
    """A query with everything that its answer depends on."""

    query: Query
    generation: Generation
    catalog: Catalog
    user_row: int | None
    lookup: StateLookup
    key: str
    """What the answer is cached under."""

    def work(self, *, among: Rows | None = None) -> Work:
        """The computation that answers it; begun after its deadline, it is for others, who have time."""
        query = self.query
        if query.deadline is not None and query.deadline <= time.monotonic():
            query = replace(query, deadline=None)
        return Work(query, self.catalog, self.user_row, self.lookup.state, among=among)


class Together:
    """Computations of one batch that share their stages: those asked for in the same turn of the event loop."""

    def __init__(self, turns: Turns, recommender: Recommender, generation: Generation) -> None:
        self._turns = turns
        self._recommender = recommender
        self._generation = generation
        self._joined: list[Work] = []
        self._begun: asyncio.Future[list[Answer]] | None = None

    async def answer(self, work: Work) -> Answer:
        """The answer of one. Raises what the computation raises."""
        if self._begun is not None:  # too late to join
            return (await self._turns.take(lambda: self._recommender.answers(self._generation, [work])))[0]
        place = len(self._joined)
        self._joined.append(work)
        await asyncio.sleep(0)  # the others join meanwhile
        if self._begun is None:
            works = list(self._joined)
            self._begun = asyncio.ensure_future(
                self._turns.take(lambda: self._recommender.answers(self._generation, works))
            )
        return (await asyncio.shield(self._begun))[place]
