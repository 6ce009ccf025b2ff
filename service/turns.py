"""Computations on the event loop, one in a turn of it, and how long the line is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

MEAN_OF = 20
"""About so many computations make the mean: each new one counts 1 / MEAN_OF."""

LOOK_UP_SECONDS = 0.05
"""How often, in a line that does not end, the loop looks up from computing to see who else has come."""
QUIET_TURNS = 20
"""Turns of the event loop without a new arrival after which no more are expected."""
LONGEST_LOOK_SECONDS = 0.02


class Turns:
    """Lets one synchronous computation run in each turn of the event loop.

    A burst of misses would otherwise be computed in one go, and for as long nobody would read what Redis replied: it
    would seem to be slow. Between two computations everything else that is ready goes first.

    gRPC hands over one call in a turn or two of the loop and keeps the others to itself, where nobody sees that they
    wait. So now and then the next computation is held back until all who have come are here, and can be refused.
    """

    def __init__(self, admit: Callable[[], None] = lambda: None) -> None:
        """`admit()` is called before a computation joins the line, and raises where it had better not."""
        self._admit = admit
        self._free = asyncio.Lock()
        self._waiting = 0
        self._mean: float | None = None
        self._mean_turn: float | None = None
        self._begun = 0.0
        self._arrivals = 0
        self._looked_up = 0.0

    @property
    def waiting(self) -> int:
        """Computations that wait for their turn."""
        return self._waiting

    @property
    def mean_compute_seconds(self) -> float:
        """Exponentially weighted mean of the time that a computation took; 0 before the first."""
        return self._mean or 0.0

    @property
    def mean_turn_seconds(self) -> float:
        """The same from one computation's begin to the next one's, in a line: with all that is done in between."""
        return self._mean_turn or self.mean_compute_seconds

    def arrived(self) -> None:
        """Note that someone has come who wants something computed, whether let in or not."""
        self._arrivals += 1

    async def take(self, compute: Callable[[], T], abandoned: Callable[[], bool] | None = None) -> T:
        """`compute()`, when its turn has come.

        Raises what `admit` raises, at once; CancelledError where `abandoned()` says, by then, that nobody wants it any
        more; what `compute` raises.
        """
        self._admit()
        queued = self._free.locked()
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            began_before, self._begun = self._begun, time.perf_counter()
            if queued:
                self._mean_turn = _mean(self._mean_turn, self._begun - began_before)
            if abandoned is not None and abandoned():
                raise asyncio.CancelledError
            return self._timed(compute)
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        """Let the next one compute, in the next turn of the loop or once all who have come are here."""
        loop, now = asyncio.get_running_loop(), time.perf_counter()
        if now - self._looked_up < LOOK_UP_SECONDS:
            loop.call_soon(self._free.release)
        else:
            loop.call_soon(self._look_up, 0, self._arrivals, now + LONGEST_LOOK_SECONDS)

    def _look_up(self, quiet: int, arrivals: int, until: float) -> None:
        quiet = quiet + 1 if self._arrivals == arrivals else 0
        now = time.perf_counter()
        if quiet < QUIET_TURNS and now < until:
            asyncio.get_running_loop().call_soon(self._look_up, quiet, self._arrivals, until)
        else:
            self._looked_up = now
            self._free.release()

    def _timed(self, compute: Callable[[], T]) -> T:
        started = time.perf_counter()
        try:
            return compute()
        finally:
            self._mean = _mean(self._mean, time.perf_counter() - started)


def _mean(mean: float | None, seconds: float) -> float:
    return seconds if mean is None else mean + (seconds - mean) / MEAN_OF
