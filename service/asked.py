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
    """Computations of one batch that share their stages: those that have joined by the time the first is waited for."""

    def __init__(self, turns: Turns, recommender: Recommender, generation: Generation) -> None:
        self._turns = turns
        self._recommender = recommender
        self._generation = generation
        self._joined: list[Work] = []
        self._begun: dict[int, tuple[asyncio.Future[list[Answer]], int]] = {}

    def add(self, work: Work) -> int:
        """Join; returns the place in the batch."""
        self._joined.append(work)
        return len(self._joined) - 1

    async def answer(self, place: int) -> Answer:
        """The answer of one. Raises what the computation raises."""
        if place not in self._begun:
            self._begin([p for p in range(len(self._joined)) if p not in self._begun])
        answers, at = self._begun[place]
        return (await asyncio.shield(answers))[at]

    def _begin(self, places: list[int]) -> None:
        works = [self._joined[place] for place in places]
        answers = asyncio.ensure_future(self._turns.take(lambda: self._recommender.answers(self._generation, works)))
        for at, place in enumerate(places):
            self._begun[place] = answers, at
