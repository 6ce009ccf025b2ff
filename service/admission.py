"""Refuse at once what could not be answered in time: a queue that only grows makes everyone late, and nobody happy.

How long the line is comes from measurement: the computations that wait, times what a turn takes these days.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from service.errors import OverloadedError

LEAST_RETRY_S = 1.0
"""Seconds, at least, after which a refused caller is asked back: the line is shorter than that, but others come too."""


class Line(Protocol):
    """The computations of one event loop (see `turns.py`)."""

    @property
    def waiting(self) -> int:
        """Computations that wait for their turn."""
        ...

    @property
    def mean_turn_seconds(self) -> float:
        """What a turn takes while others wait, with all that the event loop does in between; 0 before the first."""
        ...

    def arrived(self) -> None:
        """Note that someone has come."""
        ...


class Admission:
    """Decides by the length of the line, before anything joins it. What is in memory is answered all the same."""

    def __init__(self, line: Line, *, max_queue_ms: float, count_shed: Callable[[str], None]) -> None:
        """`max_queue_ms`: the longest wait that a request is let in for; `count_shed` is told `queue` or `deadline`."""
        self._line = line
        self._max_wait = max_queue_ms / 1000
        self._count_shed = count_shed

    @property
    def expected_wait_seconds(self) -> float:
        """How long a computation that joins the line now would wait for its turn."""
        return self._line.waiting * self._line.mean_turn_seconds

    def check(self, deadline: float | None = None) -> None:
        """Raises OverloadedError where a request would wait too long, or past its `deadline` (monotonic seconds)."""
        self._line.arrived()
        wait = self.expected_wait_seconds
        if wait > self._max_wait:
            raise self._refusal("queue", wait)
        if deadline is not None and wait and time.monotonic() + wait + self._line.mean_turn_seconds > deadline:
            raise self._refusal("deadline", wait)

    def _refusal(self, reason: str, wait: float) -> OverloadedError:
        self._count_shed(reason)
        return OverloadedError(
            f"too many requests: this one would wait for {wait * 1000:.0f} ms",
            todo="Try again later",
            # Twice: by then the line of now is gone, and so are most of those who were asked back with this one.
            retry_after_s=max(2 * wait, LEAST_RETRY_S),
        )
