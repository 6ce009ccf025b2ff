"""The REST application: `build_app` puts routes, problem bodies and the envelope together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.types import ASGIApp

from service.health import Readiness
from service.metrics import Metrics
from service.rest.bundles import add_bundles
from service.rest.docs_page import add_docs_page
from service.rest.envelope import Envelope
from service.rest.operations import add_operations
from service.rest.plain_route import Direct
from service.rest.problems import add_problem_handlers
from service.rest.questions import add_questions
from service.rest.request_schemas import REQUEST_BODIES
from service.rest.schemas import ProblemBody, component
from service.rest.statements import add_statements

if TYPE_CHECKING:
    from service.admin import Admin
    from service.engine import Engines

DESCRIPTION = """
Recommendations for a shop's users. `GET /recommend` is all that a storefront needs; unknown users get popular items.

Every answer carries `x-request-id` (yours, if you send one) and `server-timing`. Errors are `application/problem+json`
with a machine-readable `reason`. The same answers come over gRPC (`plotpointe.v1.RecommendationService`).
"""


class _DescribedApp(FastAPI):
    """FastAPI knows the bodies of its own routes alone: those of plain routes and of problems are added."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        models: tuple[type[BaseModel], ...] = (*REQUEST_BODIES, ProblemBody)
        for model in models:
            document["components"]["schemas"] |= component(model)
        return document


def build_app(engines: Engines, admin: Admin, metrics: Metrics, ready: Readiness) -> ASGIApp:
    """The ASGI application over the open engines of all tenants."""
    app = _DescribedApp(
        title="PlotPointe",
        version="1",
        description=DESCRIPTION,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    add_questions(app, engines)
    add_statements(app, engines)
    add_bundles(app, admin)
    add_operations(app, metrics, ready)
    add_docs_page(app)
    add_problem_handlers(app)
    return Envelope(Direct(app), metrics)
