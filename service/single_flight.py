"""Each computation once, however many ask for it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flight(Generic[T]):
    """One computation under way, and how many wait for it."""

    __slots__ = ("needed", "task", "waiters")

    def __init__(self, task: asyncio.Task[T], *, needed: bool) -> None:
        self.task = task
        self.needed = needed
        """Whether it is worth finishing though nobody waits for it."""
        self.waiters = 0


class SingleFlight(Generic[T]):
    """Runs one computation a key at a time; whoever asks meanwhile waits for its result."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight[T]] = {}

    def __contains__(self, key: str) -> bool:
        """Whether a computation of `key` is under way."""
        return key in self._flights

    async def once(self, key: str, compute: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, bool]:
        """The result of `compute()`, and whether it was somebody else's.

        The computation is its own task: a caller who is cancelled takes nothing from those who wait with them.
        Raises what the computation raised.
        """
        flight = self._flights.get(key)
        shared = flight is not None
        if flight is None:
            flight = self._begin(key, compute, needed=False)
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task), shared
        finally:
            flight.waiters -= 1

    def begin(self, key: str, compute: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Start a computation that nobody waits for yet. None of this key may be under way."""
        return self._begin(key, compute, needed=True).task

    def abandon(self, key: str) -> bool:
        """Called by the computation of `key` itself, before its costly part: whether everyone who waited has gone.

        If so, whoever asks from now on begins another, and this one should end.
        """
        flight = self._flights[key]
        if flight.needed or flight.waiters:
            return False
        del self._flights[key]
        return True

    def _begin(self, key: str, compute: Callable[[], Coroutine[Any, Any, T]], *, needed: bool) -> Flight[T]:
        flight = Flight(asyncio.ensure_future(compute()), needed=needed)
        self._flights[key] = flight
        flight.task.add_done_callback(lambda done: self._finished(key, flight))
        return flight

    def _finished(self, key: str, flight: Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.task.cancelled():
            flight.task.exception()  # retrieved: a failure that every caller was cancelled out of is nobody's
