"""Shedding, against a line that is known and against a real overload."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest

from service.admission import Admission
from service.errors import OverloadedError
from service.turns import Turns


@dataclass
class Line:
    waiting: int
    mean_turn_seconds: float

    def arrived(self) -> None:
        return None


@pytest.mark.parametrize(("waiting", "refused"), [(0, False), (24, False), (25, False), (26, True), (1000, True)])
def test_the_expected_wait_decides(waiting: int, refused: bool) -> None:
    shed: list[str] = []
    admission = Admission(Line(waiting, 0.01), max_queue_ms=250, count_shed=shed.append)
    if refused:
        with pytest.raises(OverloadedError) as refusal:
            admission.check()
        assert refusal.value.retry_after_s == max(1.0, 2 * waiting * 0.01)
        assert shed == ["queue"]
    else:
        admission.check()
        assert shed == []


def test_a_deadline_that_would_pass_in_the_line_is_refused_at_once() -> None:
    shed: list[str] = []
    admission = Admission(Line(10, 0.01), max_queue_ms=1000, count_shed=shed.append)
    admission.check(time.monotonic() + 0.5)
    with pytest.raises(OverloadedError, match="100 ms"):
        admission.check(time.monotonic() + 0.1)
    assert shed == ["deadline"]
    idle = Admission(Line(0, 0.01), max_queue_ms=1000, count_shed=shed.append)
    idle.check(time.monotonic() + 0.001)  # no one is in the way: the stages themselves decide what there is time for


COMPUTE_S = 0.004
CAPACITY = 1 / COMPUTE_S
SECONDS = 2.0


async def offered(rate: float, max_queue_ms: float) -> tuple[float, float, float]:
    """Arrivals at a rate that does not care; answers a second in time, refusals' and answers' worst seconds."""
    shed: list[str] = []
    turns = Turns(lambda: admission.check())
    admission = Admission(turns, max_queue_ms=max_queue_ms, count_shed=shed.append)
    answered: list[float] = []
    refused: list[float] = []

    async def ask() -> None:
        asked = time.perf_counter()
        try:
            await turns.take(lambda: time.sleep(COMPUTE_S))
            answered.append(time.perf_counter() - asked)
        except OverloadedError:
            refused.append(time.perf_counter() - asked)

    asks = []
    started = time.perf_counter()
    while (now := time.perf_counter() - started) < SECONDS:
        while len(asks) < now * rate:
            asks.append(asyncio.ensure_future(ask()))
        await asyncio.sleep(0)
    await asyncio.gather(*asks)
    took = time.perf_counter() - started
    assert len(answered) + len(refused) == len(asks)
    assert len(shed) == len(refused)
    in_time = sum(seconds < 2 * max_queue_ms / 1000 for seconds in answered)
    return in_time / took, max(refused, default=0.0), max(answered)


async def test_three_times_as_much_as_can_be_answered_costs_the_others_little() -> None:
    at_capacity, _, _ = await offered(0.9 * CAPACITY, max_queue_ms=100)
    overloaded, slowest_refusal, slowest_answer = await offered(3 * CAPACITY, max_queue_ms=100)
    assert overloaded > 0.8 * at_capacity
    assert slowest_refusal < 0.05
    assert slowest_answer < 0.3
