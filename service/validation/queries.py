"""Questions: recommend, re-rank, similar, popular. Plain values -> the domain's queries, or InvalidFieldsError."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from service.domain import (
    MAX_BATCH,
    MAX_DEPTH,
    MAX_ID_BYTES,
    MAX_K,
    MAX_LISTED,
    By,
    FeedbackKind,
    ModalityWeights,
    PastEvent,
    PopularQuery,
    Promotion,
    Query,
    RerankQuery,
    Rules,
    SimilarQuery,
)
from service.validation.picture import picture
from service.validation.shape import (
    MISSING,
    ROOT,
    Reader,
    Shape,
    distinct,
    each_of,
    flag,
    many,
    number,
    text,
    whole,
    word,
)
from service.validation.violations import Faults, InvalidFieldsError

DEFAULT_K = 20
"""Items in an answer whose request does not say how many."""
MAX_PROMOTIONS = 16
"""Most groups of items that one request boosts, and that it buries."""
MAX_DEADLINE_MS = 60_000
MAX_FILTER_BYTES = 16_384
"""What is looked at by the grammar, which counts characters and says more about them."""
MAX_TEXT_BYTES = 8192
"""Longest text to search by."""
MAX_WINDOW_S = 10 * 365 * 86_400.0
MAX_UNIX_S = 1e11
"""Later than any clock; milliseconds are larger."""

IDENTIFIER = text(MAX_ID_BYTES, empty=False)
FILTER = text(MAX_FILTER_BYTES)
SHARE = number(0, 1)
_IDS = many(IDENTIFIER, MAX_LISTED)
_DEADLINE = whole(1, MAX_DEADLINE_MS)
_K = whole(1, MAX_K)

PAST_EVENT = Shape(
    {"item_id": IDENTIFIER, "kind": word(FeedbackKind), "timestamp": number(0, MAX_UNIX_S)}, required=("item_id",)
)
_HISTORY = many(each_of(PAST_EVENT, PastEvent), MAX_LISTED)
PROMOTION = Shape({"item_ids": _IDS, "filter": FILTER, "strength": SHARE}, required=("strength",))
WEIGHTS = Shape({"look": SHARE, "meaning": SHARE, "behaviour": SHARE})


def _promotion(value: object, path: str, faults: Faults) -> Promotion:
    fields = PROMOTION(value, path, faults)
    if not fields.get("item_ids") and not fields.get("filter"):
        faults.add(path, "must name item_ids or a filter")
    fields.setdefault("strength", 0.0)
    return Promotion(**fields)


def _weights(value: object, path: str, faults: Faults) -> ModalityWeights:
    weights = ModalityWeights(**WEIGHTS(value, path, faults))
    if not (weights.look or weights.meaning or weights.behaviour):
        faults.add(path, "must not all be 0 or absent")
    return weights


def _anything(value: object, path: str, faults: Faults) -> object:
    """A request of a batch is read later, with faults of its own."""
    return value


_PROMOTIONS = many(_promotion, MAX_PROMOTIONS)
RULES = Shape({"pin": _IDS, "boost": _PROMOTIONS, "bury": _PROMOTIONS, "hide": _IDS})
_WHO: Mapping[str, Reader] = {"user_id": text(MAX_ID_BYTES), "history": _HISTORY, "seed_items": _IDS}

RECOMMEND = Shape(
    {
        **_WHO,
        "k": _K,
        "offset": whole(0, MAX_DEPTH - 1),
        "category": text(MAX_ID_BYTES),
        "filter": FILTER,
        "strict_filtering": flag,
        "exclude_seen": flag,
        "rules": each_of(RULES, Rules),
        "modality_weights": _weights,
        "diversity": SHARE,
        "explain": flag,
        "metadata": flag,
        "deadline_ms": _DEADLINE,
        "bundle_version": text(128),
    }
)
BATCH = Shape({"requests": many(_anything, MAX_BATCH, empty=False), "deadline_ms": _DEADLINE}, required=("requests",))
RERANK = Shape(
    {
        **_WHO,
        "item_ids": distinct(many(IDENTIFIER, MAX_DEPTH, empty=False)),
        "explain": flag,
        "metadata": flag,
        "deadline_ms": _DEADLINE,
    },
    required=("item_ids",),
)
_ALIKE: Mapping[str, Reader] = {
    "k": _K,
    "by": word(By),
    "modality_weights": _weights,
    "filter": FILTER,
    "metadata": flag,
}
SIMILAR_ITEMS = Shape({"item_id": IDENTIFIER, **_ALIKE}, required=("item_id",))
SIMILAR_CONTENT = Shape({"text": text(MAX_TEXT_BYTES), "image": picture, **_ALIKE})
POPULAR = Shape(
    {
        "k": _K,
        "category": text(MAX_ID_BYTES),
        "window_s": number(1, MAX_WINDOW_S),
        "filter": FILTER,
        "metadata": flag,
    }
)


def recommend_query(values: object, request_id: str, deadline: float | None = None) -> Query:
    """One request for recommendations; `deadline` is the transport's own, in `time.monotonic()` seconds."""
    faults = Faults()
    _who(values, ("history", "seed_items", "category"), faults)
    fields = RECOMMEND(values, "", faults)
    k = fields.setdefault("k", DEFAULT_K)
    if fields.get("offset", 0) + k > MAX_DEPTH:
        faults.add("offset", f"and k together must not be more than {MAX_DEPTH}")
    faults.check()
    return Query(request_id=request_id, deadline=_sooner(deadline, fields), user_id=_user(fields), **_named(fields))


