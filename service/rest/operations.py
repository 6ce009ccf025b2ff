"""The routes of those who watch the service: `/livez`, `/readyz` and `/metrics`."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import PlainTextResponse, Response

from service.error_map import RETRY_AFTER_S
from service.health import Readiness
from service.metrics import CONTENT_TYPE, Metrics
from service.rest import examples
from service.rest.answers import json_response
from service.rest.described import answer
from service.rest.schemas import StatesBody


def add_operations(app: FastAPI, metrics: Metrics, ready: Readiness) -> None:
    """Add the routes."""

    @app.head("/livez", include_in_schema=False)
    @app.get(
        "/livez",
        tags=["operations"],
        summary="Whether the process runs; asks nothing else",
        responses={200: {"content": {"text/plain": {"example": "ok"}}}},
        response_class=PlainTextResponse,
        response_model=None,
    )
    async def livez() -> Response:
        return Response(b"ok", media_type="text/plain")

    @app.head("/readyz", include_in_schema=False)
    @app.get(
        "/readyz",
        tags=["operations"],
        summary="Whether to send requests here, and the state of each part",
        responses={
            200: answer(StatesBody, "Send requests.", examples.READY),
            503: answer(StatesBody, "Send none: loading, or draining.", examples.DRAINING),
        },
        response_model=None,
    )
    async def readyz() -> Response:
        is_ready = ready.is_ready()
        response = json_response({"ready": is_ready, "states": ready.states()}, 200 if is_ready else 503)
        if not is_ready:
            response.headers["retry-after"] = str(RETRY_AFTER_S)
        return response

    @app.get(
        "/metrics",
        tags=["operations"],
        summary="Prometheus metrics",
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        response_class=PlainTextResponse,
        response_model=None,
    )
    async def get_metrics() -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE)
