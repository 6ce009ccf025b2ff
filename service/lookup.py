"""What the answer cache says of a key: how the look-up went, and the answer it found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from service.domain import Answer, Degradation


class Result(StrEnum):
    """How a look-up went: the `result` label of plotpointe_cache_requests_total."""

    HIT = "hit"
    STALE = "stale"
    """There was a value past its time to live, good enough to answer with while it is computed anew."""
    MISS = "miss"
    INVALIDATED = "invalidated"
    """There was a value, but what it shows may no longer be shown: a miss."""
    REJECTED = "rejected"
    """There was a value, but not one that this service wrote under this key: a miss."""
    UNAVAILABLE = "unavailable"
    """The tier did not answer: a miss."""
    SHARED = "shared"
    """The same answer was being computed for someone else."""
    RENEWED = "renewed"
    """A stale answer was replaced in the background."""
    FAILED = "failed"
    """The background computation failed or was degraded: the stale answer stays."""
    SKIPPED = "skipped"
    """No background computation was made, for too much was under way."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the shared tier said; `answer` exactly where the result is a hit or stale."""

    result: Result
    answer: Answer | None = None
    age: float = 0.0
    """Seconds since the answer was computed."""


@dataclass(frozen=True, slots=True)
class Found:
    """An answer and how it was come by."""

    answer: Answer
    cached: bool
    """It was computed for an earlier or a simultaneous request."""
    degraded: tuple[Degradation, ...] = ()
    """What went wrong on the way to it, besides what the answer says of itself."""
    stale: bool = False
    """It is past its time to live, and is being computed anew for those who ask later."""
