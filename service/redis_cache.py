"""The answer cache's tier that several processes share, in Redis."""

from __future__ import annotations

import time

from redis.asyncio import Redis

from service.answer_codec import MOST_VALUE_BYTES, AnswerCodec
from service.domain import Answer
from service.lookup import Lookup, Result
from service.redis_link import RedisDownError, RedisLink, RedisRefusedError

GONE = -2
"""What PTTL replies where there is no such key."""


class RedisCache:
    """See `service.cache.SharedCache`. Redis slow, gone, full or holding strange values is a miss and never an error.

    How old a value is, Redis's own clock says: the value tells for how long Redis was told to keep it, PTTL how much
    of that is left. No two machines' clocks are compared.
    """

    tier = "redis"

    def __init__(
        self,
        link: RedisLink,
        codec: AnswerCodec,
        *,
        ttl_seconds: float,
        stale_seconds: float = 0.0,
    ) -> None:
        """A value is fresh for `ttl_seconds`, and for `stale_seconds` more it is kept as stale."""
        self._link = link
        self._codec = codec
        self._ttl_ms = max(1, round(ttl_seconds * 1000))
        self._life_ms = self._ttl_ms + round(stale_seconds * 1000)

    @property
    def state(self) -> str:
        """`ok` or `unavailable`, as of the last command."""
        return self._link.state

    async def probe(self) -> None:
        """Ask whether Redis is there, so that `state` is right before the first request."""
        await self.get("plotpointe:probe")

    async def get(self, name: str) -> Lookup:
        """See `SharedCache`."""
        try:
            # Time first: if the value is replaced in between, a young one seems old, never an old one young.
            left_ms, data = await self._link.call(lambda redis: _time_and_value(redis, name))
        except RedisRefusedError as error:
            return Lookup(Result.REJECTED if error.wrong_type else Result.UNAVAILABLE)
        except RedisDownError:
            return Lookup(Result.UNAVAILABLE)
        if left_ms == GONE or data == b"":
            return Lookup(Result.MISS)
        stored = self._codec.decode(name, data) if type(data) is bytes else None
        if stored is None or type(left_ms) is not int or not 0 <= left_ms <= stored.life_ms:
            return Lookup(Result.REJECTED)
        age_ms = stored.life_ms - left_ms
        if age_ms >= self._life_ms:
            return Lookup(Result.MISS)
        return Lookup(Result.HIT if age_ms < self._ttl_ms else Result.STALE, stored.answer, age_ms / 1000)

    async def put(self, name: str, answer: Answer) -> None:
        """See `SharedCache`. Nothing is kept where Redis does not take it."""
        data = self._codec.encode(name, answer, self._life_ms)
        if data is None:
            return
        computed = time.monotonic()

        async def store(redis: Redis) -> None:
            # A write that had to wait for a connection is of an answer that has aged meanwhile.
            left_ms = self._life_ms - round((time.monotonic() - computed) * 1000)
            if left_ms > 0:
                await redis.set(name, data, px=left_ms)

        try:
            await self._link.call(store)
        except (RedisDownError, RedisRefusedError):
            return  # the link has said so in the log


async def _time_and_value(redis: Redis, name: str) -> tuple[object, object]:
    """Milliseconds that the value has left, and the value, in one round trip."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.pttl(name)
        pipe.getrange(name, 0, MOST_VALUE_BYTES)
        left_ms, data = await pipe.execute()
        return left_ms, data
