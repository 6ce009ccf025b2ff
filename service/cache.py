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
from service.errors import OverloadedError
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

    tier: str
    """The `tier` label of the metrics."""

    async def get(self, name: str) -> Lookup:
        """The answer stored under the whole name, tenant and all; fresh or stale, and its age."""
        ...

    async def put(self, name: str, answer: Answer) -> None:
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
        *,
        tenant: str = "default",
    ) -> None:
        """`count(tier, result)` is told each look-up; `turns` is given where others compute on this event loop too.

        Caches of several tenants and bundles can have both tiers in common: a key is the tenant's own, and the caller
        puts the bundle's version into it.
        """
        self._memory = memory
        self._shared = shared
        self._count = count
        self._turns = turns or Turns()
        self._prefix = f"plotpointe:{tenant}:answer:"
        self._flight: SingleFlight[Found] = SingleFlight()
        self._writes: set[asyncio.Task[None]] = set()
        self._renewals: set[asyncio.Task[Found]] = set()
        self._limit = RateLimit()

    def peek(self, key: str, still_valid: StillValid | None = None, *, stale: bool = False) -> Found | None:
        """The answer under `key` where this process has it, fresh; counted if so.

        With `stale`, a stale one too, and nobody renews it: for who has no time for anything else.
        """
        name = self._prefix + key
        found = self._fresh(name, still_valid)
        if found is not None or not stale:
            return found
        entry = self._memory.entry(name)
        if entry is None or (still_valid is not None and not still_valid(entry.hit.answer)):
            return None
        self._count("memory", Result.STALE)
        return Found(entry.hit.answer, cached=True, stale=True)

    async def get_or_compute(
        self,
        key: str,
        compute: Callable[[], Answer],
        still_valid: StillValid | None = None,
        *,
        admit: Callable[[], None] | None = None,
    ) -> Found:
        """The answer under `key`, from the nearest place that has one that `still_valid` accepts.

        `compute` blocks the event loop, in its turn. It may be called after this has returned, to renew a stale
        answer: it must not write into what belongs to one request. `admit` is asked first where memory has nothing
        and nobody is computing it already, and raises to refuse. Raises what the two raise.
        """
        name = self._prefix + key
        found = self._fresh(name, still_valid)
        if found is not None:
            return found

        def in_turn() -> Coroutine[Any, Any, Answer]:
            return self._turns.take(compute, lambda: self._flight.abandon(name))

        return await self._look_up(name, in_turn, still_valid, admit)

    async def get_or_await(
        self,
        key: str,
        compute: Callable[[], Awaitable[Answer]],
        still_valid: StillValid | None = None,
        *,
        admit: Callable[[], None] | None = None,
    ) -> Found:
        """The same with a computation that waits for something itself, and so takes no turn."""
        name = self._prefix + key
        found = self._fresh(name, still_valid)
        return found if found is not None else await self._look_up(name, compute, still_valid, admit)

    async def close(self) -> None:
        """Wait a while for the writes and the renewals under way, then end them."""
        if self._renewals:
            await asyncio.wait(self._renewals, timeout=CLOSE_SECONDS)
        if self._writes:
            await asyncio.wait(self._writes, timeout=CLOSE_SECONDS)
        for task in (*self._renewals, *self._writes):
            task.cancel()

    def _fresh(self, name: str, still_valid: StillValid | None) -> Found | None:
        found = self._memory.fresh(name)
        if found is None or (still_valid is not None and not still_valid(found.answer)):
            return None
        self._count("memory", Result.HIT)
        return found

    async def _look_up(
        self,
        name: str,
        compute: Callable[[], Awaitable[Answer]],
        still_valid: StillValid | None,
        admit: Callable[[], None] | None,
    ) -> Found:
        entry = self._memory.entry(name)
        if entry is None:
            self._count("memory", Result.MISS)
        elif still_valid is not None and not still_valid(entry.hit.answer):
            self._count("memory", Result.INVALIDATED)
            self._memory.drop(name)
        else:
            self._count("memory", Result.STALE)
            self._renew(name, compute, still_valid)
            return Found(entry.hit.answer, cached=True, stale=True)
        if admit is not None and name not in self._flight:
            admit()
        found, shared = await self._flight.once(name, lambda: self._beyond_memory(name, compute, still_valid))
        if shared and still_valid is not None and not still_valid(found.answer):
            # It was begun before something was hidden: what is begun now is not.
            self._memory.drop(name)
            found, shared = await self._flight.once(name, lambda: self._beyond_memory(name, compute, still_valid))
        if found.stale:
            self._renew(name, compute, still_valid)
        if not shared:
            return found
        self._count("flight", Result.SHARED)
        return Found(found.answer, cached=True, degraded=found.degraded, stale=found.stale)

    async def _beyond_memory(
        self,
        name: str,
        compute: Callable[[], Awaitable[Answer]],
        still_valid: StillValid | None,
        *,
        renewing: bool = False,
    ) -> Found:
        """The answer of the shared tier, or a new one; only a fresh one where it is `renewing`."""
        degraded: tuple[Degradation, ...] = ()
        if self._shared is not None:
            lookup = await self._shared.get(name)
            answer, result = lookup.answer, lookup.result
            if answer is not None and still_valid is not None and not still_valid(answer):
                answer, result = None, Result.INVALIDATED
            self._count(self._shared.tier, result)
            if answer is not None and not (renewing and result is Result.STALE):
                self._memory.put(name, answer, age=lookup.age)
                return Found(answer, cached=True, stale=result is Result.STALE)
            if result is Result.UNAVAILABLE:
                degraded = (Degradation.CACHE_UNAVAILABLE,)
        answer = await compute()
        if not answer.degraded:
            self._memory.put(name, answer)
            if self._shared is not None and not degraded and len(self._writes) < MOST_PENDING_WRITES:
                self._write_later(self._shared, name, answer)
        return Found(answer, cached=False, degraded=degraded)

    def _renew(self, name: str, compute: Callable[[], Awaitable[Answer]], still_valid: StillValid | None) -> None:
        """Compute a stale answer anew, behind the back of those who ask; once a key, and not too many at a time."""
        if name in self._flight or not self._memory.may_renew(name):
            return
        if len(self._renewals) >= MOST_RENEWALS:
            self._count("renewal", Result.SKIPPED)
            return
        renewal = self._flight.begin(name, lambda: self._beyond_memory(name, compute, still_valid, renewing=True))
        self._renewals.add(renewal)
        renewal.add_done_callback(lambda done: self._renewed(name, done))

    def _renewed(self, name: str, renewal: asyncio.Task[Found]) -> None:
        """Note how a renewal went. Where it failed, the stale answer stays until its end."""
        self._renewals.discard(renewal)
        if renewal.cancelled():
            return
        error = renewal.exception()
        if isinstance(error, OverloadedError):
            self._count("renewal", Result.SKIPPED)
            return
        if error is None and not renewal.result().answer.degraded:
            self._count("renewal", Result.RENEWED)
            return
        self._count("renewal", Result.FAILED)
        self._memory.postpone(name, RENEW_AGAIN_SECONDS)
        if error is not None and self._limit.allows():
            log.error("an answer could not be computed anew; the stale one stays: %s", error, exc_info=error)

    def _write_later(self, shared: SharedCache, name: str, answer: Answer) -> None:
        """Nobody waits for a write to the shared tier."""
        write = asyncio.ensure_future(shared.put(name, answer))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
