from __future__ import annotations

import asyncio
import time

import pytest

from service.turns import MEAN_OF, Turns


async def test_between_two_computations_others_get_their_turn() -> None:
    turns = Turns()
    order: list[str] = []

    async def other() -> None:
        for _ in range(100):
            await asyncio.sleep(0)
            order.append("other")

    await asyncio.gather(*(turns.take(lambda: order.append("computed")) for _ in range(3)), other())
    assert "".join(word[0] for word in order).count("cc") == 0


async def test_says_how_many_wait() -> None:
    turns = Turns()
    seen: list[int] = []
    await asyncio.gather(*(turns.take(lambda: seen.append(turns.waiting)) for _ in range(4)))
    assert seen == [0, 2, 1, 0]  # the first finds the turn free, before the others have come
    assert turns.waiting == 0


async def test_who_gives_up_waits_no_more() -> None:
    turns = Turns()
    waiting = [asyncio.ensure_future(turns.take(lambda: None)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.wait(waiting)
    assert turns.waiting == 0
    assert await turns.take(lambda: "free") == "free"


async def test_the_mean_follows_what_computations_take() -> None:
    turns = Turns()
    assert turns.mean_compute_seconds == 0
    await turns.take(lambda: time.sleep(0.02))
    first = turns.mean_compute_seconds
    assert 0.02 <= first < 0.2
    for _ in range(3 * MEAN_OF):
        await turns.take(lambda: None)
    assert turns.mean_compute_seconds < first / 10


async def test_a_failure_is_the_callers_and_gives_the_turn_back() -> None:
    turns = Turns()

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await turns.take(fail)
    assert await turns.take(lambda: 1) == 1


async def test_what_nobody_wants_any_more_is_not_computed_and_not_counted() -> None:
    turns = Turns()
    computed: list[int] = []
    with pytest.raises(asyncio.CancelledError):
        await turns.take(lambda: computed.append(1), abandoned=lambda: True)
    assert computed == []
    assert turns.mean_compute_seconds == 0
    await turns.take(lambda: computed.append(2), abandoned=lambda: False)
    assert computed == [2]


async def test_a_turn_is_longer_than_its_computation_by_what_others_do_in_between() -> None:
    turns = Turns()

    def parse() -> None:
        time.sleep(0.004)

    async def other() -> None:
        while turns.waiting:
            parse()
            await asyncio.sleep(0)

    await asyncio.gather(*(turns.take(lambda: time.sleep(0.002)) for _ in range(20)), other())
    assert turns.mean_compute_seconds >= 0.002
    assert turns.mean_turn_seconds > turns.mean_compute_seconds + 0.002


async def test_now_and_then_all_who_come_one_at_a_time_are_let_in_before_the_next_computation() -> None:
    """As gRPC brings its calls: the next one a few turns of the loop after the one before, however many there are."""
    turns = Turns()
    order: list[str] = []
    asks: list[asyncio.Task[None]] = []

    async def ask() -> None:
        turns.arrived()
        order.append("arrived")
        await turns.take(lambda: order.append("computed"))

    async def bring(count: int) -> None:
        for _ in range(count):
            asks.append(asyncio.create_task(ask()))
            for _ in range(3):
                await asyncio.sleep(0)

    await bring(100)
    await asyncio.gather(*asks)
    letters = "".join(word[0] for word in order)
    assert len(letters) == 200
    assert "a" * 50 in letters  # they stand in the line, where they are seen
    asks.clear()
    order.clear()
    turns._looked_up = time.perf_counter() + 60  # what it would be like without
    await bring(100)
    await asyncio.gather(*asks)
    assert "aaaa" not in "".join(word[0] for word in order)


async def test_what_is_not_admitted_does_not_join_the_line() -> None:
    waiting: list[int] = []

    def admit() -> None:
        waiting.append(turns.waiting)
        if turns.waiting >= 2:
            raise ValueError("full")

    turns = Turns(admit)
    done = await asyncio.gather(*(turns.take(lambda: "done") for _ in range(5)), return_exceptions=True)
    assert [result == "done" for result in done] == [True, True, True, False, False]
    assert waiting == [0, 0, 1, 2, 2]
