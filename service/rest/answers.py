"""Domain values -> JSON bytes. Written field by field: what the domain adds is not sent until it is named here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from service.domain import Recommendation
from service.model_info import ModelInfo


def json_response(body: Mapping[str, Any], status: int = 200) -> Response:
    """`body` as JSON."""
    return Response(orjson.dumps(body), status, media_type="application/json")


def recommendation_body(answer: Recommendation) -> dict[str, Any]:
    """The body of `schemas.RecommendationBody`."""
    return {
        "recommendation_id": answer.recommendation_id,
        "user_id": answer.user_id,
        "items": [
            {"item_id": item.item_id, "rank": item.rank, "score": item.score, "title": item.title}
            for item in answer.items
        ],
        "strategy": answer.strategy,
        "bundle_version": answer.bundle_version,
        "cached": answer.cached,
        "degraded": answer.degraded,
        "timing_ms": answer.timing_ms,
    }


def model_body(model: ModelInfo) -> dict[str, Any]:
    """The body of `schemas.ModelBody`."""
    return {
        "version": model.version,
        "created_at": model.created_at,
        "code_version": model.code_version,
        "data_fingerprint": model.data_fingerprint,
        "as_of": model.as_of,
        "num_items": model.num_items,
        "num_users": model.num_users,
        "dim": model.dim,
        "num_candidates": model.num_candidates,
        "index": {
            "factory": model.index.factory,
            "recall_at": {str(k): recall for k, recall in model.index.recall_at.items()},
        },
        "evaluation": {
            "protocol": model.evaluation.protocol,
            "users": model.evaluation.users,
            "metrics": model.evaluation.metrics,
            "baselines": model.evaluation.baselines,
        },
        "parity_max_abs_diff": model.parity_max_abs_diff,
        "encoders": model.encoders,
    }
