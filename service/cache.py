"""Stage: repeat an answer that was computed a moment ago, and compute each answer once however many ask for it.

    fresh in memory -> stale in memory, renewed behind its back -> shared tier (Redis) -> computed, in turn

docs/CACHE.md says what a caller may rely on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from service.domain import Answer, Degradation
from service.logs import RateLimit
from service.lookup import Found, Lookup, Result
from service.memory_cache import MemoryCache
from service.single_flight import SingleFlight
from service.turns import Turns

__all__ = ["AnswerCache", "Found", "MemoryCache", "SharedCache", "Turns"]

log = logging.getLogger(__name__)

StillValid = Callable[[Answer], bool]
"""Says whether all that an answer shows may be shown now. Cheap: it is asked at every hit."""

MOST_PENDING_WRITES = 256
"""Writes to the shared tier that may be under way at once; past it they are left out."""
MOST_RENEWALS = 32
"""Stale answers that may be computed anew at once; past it they stay stale until a later hit."""
RENEW_AGAIN_SECONDS = 1.0
"""Pause after a renewal that failed: a fault is not to be computed at every hit."""
CLOSE_SECONDS = 5.0
"""Longest wait for what is under way at the end."""


class SharedCache(Protocol):
    """The tier that several processes have in common. Neither method raises for anything that it holds or does."""

    name: str
    """The `tier` label of the metrics."""

    async def get(self, key: str) -> Lookup:
        """The answer stored under `key`, fresh or stale, and its age."""
        ...

    async def put(self, key: str, answer: Answer) -> None:
        """Store an answer that was computed just now."""
        ...


class AnswerCache:
    """Both tiers, before a computation that happens once. Answers that are less than they should be are not kept."""

    def __init__(
        self,
        memory: MemoryCache,
        shared: SharedCache | None,
        count: Callable[[str, str], None],
        turns: Turns | None = None,
    ) -> None:
        """`count(tier, result)` is told each look-up; `turns` is given where others compute on this event loop too."""
        self._memory = memory
        self._shared = shared
        self._count = count
        self._turns = turns or Turns()
        self._flight: SingleFlight[Found] = SingleFlight()
        self._writes: set[asyncio.Task[None]] = set()
        self._renewals: set[asyncio.Task[Found]] = set()
        self._limit = RateLimit()

    @property
    def waiting(self) -> int:
        """Computations that wait for their turn."""
        return self._turns.waiting

    @property
    def mean_compute_seconds(self) -> float:
        """Exponentially weighted mean of the time that one computation took; 0 before the first."""
        return self._turns.mean_compute_seconds

    def peek(self, key: str, still_valid: StillValid | None = None) -> Found | None:
        """The answer under `key` where this process has it, fresh; counted if so. For everything else, look it up."""
        found = self._memory.fresh(key)
        if found is None or (still_valid is not None and not still_valid(found.answer)):
            return None
        self._count("memory", Result.HIT)
        return found

    async def get_or_compute(
        self, key: str, compute: Callable[[], Answer], still_valid: StillValid | None = None
    ) -> Found:
        """The answer under `key`, from the nearest place that has one that `still_valid` accepts.

        `compute` blocks the event loop, in its turn. It may be called after this has returned, to renew a stale
        answer: it must not write into what belongs to one request. Raises what it raises.
        """
        found = self.peek(key, still_valid)
        if found is not None:
            return found

        def in_turn() -> Coroutine[Any, Any, Answer]:
            return self._turns.take(compute, lambda: self._flight.abandon(key))

        return await self._look_up(key, in_turn, still_valid)

    async def get_or_await(
        self, key: str, compute: Callable[[], Awaitable[Answer]], still_valid: StillValid | None = None
    ) -> Found:
        """The same with a computation that waits for something itself, and so takes no turn."""
        found = self.peek(key, still_valid)
        return found if found is not None else await self._look_up(key, compute, still_valid)

    async def close(self) -> None:
        """Wait a while for the writes and the renewals under way, then end them."""
        if self._renewals:
            await asyncio.wait(self._renewals, timeout=CLOSE_SECONDS)
        if self._writes:
            await asyncio.wait(self._writes, timeout=CLOSE_SECONDS)
        for task in (*self._renewals, *self._writes):
            task.cancel()

    async def _look_up(
        self, key: str, compute: Callable[[], Awaitable[Answer]], still_valid: StillValid | None
    ) -> Found:
        entry = self._memory.entry(key)
        if entry is None:
            self._count("memory", Result.MISS)
        elif still_valid is not None and not still_valid(entry.hit.answer):
            self._count("memory", Result.INVALIDATED)
            self._memory.drop(key)
        else:
            self._count("memory", Result.STALE)
            self._renew(key, compute, still_valid)
            return Found(entry.hit.answer, cached=True, stale=True)
        found, shared = await self._flight.once(key, lambda: self._beyond_memory(key, compute, still_valid))
        if shared and still_valid is not None and not still_valid(found.answer):
            # It was begun before something was hidden: what is begun now is not.
            self._memory.drop(key)
            found, shared = await self._flight.once(key, lambda: self._beyond_memory(key, compute, still_valid))
        if found.stale:
            self._renew(key, compute, still_valid)
        if not shared:
            return found
        self._count("flight", Result.SHARED)
        return Found(found.answer, cached=True, degraded=found.degraded, stale=found.stale)

    async def _beyond_memory(
        self,
        key: str,
        compute: Callable[[], Awaitable[Answer]],
        still_valid: StillValid | None,
        *,
        renewing: bool = False,
    ) -> Found:
        """The answer of the shared tier, or a new one; only a fresh one where it is `renewing`."""
        degraded: tuple[Degradation, ...] = ()
        if self._shared is not None:
            lookup = await self._shared.get(key)
            answer, result = lookup.answer, lookup.result
            if answer is not None and still_valid is not None and not still_valid(answer):
                answer, result = None, Result.INVALIDATED
            self._count(self._shared.name, result)
            if answer is not None and not (renewing and result is Result.STALE):
                self._memory.put(key, answer, age=lookup.age)
                return Found(answer, cached=True, stale=result is Result.STALE)
            if result is Result.UNAVAILABLE:
                degraded = (Degradation.CACHE_UNAVAILABLE,)
        answer = await compute()
        if not answer.degraded:
            self._memory.put(key, answer)
            if self._shared is not None and not degraded and len(self._writes) < MOST_PENDING_WRITES:
                self._write_later(self._shared, key, answer)
        return Found(answer, cached=False, degraded=degraded)

    def _renew(self, key: str, compute: Callable[[], Awaitable[Answer]], still_valid: StillValid | None) -> None:
        """Compute a stale answer anew, behind the back of those who ask; once a key, and not too many at a time."""
        if key in self._flight or not self._memory.may_renew(key):
            return
        if len(self._renewals) >= MOST_RENEWALS:
            self._count("renewal", Result.SKIPPED)
            return
        renewal = self._flight.begin(key, lambda: self._beyond_memory(key, compute, still_valid, renewing=True))
        self._renewals.add(renewal)
        renewal.add_done_callback(lambda done: self._renewed(key, done))

    def _renewed(self, key: str, renewal: asyncio.Task[Found]) -> None:
        """Note how a renewal went. Where it failed, the stale answer stays until its end."""
        self._renewals.discard(renewal)
        if renewal.cancelled():
            return
        error = renewal.exception()
        if error is None and not renewal.result().answer.degraded:
            self._count("renewal", Result.RENEWED)
            return
        self._count("renewal", Result.FAILED)
        self._memory.postpone(key, RENEW_AGAIN_SECONDS)
        if error is not None and self._limit.allows():
            log.error("an answer could not be computed anew; the stale one stays: %s", error, exc_info=error)

    def _write_later(self, tier: SharedCache, key: str, answer: Answer) -> None:
        """Nobody waits for a write to the shared tier."""
        write = asyncio.ensure_future(tier.put(key, answer))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
