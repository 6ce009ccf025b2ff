"""The cache tier that several processes share. The only module that knows Redis."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from service.cache import Lookup, Result, decode, encode
from service.domain import Answer
from service.errors import InputError
from service.logs import RateLimit

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECTIONS = 8
"""Connections of one process. A command takes a fraction of a millisecond, so few of them carry much; a connection
for each of a burst of requests would cost more than the answers."""
PREFIX = "plotpointe:"
"""Every key of this service begins with it."""
FAILURES = (RedisError, OSError, TimeoutError)
"""What a Redis that is slow, gone or full makes redis-py or asyncio raise."""
MOST_VALUE_BYTES = 65_536
"""No answer is longer; what is longer was not written here, and is not read to its end."""


class Breaker:
    """Keeps callers away from what just failed: after each failure twice as long, up to 30 seconds."""

    SHORTEST_SECONDS = 0.5
    LONGEST_SECONDS = 30.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pause = 0.0
        self._opens_at = 0.0
        self._trying = False

    @property
    def broken(self) -> bool:
        """Whether the last call failed."""
        return self._pause > 0

    def admits(self) -> bool:
        """Whether to call now. While broken, one caller a pause is let through to try; the others are turned away."""
        if not self.broken:
            return True
        if self._clock() < self._opens_at:
            return False
        self._opens_at = self._clock() + self._pause
        self._trying = True
        return True

    def succeeded(self) -> None:
        """A call worked."""
        self._pause = 0.0
        self._trying = False

    def failed(self) -> None:
        """A call failed. Several that were under way together count once."""
        if self.broken and not self._trying:
            return
        self._trying = False
        self._pause = min(max(2 * self._pause, self.SHORTEST_SECONDS), self.LONGEST_SECONDS)
        self._opens_at = self._clock() + self._pause


class RedisCache:
    """See `service.cache.Cache`. Redis slow, gone, full or holding strange values is a miss and never an error."""

    name = "redis"

    def __init__(self, url: SecretStr, *, timeout_ms: int, ttl_seconds: float, num_items: int) -> None:
        """`num_items` bounds the rows that a value may name. Raises InputError for a URL that cannot be understood."""
        self._timeout = timeout_ms / 1000
        self._ttl_ms = max(1, round(ttl_seconds * 1000))
        self._num_items = num_items
        self._breaker = Breaker()
        self._connections = asyncio.Semaphore(CONNECTIONS)
        self._limit = RateLimit()
        try:
            # No retries: a retry would cost the shopper another timeout for what can be computed in a millisecond.
            self._redis = Redis.from_url(
                url.get_secret_value(),
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                retry=Retry(NoBackoff(), 0),
                max_connections=CONNECTIONS,
                protocol=2,
            )
        except ValueError as error:
            raise InputError(
                "not a URL of a Redis server",
                where="PLOTPOINTE_REDIS_URL",
                todo="Write it as redis://[user:password@]host:port/database, rediss:// for TLS, or unix:///path",
            ) from error

    @property
    def state(self) -> str:
        """`ok` or `unavailable`, as of the last command."""
        return "unavailable" if self._breaker.broken else "ok"

    async def probe(self) -> None:
        """Ask whether Redis is there, so that `state` is right before the first request."""
        await self.get("probe")

    async def get(self, key: str) -> Lookup:
        """See `Cache`."""
        try:
            data = await self._call(lambda: self._redis.getrange(PREFIX + key, 0, MOST_VALUE_BYTES))
        except ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                return Lookup(Result.REJECTED)
            self._failed(error)
            return Lookup(Result.UNAVAILABLE)
        except FAILURES as error:
            self._failed(error)
            return Lookup(Result.UNAVAILABLE)
        if data is None:
            return Lookup(Result.UNAVAILABLE)
        if not data:
            return Lookup(Result.MISS)
        answer = decode(key, data, self._num_items) if isinstance(data, bytes) else None
        return Lookup(Result.REJECTED) if answer is None else Lookup(Result.HIT, answer)

    async def put(self, key: str, answer: Answer) -> None:
        """See `Cache`. Nothing is kept where Redis does not take it."""
        try:
            await self._call(lambda: self._redis.set(PREFIX + key, encode(key, answer), px=self._ttl_ms))
        except FAILURES as error:
            self._failed(error)

    async def close(self) -> None:
        """Close the connections."""
        try:
            await self._redis.aclose()
        except FAILURES as error:
            log.info("Redis was gone before its connections were closed: %s", type(error).__name__)

    async def _call(self, command: Callable[[], Awaitable[T]]) -> T | None:
        """The reply to a command, None where the breaker turned it away. Raises one of FAILURES."""
        # Waiting for a connection is waiting for others in this process and says nothing of Redis: it is not timed.
        async with self._connections:
            if not self._breaker.admits():
                return None
            # Around everything, connecting included; the socket timeouts bound each read alone.
            async with asyncio.timeout(self._timeout):
                reply = await command()
            self._breaker.succeeded()
            return reply

    def _failed(self, error: Exception) -> None:
        self._breaker.failed()
        if self._limit.allows():
            # The class alone: a message of redis-py can hold the address, and an address can hold a password.
            log.warning("Redis did not answer (%s); answers are computed without it", type(error).__name__)
