"""The values that cross borders inside the service: frozen, typed, free of any wire format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

MAX_K = 200
"""Most items in one answer."""
MAX_DEPTH = 1000
"""Largest `offset + k`: how deep into the ranking an answer may reach."""
MAX_ID_BYTES = 512
"""Longest user or item id, in UTF-8 bytes."""
MAX_EVENTS = 1000
"""Most feedback events, and most live items, in one call."""
MAX_LISTED = 200
"""Most item ids in one list of a request: history, seeds, pins, a list to re-rank (which may have MAX_DEPTH)."""
MAX_BATCH = 64
"""Most queries in one batch."""


class Strategy(StrEnum):
    """The rung of the cold ladder that answered."""

    PERSONAL = "personal"
    """Retrieved and re-ranked for a shopper whose history the bundle knows, with what they did since."""
    SESSION = "session"
    """Retrieved and re-ranked by what an otherwise unknown shopper did lately, or the request says they did."""
    SEED = "seed"
    """Retrieved and re-ranked by the request's seed items alone: a cart, or the page that is looked at."""
    CATEGORY_POPULAR = "category_popular"
    """The most popular items of the request's category, for a shopper of whom nothing is known."""
    POPULAR = "popular"
    """The most popular items, for a shopper of whom nothing is known."""
    SIMILAR = "similar"
    """What is like an item, a text or a picture: an answer about no shopper."""


class Degradation(StrEnum):
    """A named way in which an answer is less than it should be."""

    CACHE_UNAVAILABLE = "cache_unavailable"
    """Redis did not answer in time; the answer was computed without it."""
    STATE_UNAVAILABLE = "state_unavailable"
    """What the shopper did lately could not be read from Redis; this process's own knowledge of it was used."""
    RETRIEVAL_FAILED = "retrieval_failed"
    """The user tower or the index failed; a known shopper got popular items."""
    RETRIEVAL_SKIPPED = "retrieval_skipped"
    """There was no time left to retrieve before the deadline; a known shopper got popular items."""
    RERANK_FAILED = "rerank_failed"
    """The re-ranker failed; items are in retrieval order."""
    RERANK_SKIPPED = "rerank_skipped"
    """There was no time left to re-rank within its budget or before the deadline; items are in retrieval order."""
    EXPLAIN_SKIPPED = "explain_skipped"
    """The items stand there without reasons: there was no time left for them, or the model failed."""
    FILTER_RELAXED = "filter_relaxed"
    """Too few items pass the filter; as `strict_filtering` is off, popular items that do not pass fill the answer."""
    TOO_FEW_ITEMS = "too_few_items"
    """Fewer items than asked for are left once those already bought, hidden or filtered out are excluded."""


class FeedbackKind(StrEnum):
    """What a shopper did with an item."""

    VIEW = "view"
    CLICK = "click"
    CART = "cart"
    PURCHASE = "purchase"
    DISLIKE = "dislike"


class By(StrEnum):
    """In which respect items are alike."""

    LOOK = "look"
    """By image."""
    MEANING = "meaning"
    """By text."""
    BEHAVIOUR = "behaviour"
    """By who bought them."""
    BLEND = "blend"
    """As the model has it: behaviour and content together."""


@dataclass(frozen=True, slots=True)
class FeedbackEvent:
    """One thing that a shopper did."""

    event_id: str
    """Names the event: sent twice, it counts once."""
    user_id: str
    item_id: str
    kind: FeedbackKind
    timestamp: float
    """Unix seconds."""
    recommendation_id: str = ""
    """The answer that showed the item; empty where no answer did."""


@dataclass(frozen=True, slots=True)
class PastEvent:
    """One event of the history that a request brings along."""

    item_id: str
    kind: FeedbackKind = FeedbackKind.VIEW
    timestamp: float | None = None
    """Unix seconds; None: as late as the request itself, in the order given."""


@dataclass(frozen=True, slots=True)
class ModalityWeights:
    """How much each respect counts for the order, each 0 to 1 and relative to the others; not all of them 0."""

    look: float = 0.0
    meaning: float = 0.0
    behaviour: float = 0.0
    """The model's own score."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """Items that a merchandiser moves: those named, or those that pass a filter."""

    strength: float
    """0 to 1 in the range of the candidates' scores: 1 moves the last before the first."""
    item_ids: tuple[str, ...] = ()
    filter: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """A merchandiser's hand in one answer. Hiding wins over pinning, and a filter over both."""

    pin: tuple[str, ...] = ()
    """Items that stand first, in this order."""
    boost: tuple[Promotion, ...] = ()
    bury: tuple[Promotion, ...] = ()
    hide: tuple[str, ...] = ()
    """Items that are not shown."""


NO_RULES = Rules()


