"""Deadlines: whose, and what happens when they pass."""

from __future__ import annotations

import asyncio
import time

import pytest

from service.deadlines import in_time, with_deadline
from service.domain import Query
from service.errors import DeadlineError

QUERY = Query("u", 10, "r")


def test_a_request_without_one_has_the_services_own() -> None:
    assert with_deadline(QUERY, None) is QUERY
    given = with_deadline(QUERY, 0.2).deadline
    assert given is not None
    assert 0.15 < given - time.monotonic() <= 0.2


def test_a_requests_own_counts_and_one_that_has_passed_is_an_error() -> None:
    query = Query("u", 10, "r", deadline=time.monotonic() + 5)
    assert with_deadline(query, 0.2) is query
    with pytest.raises(DeadlineError, match="passed"):
        with_deadline(Query("u", 10, "r", deadline=time.monotonic() - 0.001), None)


async def test_what_comes_in_time_is_given_and_what_does_not_is_not_waited_for() -> None:
    async def after(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    assert await in_time(None, after(0)) == "done"
    assert await in_time(time.monotonic() + 5, after(0)) == "done"
    begun = time.monotonic()
    with pytest.raises(DeadlineError):
        await in_time(begun + 0.02, after(5))
    assert time.monotonic() - begun < 2
