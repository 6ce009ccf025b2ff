"""The answer cache's tier in this process: bounded in entries and in bytes, the least recently used go first."""

from __future__ import annotations

import math
import sys
import time
from collections import OrderedDict
from collections.abc import Callable

from service.domain import Answer
from service.lookup import Found

MAX_BYTES = 64 * 2**20
"""Most memory of one process that answers take, unless told otherwise."""

ENTRY_BYTES = 440
"""An entry without its key and rows: its place in the ordered table (about 150), the entry, the answer, the tuples."""
ROW_BYTES = 80
"""A row and its score: two places in tuples, an int, a float. Python asks for 68, pymalloc takes 80 from the system."""
REASONS_BYTES = 56
"""The tuple of one row's reasons, and the place it has in another."""
REASON_BYTES = 128
"""A reason without its item id: the object, its place, its two floats. Kinds are few and shared."""


class Entry:
    """An answer and its times, on the tier's clock. Written once, but for `renew_after`."""

    __slots__ = ("cost", "ends", "fresh_until", "hit", "renew_after")

    def __init__(self, answer: Answer, fresh_until: float, ends: float, cost: int) -> None:
        self.hit = Found(answer, cached=True)
        """What every hit returns: made once, because a hit should cost next to nothing."""
        self.fresh_until = fresh_until
        self.ends = ends
        """Until when it may be given while it is computed anew."""
        self.renew_after = -math.inf
        """Not before then is it computed anew: the last try failed."""
        self.cost = cost
        """Estimated bytes."""


class MemoryCache:
    """Answers by key. Plain and synchronous: a hit is a look into a table."""

    def __init__(
        self,
        *,
        max_entries: int,
        ttl_seconds: float,
        stale_seconds: float = 0.0,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """An answer is fresh for `ttl_seconds`, and for `stale_seconds` more it is kept as stale."""
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._ttl = ttl_seconds
        self._life = ttl_seconds + stale_seconds
        self._clock = clock
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """Estimated memory of all entries."""
        return self._bytes

    def fresh(self, key: str) -> Found | None:
        """The answer under `key` where it is fresh."""
        entry = self._entries.get(key)
        if entry is None or self._clock() >= entry.fresh_until:
            return None
        self._entries.move_to_end(key)
        return entry.hit

    def entry(self, key: str) -> Entry | None:
        """What is kept under `key`, fresh or stale; what is past its end is let go."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._clock() >= entry.ends:
            self.drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: str, answer: Answer, *, age: float = 0.0) -> None:
        """Keep an answer that was computed `age` seconds ago. One that is larger than the whole tier is not kept."""
        self.drop(key)
        cost = cost_bytes(key, answer)
        if cost > self._max_bytes or age >= self._life:
            return
        now = self._clock()
        self._entries[key] = Entry(answer, now + self._ttl - age, now + self._life - age, cost)
        self._bytes += cost
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= oldest.cost

    def drop(self, key: str) -> None:
        """Forget what is kept under `key`, if anything is."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.cost

    def may_renew(self, key: str) -> bool:
        """Whether what is kept under `key` may be computed anew now."""
        entry = self._entries.get(key)
        return entry is None or self._clock() >= entry.renew_after

    def postpone(self, key: str, seconds: float) -> None:
        """Do not let `key` be computed anew for a while."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.renew_after = self._clock() + seconds


def cost_bytes(key: str, answer: Answer) -> int:
    """Estimated memory of one entry, in bytes: within a quarter of what the allocator is asked for (tested)."""
    cost = ENTRY_BYTES + sys.getsizeof(key) + ROW_BYTES * len(answer.rows)
    for reasons in answer.reasons:
        cost += REASONS_BYTES + REASON_BYTES * len(reasons) + sum(sys.getsizeof(reason.item_id) for reason in reasons)
    return cost
