"""Domain values -> JSON bytes. Written field by field: what the domain adds is not sent until it is named here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import Response

from service.domain import EventsReceipt, ItemList, ItemsReceipt, Metadata, Reason, Recommendation, RecommendedItem
from service.error_map import wire_error
from service.errors import PlotPointeError
from service.model_info import ModelInfo
from service.remembered import Remembered
from service.validation.violations import FieldViolation, detail_of, violations_of

if TYPE_CHECKING:
    from service.admin import BundleStates


_REPEATED: Remembered[tuple[RecommendedItem, ...], orjson.Fragment] = Remembered(1_000)
"""Some 3 KB each."""


def json_response(body: Mapping[str, Any], status: int = 200) -> Response:
    """`body` as JSON."""
    return Response(orjson.dumps(body), status, media_type="application/json")


def recommendation_body(answer: Recommendation) -> dict[str, Any]:
    """The body of `schemas.RecommendationBody`."""
    return {
        "recommendation_id": answer.recommendation_id,
        "user_id": answer.user_id,
        "items": _repeated(answer.items) if answer.cached else items_body(answer.items),
        "strategy": answer.strategy.value,
        "bundle_version": answer.bundle_version,
        "cached": answer.cached,
        "degraded": answer.degraded,
        "timing_ms": answer.timing_ms,
    }


def _repeated(items: tuple[RecommendedItem, ...]) -> orjson.Fragment:
    """The items of an answer that is given again, as the JSON that they were made into the first time."""
    return _REPEATED.get(items, None, lambda: orjson.Fragment(orjson.dumps(items_body(items))))


def items_body(items: Sequence[RecommendedItem]) -> list[dict[str, Any]]:
    """The bodies of `schemas.RecommendedItemBody`."""
    return [
        {
            "item_id": item.item_id,
            "rank": item.rank,
            "score": item.score,
            "title": item.title,
            "reasons": [_reason(reason) for reason in item.reasons] if item.reasons else (),
            "metadata": None if item.metadata is None else _metadata(item.metadata),
        }
        for item in items
    ]


def _reason(reason: Reason) -> dict[str, Any]:
    return {"kind": reason.kind, "weight": reason.weight, "item_id": reason.item_id, "effect": reason.effect}


def _metadata(metadata: Metadata) -> dict[str, Any]:
    return {
        "category": metadata.category,
        "brand": metadata.brand,
        "price": metadata.price,
        "image": metadata.image,
        "in_stock": metadata.in_stock,
        "attributes": dict(metadata.attributes),
    }


def batch_body(answers: Sequence[Recommendation | PlotPointeError]) -> dict[str, Any]:
    """The body of `schemas.BatchBody`."""
    return {"answers": [_outcome(answer) for answer in answers]}


def _outcome(answer: Recommendation | PlotPointeError) -> dict[str, Any]:
    if isinstance(answer, Recommendation):
        return {"recommendation": recommendation_body(answer), "error": None}
    refusal = {
        "status": wire_error(answer).http_status,
        "reason": answer.reason,
        "detail": detail_of(answer),
        "errors": errors_body(violations_of(answer)),
    }
    return {"recommendation": None, "error": refusal}


def errors_body(violations: Sequence[FieldViolation]) -> list[dict[str, str]]:
    """The bodies of `schemas.FieldBody`."""
    return [{"field": violation.field, "message": violation.message} for violation in violations]


def list_body(answer: ItemList) -> dict[str, Any]:
    """The body of `schemas.ItemListBody`."""
    return {
        "recommendation_id": answer.recommendation_id,
        "items": items_body(answer.items),
        "bundle_version": answer.bundle_version,
        "timing_ms": answer.timing_ms,
    }


def events_body(receipt: EventsReceipt) -> dict[str, Any]:
    """The body of `schemas.EventsReceiptBody`."""
    return {
        "accepted": receipt.accepted,
        "duplicates": receipt.duplicates,
        "unknown_items": receipt.unknown_items,
        "shared": receipt.shared,
    }


def items_receipt_body(receipt: ItemsReceipt) -> dict[str, Any]:
    """The body of `schemas.ItemsReceiptBody`."""
    return {"accepted": receipt.accepted, "sequence": receipt.sequence, "not_embedded": receipt.not_embedded}


def bundles_body(states: BundleStates) -> dict[str, Any]:
    """The body of `schemas.BundlesBody`."""
    return {
        "serving": states.serving,
        "previous": states.previous,
        "canary": None if states.canary is None else asdict(states.canary),
        "shadow": None if states.shadow is None else asdict(states.shadow),
        "available": states.available,
        "state": states.state,
    }


def model_body(model: ModelInfo) -> dict[str, Any]:
    """The body of `schemas.ModelBody`; ModelInfo is made for callers, and holds what they see and nothing else."""
    body = asdict(model)
    body["index"]["recall_at"] = {str(k): recall for k, recall in model.index.recall_at.items()}
    return body