@dataclass(frozen=True, slots=True)
class Query:
    """One request for recommendations, already validated but for what only a bundle knows (filters, item ids)."""

    user_id: str
    """Empty for a shopper without a name: what the request brings is then all that is known."""
    k: int
    request_id: str
    offset: int = 0
    history: tuple[PastEvent, ...] = ()
    """What the shopper did before, oldest first, on top of what is known. Items that nobody knows are passed over."""
    seed_items: tuple[str, ...] = ()
    """Items of the page or the cart that the answer should go with; never in the answer themselves."""
    category: str = ""
    """The category of the page: for the category's popular items where nothing else is known."""
    filter: str = ""
    """Filter expression; empty for none."""
    strict_filtering: bool = True
    """Off: where too few items pass the filter, popular ones fill the answer."""
    exclude_seen: bool = True
    """Whether items that the shopper bought or disliked are left out."""
    rules: Rules = NO_RULES
    weights: ModalityWeights | None = None
    """None: the model's own order."""
    diversity: float = 0.0
    """0 to 1: how much an item's likeness to those before it counts against it."""
    explain: bool = False
    with_metadata: bool = False
    """Whether items carry category, brand, price, image and stock."""
    deadline: float | None = None
    """`time.monotonic()` seconds by which the answer has to be out; None for no deadline."""
    bundle_version: str = ""
    """Ask this one of the loaded bundles; empty: the one that serves the shopper."""


@dataclass(frozen=True, slots=True)
class SimilarQuery:
    """What is like an item (`item_id`), or like a text or a picture (`text`, `image`)."""

    k: int
    request_id: str
    by: By = By.BLEND
    item_id: str = ""
    text: str = ""
    image: bytes = b""
    weights: ModalityWeights | None = None
    """In place of `by`: a mixture of the three."""
    filter: str = ""
    with_metadata: bool = False


@dataclass(frozen=True, slots=True)
class RerankQuery:
    """A list of the caller's own, to be put in the shopper's order."""

    user_id: str
    item_ids: tuple[str, ...]
    request_id: str
    history: tuple[PastEvent, ...] = ()
    seed_items: tuple[str, ...] = ()
    explain: bool = False
    with_metadata: bool = False
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class PopularQuery:
    """The most popular items."""

    k: int
    request_id: str
    category: str = ""
    window_s: float | None = None
    """Only what shoppers did in the last seconds, as far back as the service remembers; None: all that is known."""
    filter: str = ""
    with_metadata: bool = False


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items that retrieval found for one shopper, best first; none of them already bought."""

    rows: npt.NDArray[np.int32]
    """(C,) distinct item rows."""
    scores: npt.NDArray[np.float32]
    """(C,) inner product of user and item vector; larger is better."""


@dataclass(frozen=True, slots=True)
class Reason:
    """What carried an item's score, as a share."""

    kind: str
    """`history` or `seed` (the item `item_id` of the shopper's past), `others` (the rest of the past together),
    `meaning`, `look`, `behaviour` (a modality), `popularity`, `pinned`, `boosted`, `buried`."""
    weight: float
    """Share of what all reasons of this group change: those of the past sum to one, those of the modalities too."""
    item_id: str = ""
    effect: float = 0.0
    """By how much the item's score would fall without it, in units of the score; below 0: the score would rise."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is the same for everyone who asks the same of one bundle, and so what the cache keeps."""

    rows: tuple[int, ...]
    """Distinct item rows, best first."""
    scores: tuple[float, ...]
    """One score a row; larger is better."""
    strategy: Strategy
    degraded: tuple[Degradation, ...] = ()
    reasons: tuple[tuple[Reason, ...], ...] = ()
    """One tuple a row where they were asked for, else empty."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a shop shows of an item beside its title."""

    category: str | None
    brand: str | None
    price: float | None
    image: str
    """As the shop named it; empty where it has none."""
    in_stock: bool
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecommendedItem:
    """One item of an answer."""

    item_id: str
    rank: int
    """From 1, counting those before the offset."""
    score: float
    """Larger is better; comparable within one answer only."""
    title: str
    """Empty where the shop gave none."""
    reasons: tuple[Reason, ...] = ()
    metadata: Metadata | None = None
    """None where it was not asked for."""


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
class ItemList:
    """Items that are alike, or popular: an answer that is about no shopper."""

    recommendation_id: str
    items: tuple[RecommendedItem, ...]
    bundle_version: str
    timing_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class EventsReceipt:
    """What became of the feedback events of one call."""

    accepted: int
    duplicates: int
    """Events whose `event_id` was known; they count as received."""
    unknown_items: int
    """Of the accepted, those about an item that no one knows; kept, for it may be published later."""
    shared: bool
    """Whether other processes know of them already; False while Redis is away."""


@dataclass(frozen=True, slots=True)
class ItemsReceipt:
    """What became of a change to the live catalogue."""

    accepted: int
    sequence: int
    """Grows with every change; processes that have reached it show the change."""
    not_embedded: tuple[str, ...] = ()
    """New items that could not be made searchable, for they have neither text nor image."""


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


@dataclass(frozen=True, slots=True)
class ItemChange:
    """What a shop says of one item while the service runs. A field that is None stays as it is."""

    item_id: str
    title: str | None = None
    description: str | None = None
    category: str | None = None
    brand: str | None = None
    price: float | None = None
    in_stock: bool | None = None
    hidden: bool | None = None
    """Hidden items are in no answer, and come back by `hidden=False`."""
    image_url: str | None = None
    """What is answered as the item's image. It is not fetched."""
    image: bytes | None = None
    """The picture itself, to be embedded."""
    attributes: Mapping[str, str] | None = None
    """Further columns that filters know."""
