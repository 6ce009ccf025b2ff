"""By when an answer has to be out, and what happens where it is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import replace
from typing import TypeVar

from service.domain import Query
from service.errors import DeadlineError

T = TypeVar("T")


def with_deadline(query: Query, default_s: float | None) -> Query:
    """The query with the service's own deadline where it brings none. Raises DeadlineError where it has passed."""
    if query.deadline is None:
        return query if default_s is None else replace(query, deadline=time.monotonic() + default_s)
    if time.monotonic() >= query.deadline:
        raise _late()
    return query


async def in_time(deadline: float | None, answer: Awaitable[T]) -> T:
    """What `answer` gives before `deadline` (monotonic seconds; None: ever). Raises DeadlineError, what it raises."""
    if deadline is None:
        return await answer
    try:
        async with asyncio.timeout(max(deadline - time.monotonic(), 0.0)):
            return await answer
    except TimeoutError as error:
        raise _late() from error


def _late() -> DeadlineError:
    return DeadlineError("the deadline passed before there was an answer", where="deadline")
