"""Computations on the event loop, one in a turn of it, and how long the line is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

MEAN_OF = 20
"""About so many computations make the mean: each new one counts 1 / MEAN_OF."""


class Turns:
    """Lets one synchronous computation run in each turn of the event loop.

    A burst of misses would otherwise be computed in one go, and for as long nobody would read what Redis replied: it
    would seem to be slow. Between two computations everything else that is ready goes first.
    """

    def __init__(self) -> None:
        self._free = asyncio.Lock()
        self._waiting = 0
        self._mean: float | None = None

    @property
    def waiting(self) -> int:
        """Computations that wait for their turn."""
        return self._waiting

    @property
    def mean_compute_seconds(self) -> float:
        """Exponentially weighted mean of the time that a computation took; 0 before the first."""
        return self._mean or 0.0

    async def take(self, compute: Callable[[], T], abandoned: Callable[[], bool] | None = None) -> T:
        """`compute()`, when its turn has come.

        Raises CancelledError where `abandoned()` says, by then, that nobody wants it any more; what `compute` raises.
        """
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            if abandoned is not None and abandoned():
                raise asyncio.CancelledError
            return self._timed(compute)
        finally:
            asyncio.get_running_loop().call_soon(self._free.release)

    def _timed(self, compute: Callable[[], T]) -> T:
        started = time.perf_counter()
        try:
            return compute()
        finally:
            seconds = time.perf_counter() - started
            self._mean = seconds if self._mean is None else self._mean + (seconds - self._mean) / MEAN_OF