def batch_queries(values: object, request_id: str, deadline: float | None = None) -> list[Query | InvalidFieldsError]:
    """The requests of a batch in order, each a query or what is wrong with it; raises where they are no batch."""
    faults = Faults()
    shape = Shape(
        {"requests": many(_anything, MAX_BATCH, empty=False), "deadline_ms": _DEADLINE}, required=("requests",)
    )
    fields = shape(values, "", faults)
    faults.check()
    deadline = _sooner(deadline, fields)
    outcomes: list[Query | InvalidFieldsError] = []
    for each in fields["requests"]:
        try:
            outcomes.append(recommend_query(each, request_id, deadline))
        except InvalidFieldsError as error:
            outcomes.append(error)
    return outcomes


def rerank_query(values: object, request_id: str, deadline: float | None = None) -> RerankQuery:
    """A list of the caller's own, to be put in a shopper's order."""
    faults = Faults()
    _who(values, ("history", "seed_items"), faults)
    fields = RERANK(values, "", faults)
    faults.check()
    sooner = _sooner(deadline, fields)
    return RerankQuery(request_id=request_id, deadline=sooner, user_id=_user(fields), **_named(fields))


def similar_items_query(values: object, request_id: str) -> SimilarQuery:
    """What is like an item."""
    faults = Faults()
    fields = SIMILAR_ITEMS(values, "", faults)
    faults.check()
    fields.setdefault("k", DEFAULT_K)
    return SimilarQuery(request_id=request_id, **_named(fields))


def similar_content_query(values: object, request_id: str) -> SimilarQuery:
    """What is like a text, a picture, or both."""
    faults = Faults()
    fields = SIMILAR_CONTENT(values, "", faults)
    if not faults.named and not fields.get("text") and not fields.get("image"):
        faults.add_sentence(ROOT, "text or image must be given and not be empty")
    faults.check()
    fields.setdefault("k", DEFAULT_K)
    return SimilarQuery(request_id=request_id, **_named(fields))


def popular_query(values: object, request_id: str) -> PopularQuery:
    """The most popular items."""
    faults = Faults()
    fields = POPULAR(values, "", faults)
    faults.check()
    fields.setdefault("k", DEFAULT_K)
    return PopularQuery(request_id=request_id, **_named(fields))


def _who(values: object, instead: tuple[str, ...], faults: Faults) -> None:
    """A request is about a user, or brings something to go by."""
    if isinstance(values, dict) and not values.get("user_id") and not any(values.get(name) for name in instead):
        faults.add("user_id", f"{MISSING}, unless {' or '.join(instead)} is given")


def _user(fields: dict[str, Any]) -> str:
    user_id: str = fields.pop("user_id", "")
    return user_id


def _sooner(deadline: float | None, fields: dict[str, Any]) -> float | None:
    """The sooner of the transport's deadline and the request's own, in `time.monotonic()` seconds."""
    milliseconds = fields.pop("deadline_ms", None)
    if milliseconds is None:
        return deadline
    asked: float = time.monotonic() + milliseconds / 1000
    return asked if deadline is None else min(deadline, asked)


def _named(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields by the domain's names where the wire has shorter ones."""
    if "metadata" in fields:
        fields["with_metadata"] = fields.pop("metadata")
    if "modality_weights" in fields:
        fields["weights"] = fields.pop("modality_weights")
    return fields
