"""What shoppers do with items lately, shared by all processes: one sorted set an hour in Redis.

A process counts in its own memory too, and answers from that while Redis is away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from service.domain import FeedbackEvent
from service.errors import UnavailableError
from service.redis_link import RedisLink, redis_key
from service.trends import HOUR, MOST_HOURS, MOST_ITEMS, MemoryTrends, by_hour, hours_of

TTL_S = (MOST_HOURS + 1) * HOUR
READ_AGAIN_S = 5.0
"""Seconds for which a sum is repeated: adding up a week reads up to a million members."""
MOST_SUMS = 8


class RedisTrends:
    """One tenant's hours. See `service.trends.Trends`."""

    def __init__(self, link: RedisLink, *, tenant: str, clock: Callable[[], float] = time.time) -> None:
        self._link = link
        self._tenant = tenant
        self._clock = clock
        self._own = MemoryTrends(clock)
        self._sums: dict[int, tuple[float, dict[str, float]]] = {}

    async def add(self, events: Sequence[FeedbackEvent]) -> None:
        """See `service.trends.Trends`."""
        await self._own.add(events)
        hours = by_hour(events, self._clock())
        if not hours:
            return

        async def count(redis: Any) -> None:
            pipeline = redis.pipeline(transaction=False)
            for hour, weights in hours.items():
                key = self._key(hour)
                for item_id, weight in weights.items():
                    pipeline.zincrby(key, weight, item_id)
                pipeline.zremrangebyrank(key, 0, -MOST_ITEMS - 1)
                pipeline.expire(key, TTL_S)
            await pipeline.execute()

        try:
            await self._link.call(count)
        except UnavailableError:
            return  # this process knows of them, and the event log does
        self._sums.clear()

    async def lately(self, window_s: float) -> dict[str, float]:
        """See `service.trends.Trends`."""
        hours = hours_of(window_s, self._clock())
        known = self._sums.get(len(hours))
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        keys = [self._key(hour) for hour in hours]
        try:
            pairs = await self._link.echoed("ZUNION", len(keys), *keys, "WITHSCORES")
        except UnavailableError:
            return await self._own.lately(window_s)
        pairs = cast(list[bytes], pairs)
        total = {
            item.decode("utf-8", "replace"): float(weight) for item, weight in zip(pairs[::2], pairs[1::2], strict=True)
        }
        if len(self._sums) >= MOST_SUMS:
            self._sums.clear()
        self._sums[len(hours)] = time.monotonic() + READ_AGAIN_S, total
        return total

    def _key(self, hour: int) -> str:
        return redis_key(self._tenant, "trends", str(hour))
