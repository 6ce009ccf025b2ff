"""The REST application: `build_app` puts routes, problem bodies and the envelope together."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from service.health import Readiness
from service.metrics import Metrics
from service.model_info import ModelInfo
from service.recommend import Recommender
from service.rest.docs_page import add_docs_page
from service.rest.envelope import Envelope
from service.rest.problems import add_problem_handlers
from service.rest.routes import add_operations_routes, add_recommendation_routes
from service.rest.schemas import problem_schemas

DESCRIPTION = """
Recommendations for a shop's users. `GET /recommend` is all that a storefront needs; unknown users get popular items.

Every answer carries `x-request-id` (yours, if you send one) and `server-timing`. Errors are `application/problem+json`
with a machine-readable `reason`. The same answers come over gRPC (`plotpointe.v1.RecommendationService`).
"""


class _DescribedApp(FastAPI):
    """FastAPI knows no body of another media type than JSON: the problem body is added to what it describes."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document["components"]["schemas"].update(problem_schemas())
        return document


def build_app(recommender: Recommender, metrics: Metrics, ready: Readiness, model: ModelInfo) -> ASGIApp:
    """The ASGI application over one open engine."""
    app = _DescribedApp(
        title="PlotPointe",
        version="1",
        description=DESCRIPTION,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    add_recommendation_routes(app, recommender, model)
    add_operations_routes(app, metrics, ready)
    add_docs_page(app)
    add_problem_handlers(app)
    return Envelope(app, metrics)
