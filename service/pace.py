"""How long a stage takes these days, and whether there is time for it: what deadlines and budgets are decided by."""

from __future__ import annotations

import time

MEAN_OF = 16
"""About so many runs make the mean."""
HEADROOM = 1.5
"""A stage is begun where this many times its mean still fits."""
FORGET = 0.97
"""What is left of the mean each time a stage is not run for its budget: after some twenty times it is tried again."""


class Pace:
    """Exponentially weighted means of the stages' seconds."""

    def __init__(self) -> None:
        self._mean: dict[str, float] = {}

    def note(self, stage: str, seconds: float) -> None:
        """A stage took so long."""
        mean = self._mean.get(stage)
        self._mean[stage] = seconds if mean is None else mean + (seconds - mean) / MEAN_OF

    def fits(self, stage: str, *, deadline: float | None, budget_s: float | None = None) -> bool:
        """Whether a stage that begins now ends before `deadline` (monotonic seconds), and within its own budget."""
        mean = self._mean.get(stage, 0.0)
        if budget_s is not None and mean > budget_s:
            self._mean[stage] = mean * FORGET
            return False
        return deadline is None or time.monotonic() + HEADROOM * mean <= deadline


class Stopwatch:
    """Laps of one computation: stage -> milliseconds since the lap before."""

    def __init__(self) -> None:
        self.timing_ms: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str, *, inside_ms: float = 0.0) -> float:
        """End a stage; returns its seconds, less those of stages inside it that another watch has counted."""
        now = time.perf_counter()
        seconds = max(now - self._last - inside_ms / 1000, 0.0)
        self._last = now
        self.timing_ms[stage] = round(self.timing_ms.get(stage, 0.0) + seconds * 1000, 4)
        return seconds
