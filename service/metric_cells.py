"""Numbers that are added up where they arise, in a fraction of a microsecond, and handed to Prometheus now and then.

prometheus_client takes several microseconds an observation (labels, locks; a mapped file where several processes
count together), and a request makes a dozen. So it gets sums: at each scrape, and from workers several times a second.
All of it happens on the event loop's thread; nothing here is locked.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from prometheus_client import Counter, Histogram


class Cell(Protocol):
    """Something that was counted and not yet handed over."""

    def flush(self) -> None:
        """Hand over what came up since the last time."""
        ...


class Tally:
    """A sum."""

    __slots__ = ("_child", "_pending")

    def __init__(self, child: Counter) -> None:
        self._child = child
        self._pending = 0.0

    def add(self, amount: float = 1.0) -> None:
        """Add a number, not negative."""
        self._pending += amount

    def flush(self) -> None:
        """See `Cell`."""
        if self._pending:
            self._child.inc(self._pending)
            self._pending = 0.0


class Spread:
    """A histogram: how many values fell between which bounds, and their sum."""

    __slots__ = ("_bounds", "_child", "_counts", "_sum")

    def __init__(self, child: Histogram) -> None:
        self._child = child
        self._bounds: list[float] = child._upper_bounds  # the last is infinity
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value: below or at the first bound that is not less."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def flush(self) -> None:
        """See `Cell`. The library has no call for many observations at once: this adds to the child's own values."""
        for place, count in enumerate(self._counts):
            if count:
                self._child._buckets[place].inc(count)
                self._counts[place] = 0
        if self._sum:
            self._child._sum.inc(self._sum)
            self._sum = 0.0


C = TypeVar("C", bound=Cell)


class Cells(dict[tuple[str, ...], C], Generic[C]):
    """Label values -> cell, made on first use: looking one up is looking into a dict."""

    def __init__(self, make: Callable[[tuple[str, ...]], C]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, labels: tuple[str, ...]) -> C:
        cell = self[labels] = self._make(labels)
        return cell

    def flush(self) -> None:
        """Hand over every cell."""
        for cell in self.values():
            cell.flush()


def tallies(counter: Counter) -> Cells[Tally]:
    """A tally for each combination of labels of `counter`."""
    return Cells(lambda labels: Tally(counter.labels(*labels) if labels else counter))


def spreads(histogram: Histogram) -> Cells[Spread]:
    """A spread for each combination of labels of `histogram`."""
    return Cells(lambda labels: Spread(histogram.labels(*labels) if labels else histogram))
