from __future__ import annotations

import asyncio

import pytest

from service.single_flight import SingleFlight


async def test_those_who_ask_together_share_one_computation() -> None:
    flight: SingleFlight[int] = SingleFlight()
    computed = 0

    async def compute() -> int:
        nonlocal computed
        computed += 1
        await asyncio.sleep(0)
        return computed

    assert await asyncio.gather(*(flight.once("a", compute) for _ in range(3))) == [(1, False), (1, True), (1, True)]
    assert "a" not in flight
    assert await flight.once("a", compute) == (2, False)


async def test_who_gives_up_takes_nothing_from_those_who_wait() -> None:
    flight: SingleFlight[int] = SingleFlight()
    release = asyncio.Event()

    async def compute() -> int:
        await release.wait()
        assert not flight.abandon("a")
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


async def test_what_everyone_gave_up_is_abandoned_and_not_handed_to_the_next() -> None:
    flight: SingleFlight[str] = SingleFlight()
    release, asked, end = asyncio.Event(), asyncio.Event(), asyncio.Event()
    abandoned: list[bool] = []

    async def old() -> str:
        await release.wait()
        abandoned.append(flight.abandon("a"))
        asked.set()
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    async def new() -> str:
        await end.wait()
        return "new"

    gone = asyncio.ensure_future(flight.once("a", old))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    release.set()
    await asked.wait()
    assert abandoned == [True]
    next_one = asyncio.ensure_future(flight.once("a", new))
    for _ in range(5):  # the old one ends while the new one is under way
        await asyncio.sleep(0)
    assert "a" in flight
    end.set()
    assert await next_one == ("new", False)
    assert "a" not in flight


async def test_what_nobody_waits_for_yet_is_finished_and_can_be_joined() -> None:
    flight: SingleFlight[int] = SingleFlight()
    release = asyncio.Event()
    abandoned: list[bool] = []

    async def compute() -> int:
        abandoned.append(flight.abandon("a"))
        await release.wait()
        return 7

    task = flight.begin("a", compute)
    await asyncio.sleep(0)
    assert abandoned == [False]
    joined = asyncio.ensure_future(flight.once("a", compute))
    await asyncio.sleep(0)
    release.set()
    assert await joined == (7, True)
    assert await task == 7
