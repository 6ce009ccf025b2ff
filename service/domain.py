"""The values that cross borders inside the service: frozen, typed, free of any wire format."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

MAX_K = 200
"""Most items in one answer."""
MAX_ID_BYTES = 512
"""Longest user or item id, in UTF-8 bytes."""


class Strategy(StrEnum):
    """The rung of the cold ladder that answered."""

    PERSONAL = "personal"
    """Retrieved and re-ranked for a shopper whose history the bundle knows."""
    POPULAR = "popular"
    """The most popular items, for a shopper of whom nothing is known."""


class Degradation(StrEnum):
    """A named way in which an answer is less than it should be."""

    CACHE_UNAVAILABLE = "cache_unavailable"
    """Redis did not answer in time; the answer was computed without it."""
    RETRIEVAL_FAILED = "retrieval_failed"
    """The user tower or the index failed; a known shopper got popular items."""
    RERANK_FAILED = "rerank_failed"
    """The re-ranker failed; items are in retrieval order."""
    TOO_FEW_ITEMS = "too_few_items"
    """Fewer than k items are left once those already bought are excluded."""


@dataclass(frozen=True, slots=True)
class Query:
    """One request for recommendations, already validated."""

    user_id: str
    k: int
    request_id: str


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items that retrieval found for one shopper, best first; none of them already bought."""

    rows: npt.NDArray[np.int32]
    """(C,) distinct item rows."""
    scores: npt.NDArray[np.float32]
    """(C,) inner product of user and item vector; larger is better."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is the same for everyone who asks the same of one bundle, and so what the cache keeps."""

    rows: tuple[int, ...]
    """Distinct item rows, best first."""
    scores: tuple[float, ...]
    """One score a row; larger is better."""
    strategy: Strategy
    degraded: tuple[Degradation, ...] = ()


@dataclass(frozen=True, slots=True)
class RecommendedItem:
    """One item of an answer."""

    item_id: str
    rank: int
    """From 1."""
    score: float
    """Larger is better; comparable within one answer only."""
    title: str
    """Empty where the shop gave none."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One answer."""

    recommendation_id: str
    """Names this answer in the log and in the feedback events that it leads to; new for every request."""
    user_id: str
    items: tuple[RecommendedItem, ...]
    strategy: Strategy
    bundle_version: str
    cached: bool
    degraded: tuple[Degradation, ...]
    timing_ms: dict[str, float]
    """Stage name -> milliseconds spent in it by this request."""


@dataclass(frozen=True, slots=True)
class Impression:
    """What the log keeps of one answer."""

    event_id: str
    recommendation_id: str
    request_id: str
    user_id: str
    timestamp: float
    """Unix seconds."""
    item_ids: tuple[str, ...]
    """In the order shown."""
    scores: tuple[float, ...]
    strategy: Strategy
    bundle_version: str
    degraded: tuple[Degradation, ...]
    cached: bool
    transport: str
    """`rest` or `grpc`."""
