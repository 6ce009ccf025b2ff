"""What shoppers do with items lately, by the hour: what `popular` counts where it is asked for a window of time.

An item is a member of an hour's table with the sum of its events' weights. Each hour keeps its most touched items, and
a week of hours is kept. Processes share the hours through Redis (`redis_trends.py`) where there is one.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from service.domain import FeedbackEvent, FeedbackKind

HOUR = 3_600
MOST_HOURS = 168
"""Hours that are kept: a week."""
MOST_ITEMS = 10_000
"""Items that an hour keeps: the most touched ones."""
SLACK = 2
"""An hour may hold so many times MOST_ITEMS before it is cut back: cutting back sorts."""
WEIGHTS: Mapping[FeedbackKind, float] = {
    FeedbackKind.VIEW: 1.0,
    FeedbackKind.CLICK: 2.0,
    FeedbackKind.CART: 4.0,
    FeedbackKind.PURCHASE: 8.0,
    FeedbackKind.DISLIKE: 0.0,
}
"""What an event counts: roughly how much rarer each is than a view."""


class Trends(Protocol):
    """Weights by item. No method raises for anything that a store holds or does."""

    async def add(self, events: Sequence[FeedbackEvent]) -> None:
        """Count events, by the hour that they happened in; those older than what is kept count nowhere."""
        ...

    async def lately(self, window_s: float) -> dict[str, float]:
        """Item id -> weight in the last `window_s` seconds, to the hour."""
        ...


def hours_of(window_s: float, now: float) -> range:
    """The hours (since 1970) that a window reaches into, at most those that are kept."""
    last = int(now // HOUR)
    return range(last - min(MOST_HOURS - 1, math.ceil(window_s / HOUR) - 1), last + 1)


def by_hour(events: Iterable[FeedbackEvent], now: float) -> dict[int, Counter[str]]:
    """Hour -> item id -> weight, of what is neither too old nor yet to come."""
    found: dict[int, Counter[str]] = {}
    kept = hours_of(MOST_HOURS * HOUR, now)
    for event in events:
        hour = int(event.timestamp // HOUR)
        if hour in kept and WEIGHTS[event.kind]:
            found.setdefault(hour, Counter())[event.item_id] += WEIGHTS[event.kind]  # type: ignore[assignment]
    return found


class MemoryTrends:
    """The hours of one process."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._hours: dict[int, Counter[str]] = {}

    async def add(self, events: Sequence[FeedbackEvent]) -> None:
        """See `Trends`."""
        now = self._clock()
        for hour, weights in by_hour(events, now).items():
            items = self._hours.setdefault(hour, Counter())
            items.update(weights)
            if len(items) > SLACK * MOST_ITEMS:
                self._hours[hour] = Counter(dict(items.most_common(MOST_ITEMS)))
        kept = hours_of(MOST_HOURS * HOUR, now)
        for hour in [hour for hour in self._hours if hour not in kept]:
            del self._hours[hour]

    async def lately(self, window_s: float) -> dict[str, float]:
        """See `Trends`."""
        total: Counter[str] = Counter()
        for hour in hours_of(window_s, self._clock()):
            total.update(self._hours.get(hour, {}))
        return dict(total)
