"""One process's way to Redis: a client that waits for no longer than it may, and a breaker before it.

The modules that keep something in Redis (`redis_*`) speak to it through a `RedisLink` alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from service.errors import InputError, UnavailableError
from service.logs import RateLimit

log = logging.getLogger(__name__)

T = TypeVar("T")
Word = bytes | str | int | float
"""A part of a command."""

CONNECTIONS = 8
"""Connections of one link. A command takes a fraction of a millisecond, so few of them carry much; a connection
for each of a burst of requests would cost more than the answers."""
TOLERATED_LATENESS_S = 0.005
"""How late the event loop may notice that the time is up before the loop itself is to blame."""
FAILURES = (RedisError, OSError, TimeoutError)
"""What a Redis that is slow, gone or full makes redis-py or asyncio raise."""


def redis_key(tenant: str, *parts: str) -> str:
    """The name of a key. Every key of this service begins with `plotpointe:<tenant>:`."""
    return ":".join(("plotpointe", tenant, *parts))


class RedisDownError(UnavailableError):
    """Redis did not answer in time, or was not asked because it has just failed. Adapters turn it into less."""


class RedisRefusedError(UnavailableError):
    """Redis is there and refused the command: it is full, read-only, or the key holds another type."""

    wrong_type = False
    """The key holds a value of another type."""
    no_script = False
    """The script has to be sent again: Redis was restarted since."""

    @classmethod
    def of(cls, error: ResponseError) -> RedisRefusedError:
        """What redis-py raised, without its message: that can hold the address, and an address can hold a password."""
        full = "OOM command not allowed" in str(error)  # from within a script there is no class for it
        refused = cls("Redis is full" if full else f"Redis refused a command ({type(error).__name__})")
        refused.wrong_type = "WRONGTYPE" in str(error)  # a pipeline puts other words before it
        refused.no_script = "NoScript" in type(error).__name__ or "NOSCRIPT" in str(error)
        return refused


class Breaker:
    """Keeps callers away from what just failed: after each failure twice as long, up to `longest` seconds."""

    SHORTEST_SECONDS = 0.5
    LONGEST_SECONDS = 30.0

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, longest: float = LONGEST_SECONDS) -> None:
        """`clock` and `longest`, the longest pause, in seconds."""
        self._clock = clock
        self._longest = longest
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
        self._pause = min(max(2 * self._pause, self.SHORTEST_SECONDS), self._longest)
        self._opens_at = self._clock() + self._pause


class _Timer:
    """Lets a timeout pass after so many seconds in which the event loop could have heard the reply.

    A computation that holds the loop for longer than the timeout would otherwise make Redis look slow: the timeout
    would strike on the loop's return, while the reply lies there unread.
    """

    def __init__(self, limit: asyncio.Timeout, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._begin(seconds)

    def stop(self) -> None:
        """The reply is there, or no longer waited for."""
        self._handle.cancel()

    def _begin(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        self._handle = self._loop.call_at(self._due, self._strike)

    def _strike(self) -> None:
        lateness = self._loop.time() - self._due
        if lateness > TOLERATED_LATENESS_S:
            self._begin(min(lateness, self._seconds))
        else:
            self._limit.reschedule(self._loop.time())


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, sent once to each Redis and called by its digest from then on."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        # SHA-1 is how Redis names scripts; nothing is protected by it.
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


class RedisLink:
    """A client of one Redis for one purpose. Commands have a timeout, no retries, and the breaker before them."""

    def __init__(
        self,
        url: SecretStr,
        *,
        timeout_ms: int,
        without: str,
        connections: int = CONNECTIONS,
        longest_pause: float = Breaker.LONGEST_SECONDS,
    ) -> None:
        """`without` ends the warning: what happens where Redis does not answer ("answers are computed without it").

        `longest_pause` is the breaker's, in seconds: short where no shopper waits for the attempts. Raises
        InputError for a URL that cannot be understood. Nothing is connected yet.
        """
        self._timeout = timeout_ms / 1000
        self._without = without
        self._breaker = Breaker(longest=longest_pause)
        self._connections = asyncio.Semaphore(connections)
        self._limit = RateLimit()
        self._nonce = 0
        try:
            # No retries: a retry would cost the shopper another timeout for what can be done without.
            self._redis = Redis.from_url(
                url.get_secret_value(),
                # What a caller waits is bounded in `call`; these are for what slips through there.
                socket_timeout=self._timeout + 1,
                socket_connect_timeout=self._timeout + 1,
                retry=Retry(NoBackoff(), 0),
                max_connections=connections,
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

    async def call(self, command: Callable[[Redis], Awaitable[T]]) -> T:
        """The reply to one command, or to one pipeline, given the client.

        Raises RedisDownError where Redis did not answer within the timeout or the breaker turned the caller away,
        and RedisRefusedError where Redis answered that it will not.
        """
        # Waiting for a connection is waiting for others in this process and says nothing of Redis: it is not timed.
        async with self._connections:
            if not self._breaker.admits():
                raise RedisDownError("Redis has just failed and is left alone for a while")
            try:
                async with asyncio.timeout(None) as limit:  # around everything, connecting included
                    timer = _Timer(limit, self._timeout)
                    try:
                        reply = await command(self._redis)
                    finally:
                        timer.stop()
            except ResponseError as error:
                self._breaker.succeeded()
                refused = RedisRefusedError.of(error)
                if not refused.wrong_type and not refused.no_script:
                    self._warn("refused a command", error)
                raise refused from error
            except FAILURES as error:
                self._breaker.failed()
                self._warn("did not answer", error)
                raise RedisDownError(f"Redis did not answer ({type(error).__name__})") from error
            self._breaker.succeeded()
            return reply

    async def command(self, *words: Word) -> Any:
        """The reply to one command as Redis sent it. Raises what `call` raises."""
        # redis-py's own types leave open whether replies are bytes or text; here they are always bytes.
        return await self.call(lambda redis: cast(Any, redis).execute_command(*words))

    async def echoed(self, *words: Word) -> Any:
        """The same, sure to be this command's: the reply to somebody else's raises RedisDownError.

        A connection whose caller was cancelled has handed its reply to the next before (redis-py issue 2665).
        """
        self._nonce += 1
        nonce = b"%d" % self._nonce
        echo, reply = await self.call(
            lambda redis: cast(Any, redis.pipeline(transaction=False)).echo(nonce).execute_command(*words).execute()
        )
        if echo != nonce:
            raise RedisDownError("Redis answered another question than was asked")
        return reply

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Word]) -> Any:
        """The reply to a script, sure to be its own. Raises what `call` raises."""
        try:
            return await self.echoed("EVALSHA", script.sha, len(keys), *keys, *args)
        except RedisRefusedError as refused:
            if not refused.no_script:
                raise
        return await self.echoed("EVAL", script.text, len(keys), *keys, *args)

    def recovered(self) -> None:
        """Another connection hears from the same Redis: there is no need to wait before the next attempt."""
        self._breaker.succeeded()

    async def close(self) -> None:
        """Close the connections."""
        try:
            await self._redis.aclose()
        except FAILURES as error:
            log.info("Redis was gone before its connections were closed: %s", type(error).__name__)

    def _warn(self, what: str, error: Exception) -> None:
        if self._limit.allows():
            log.warning("Redis %s (%s); %s", what, type(error).__name__, self._without)


async def end(task: asyncio.Task[None]) -> None:
    """Cancel a task that speaks to Redis, and wait until it is over.

    Once is not always enough: sending a command, redis-py waits by `asyncio.wait_for`, which drops a cancellation that
    arrives when the command is already sent.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
