"""Stage: repeat an answer that was computed a moment ago, and compute each answer once however many ask for it.

Two tiers, one contract (`Cache`): this process's memory, then Redis where there is one (`redis_cache.py`).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

import orjson

from service.domain import Answer, Degradation, Strategy

T = TypeVar("T")

MOST_PENDING_WRITES = 256
"""Writes to the second tier that may be under way at once; past it they are left out."""


class Result(StrEnum):
    """How a look-up went: the `result` label of plotpointe_cache_requests_total."""

    HIT = "hit"
    MISS = "miss"
    REJECTED = "rejected"
    """There was a value, but not one that this service wrote under this key: a miss."""
    UNAVAILABLE = "unavailable"
    """The tier did not answer: a miss."""
    SHARED = "shared"
    """The same answer was being computed for someone else."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a tier said; `answer` exactly where the result is a hit."""

    result: Result
    answer: Answer | None = None


class Cache(Protocol):
    """One tier. Neither method raises for anything that the tier holds or does."""

    name: str
    """The `tier` label of the metrics."""

    async def get(self, key: str) -> Lookup:
        """The answer stored under `key`, if it is still fresh."""
        ...

    async def put(self, key: str, answer: Answer) -> None:
        """Store an answer for the tier's time to live."""
        ...


class MemoryCache:
    """The tier in this process: bounded, the least recently used go first."""

    name = "memory"

    def __init__(self, *, max_entries: int, ttl_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_entries = max_entries
        self._ttl = ttl_seconds
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, Answer]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, key: str) -> Lookup:
        """See `Cache`."""
        entry = self._entries.get(key)
        if entry is None:
            return Lookup(Result.MISS)
        expires, answer = entry
        if self._clock() >= expires:
            del self._entries[key]
            return Lookup(Result.MISS)
        self._entries.move_to_end(key)
        return Lookup(Result.HIT, answer)

    async def put(self, key: str, answer: Answer) -> None:
        """See `Cache`."""
        self._entries[key] = (self._clock() + self._ttl, answer)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)


class SingleFlight(Generic[T]):
    """Runs one computation a key at a time; whoever asks meanwhile waits for its result."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[T]] = {}

    async def once(self, key: str, compute: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, bool]:
        """The result of `compute()`, and whether it was somebody else's.

        The computation is its own task: a caller who is cancelled takes nothing from those who wait with them.
        """
        task = self._running.get(key)
        shared = task is not None
        if task is None:
            task = asyncio.ensure_future(compute())
            self._running[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        return await asyncio.shield(task), shared

    def _finished(self, key: str, task: asyncio.Task[T]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # retrieved: a failure that every caller was cancelled out of is nobody's


@dataclass(frozen=True, slots=True)
class Found:
    """An answer and how it was come by."""

    answer: Answer
    cached: bool
    """It was computed for an earlier or a simultaneous request."""
    degraded: tuple[Degradation, ...] = ()
    """What went wrong on the way to it, besides what the answer says of itself."""


class AnswerCache:
    """Both tiers, before a computation that happens once. Answers that are less than they should be are not kept."""

    def __init__(self, memory: Cache, shared: Cache | None, count: Callable[[str, str], None]) -> None:
        """`shared` is the tier that several processes have in common; `count(tier, result)` is told each look-up."""
        self._memory = memory
        self._shared = shared
        self._count = count
        self._flight: SingleFlight[Found] = SingleFlight()
        self._turn = asyncio.Lock()
        self._writes: set[asyncio.Task[None]] = set()

    async def get_or_compute(self, key: str, compute: Callable[[], Answer]) -> Found:
        """The answer under `key`, from the nearest place that has it."""
        if answer := await self._get(self._memory, key):
            return Found(answer, cached=True)
        found, shared = await self._flight.once(key, lambda: self._beyond_memory(key, compute))
        if shared:
            self._count("flight", Result.SHARED)
            return Found(found.answer, cached=True, degraded=found.degraded)
        return found

    async def close(self) -> None:
        """Wait for the writes under way."""
        if self._writes:
            await asyncio.wait(self._writes)

    async def _beyond_memory(self, key: str, compute: Callable[[], Answer]) -> Found:
        degraded: tuple[Degradation, ...] = ()
        if self._shared is not None:
            lookup = await self._shared.get(key)
            self._count(self._shared.name, lookup.result)
            if lookup.answer is not None:
                await self._memory.put(key, lookup.answer)
                return Found(lookup.answer, cached=True)
            if lookup.result is Result.UNAVAILABLE:
                degraded = (Degradation.CACHE_UNAVAILABLE,)
        answer = await self._in_turn(compute)
        if not answer.degraded:
            await self._memory.put(key, answer)
            if self._shared is not None and not degraded and len(self._writes) < MOST_PENDING_WRITES:
                self._write_later(self._shared, key, answer)
        return Found(answer, cached=False, degraded=degraded)

    async def _in_turn(self, compute: Callable[[], Answer]) -> Answer:
        """`compute()`, at most once in a turn of the event loop.

        A burst of misses would otherwise be computed in one go, and for as long nobody would read what Redis replied:
        it would seem to be slow. Between two computations everything else that is ready goes first.
        """
        await self._turn.acquire()
        try:
            return compute()
        finally:
            asyncio.get_running_loop().call_soon(self._turn.release)

    async def _get(self, tier: Cache, key: str) -> Answer | None:
        lookup = await tier.get(key)
        self._count(tier.name, lookup.result)
        return lookup.answer

    def _write_later(self, tier: Cache, key: str, answer: Answer) -> None:
        """Nobody waits for a write to the shared tier."""
        write = asyncio.ensure_future(tier.put(key, answer))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)


def encode(key: str, answer: Answer) -> bytes:
    """An answer as JSON that carries its own key."""
    return orjson.dumps({"key": key, "strategy": answer.strategy, "rows": answer.rows, "scores": answer.scores})


def decode(key: str, data: bytes, num_items: int) -> Answer | None:
    """What `encode(key, ...)` wrote, or None for anything else, whoever wrote it.

    A connection can hand over the reply to somebody else's command (redis-py issue 2665), and a cache can hold what
    nobody here wrote: so the value must carry its key, and be rows of this catalog.
    """
    try:
        value = orjson.loads(data)
        rows, scores = value["rows"], value["scores"]
        whole = (
            value["key"] == key
            and value.keys() == {"key", "strategy", "rows", "scores"}
            and len(rows) == len(scores) == len(set(rows))
            and all(type(row) is int and 0 <= row < num_items for row in rows)
            and all(type(score) is float and math.isfinite(score) for score in scores)
        )
        return Answer(tuple(rows), tuple(scores), Strategy(value["strategy"])) if whole else None
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
        return None
