from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import Answer, Reason, Strategy
from service.memory_cache import MemoryCache, cost_bytes

ANSWER = Answer((3, 1, 2), (0.5, 0.25, -1.0), Strategy.PERSONAL)
OTHER = Answer((9,), (1.0,), Strategy.POPULAR)


def kept(cache: MemoryCache, key: str) -> Answer | None:
    entry = cache.entry(key)
    return None if entry is None else entry.hit.answer


class Clock:
    """Time that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_answer_is_fresh_then_stale_then_gone() -> None:
    clock = Clock()
    cache = MemoryCache(max_entries=2, ttl_seconds=10, stale_seconds=5, clock=clock)
    cache.put("a", ANSWER)
    clock.now = 109.9
    found = cache.fresh("a")
    assert found is not None
    assert (found.answer, found.cached, found.stale) == (ANSWER, True, False)
    clock.now = 110
    assert cache.fresh("a") is None
    assert kept(cache, "a") == ANSWER
    clock.now = 115
    assert kept(cache, "a") is None
    assert (len(cache), cache.size_bytes) == (0, 0)


def test_an_answer_from_elsewhere_is_as_old_as_it_is() -> None:
    clock = Clock()
    cache = MemoryCache(max_entries=9, ttl_seconds=10, stale_seconds=5, clock=clock)
    cache.put("young", ANSWER, age=4)
    cache.put("stale", ANSWER, age=12)
    cache.put("gone", ANSWER, age=15)
    assert cache.fresh("young") is not None
    assert cache.fresh("stale") is None
    assert kept(cache, "gone") is None
    clock.now = 103
    assert kept(cache, "stale") is None
    clock.now = 106
    assert cache.fresh("young") is None


def test_keeps_the_most_recently_used() -> None:
    cache = MemoryCache(max_entries=2, ttl_seconds=60)
    cache.put("a", ANSWER)
    cache.put("b", ANSWER)
    cache.fresh("a")
    cache.put("c", ANSWER)
    assert len(cache) == 2
    assert kept(cache, "b") is None
    assert kept(cache, "a") == ANSWER


def test_keeps_no_more_bytes_than_it_may() -> None:
    one = cost_bytes("0", ANSWER)
    cache = MemoryCache(max_entries=100, ttl_seconds=60, max_bytes=3 * one)
    for key in range(10):
        cache.put(str(key), ANSWER)
        assert cache.size_bytes <= 3 * one
    assert [kept(cache, str(key)) for key in (6, 7, 8, 9)] == [None, ANSWER, ANSWER, ANSWER]


def test_what_is_larger_than_the_whole_tier_pushes_nothing_out() -> None:
    cache = MemoryCache(max_entries=100, ttl_seconds=60, max_bytes=2 * cost_bytes("a", ANSWER))
    cache.put("a", ANSWER)
    large = Answer(tuple(range(200)), (0.5,) * 200, Strategy.PERSONAL)
    cache.put("b", large)
    assert (kept(cache, "a"), kept(cache, "b")) == (ANSWER, None)
    cache.put("a", large)
    assert kept(cache, "a") is None  # what was there is of before


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 30), st.booleans()), max_size=60))
def test_the_bytes_counted_are_those_of_what_is_kept(steps: list[tuple[str, int, bool]]) -> None:
    cache = MemoryCache(max_entries=4, ttl_seconds=60, max_bytes=6_000)
    put: dict[str, Answer] = {}
    for key, rows, drop in steps:
        if drop:
            cache.drop(key)
        else:
            put[key] = Answer(tuple(range(rows)), (0.5,) * rows, Strategy.PERSONAL)
            cache.put(key, put[key])
        alive = [key for key in "abcdef" if cache.entry(key) is not None]
        assert cache.size_bytes == sum(cost_bytes(key, put[key]) for key in alive) <= 6_000
        assert len(cache) == len(alive) <= 4


def test_a_renewal_can_be_postponed() -> None:
    clock = Clock()
    cache = MemoryCache(max_entries=2, ttl_seconds=10, stale_seconds=50, clock=clock)
    cache.put("a", ANSWER)
    cache.postpone("a", 5)
    cache.postpone("nobody", 5)
    assert not cache.may_renew("a")
    assert cache.may_renew("nobody")
    clock.now = 105
    assert cache.may_renew("a")
    cache.postpone("a", 5)
    cache.put("a", OTHER)
    assert cache.may_renew("a")


def plain(rows: int) -> Callable[[int], Answer]:
    def make(seed: int) -> Answer:
        first = 1_000 + seed * rows
        return Answer(
            tuple(range(first, first + rows)), tuple(1 / (first + row) for row in range(rows)), Strategy.PERSONAL
        )

    return make


def explained(seed: int) -> Answer:
    answer = plain(20)(seed)
    reasons = tuple(
        tuple(Reason("history", 1 / (row + n + 2), f"item-{row}-{n}", 1 / (row + n + 3)) for n in range(5))
        for row in answer.rows
    )
    return Answer(answer.rows, answer.scores, Strategy.PERSONAL, reasons=reasons)


@pytest.mark.parametrize("make", [plain(1), plain(20), plain(200), explained], ids=["1", "20", "200", "explained"])
def test_the_estimated_bytes_are_within_a_quarter_of_those_allocated(make: Callable[[int], Answer]) -> None:
    count = 500
    cache = MemoryCache(max_entries=count, ttl_seconds=60, max_bytes=2**40)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(count):
            cache.put(f"answer:20250101-abcdef:200:20:{number}", make(number))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert cache.size_bytes == pytest.approx(after - before, rel=0.25)
