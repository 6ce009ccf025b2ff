"""The routes: each takes a request apart, asks the engine or the service's state, and puts the answer together."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from service.domain import MAX_ID_BYTES, MAX_K
from service.error_map import RETRY_AFTER_S
from service.health import Readiness
from service.metrics import CONTENT_TYPE, Metrics
from service.model_info import ModelInfo
from service.recommend import Recommender
from service.rest import examples
from service.rest.answers import json_response, model_body, recommendation_body
from service.rest.envelope import exchange_of
from service.rest.query_string import parse_query
from service.rest.schemas import ModelBody, ProblemBody, RecommendationBody, StatesBody
from service.validation import DEFAULT_K

RECOMMEND_PARAMETERS = [
    {
        "name": "user_id",
        "in": "query",
        "required": True,
        "description": f"The shop's own name of the user: text, up to {MAX_ID_BYTES} bytes of UTF-8, percent-encoded.",
        "schema": {"type": "string", "minLength": 1},
        "examples": {"a user": {"value": "user-0001"}, "any text": {"value": "Zoë & Söhne/42"}},
    },
    {
        "name": "k",
        "in": "query",
        "description": "How many items to answer with.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_K, "default": DEFAULT_K},
    },
]


def add_recommendation_routes(app: FastAPI, recommender: Recommender, model: ModelInfo) -> None:
    """`/recommend` and `/v1/model`. On the app itself: an included router costs every request a second matching."""
    described = json_response(model_body(model)).body

    @app.get(
        "/recommend",
        tags=["recommendations"],
        summary="The best items for one user",
        responses={
            200: _answer(RecommendationBody, "Items, best first.", examples.RECOMMENDATION),
            400: _problem("A parameter is missing or wrong.", examples.REFUSED),
            503: _problem("Not ready, or overloaded; retry after `Retry-After` seconds.", examples.NOT_READY),
        },
        openapi_extra={"parameters": RECOMMEND_PARAMETERS},
        response_model=None,
    )
    async def recommend(request: Request) -> Response:
        exchange = exchange_of(request.scope)
        query = parse_query(request.scope["query_string"], exchange.request_id)
        answer = await recommender.recommend(query, transport="rest")
        exchange.strategy, exchange.timing_ms = answer.strategy, answer.timing_ms
        return json_response(recommendation_body(answer))

    @app.get(
        "/v1/model",
        tags=["recommendations"],
        summary="What is being served",
        responses={200: _answer(ModelBody, "The bundle and its measured figures.", examples.MODEL)},
        response_model=None,
    )
    async def get_model() -> Response:
        return Response(described, media_type="application/json")


def add_operations_routes(app: FastAPI, metrics: Metrics, ready: Readiness) -> None:
    """`/livez`, `/readyz` and `/metrics`."""

    @app.api_route(
        "/livez",
        methods=["GET", "HEAD"],
        tags=["operations"],
        summary="Whether the process runs; asks nothing else",
        responses={200: {"content": {"text/plain": {"example": "ok"}}}},
        response_model=None,
    )
    async def livez() -> Response:
        return Response(b"ok", media_type="text/plain")

    @app.api_route(
        "/readyz",
        methods=["GET", "HEAD"],
        tags=["operations"],
        summary="Whether to send requests here, and the state of each part",
        responses={
            200: _answer(StatesBody, "Send requests.", examples.READY),
            503: _answer(StatesBody, "Send none: loading, or draining.", examples.DRAINING),
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
        response_model=None,
    )
    async def get_metrics() -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE)


def _answer(model: type[Any], description: str, example: object) -> dict[str, Any]:
    return {"model": model, "description": description, "content": {"application/json": {"example": example}}}


def _problem(description: str, example: object) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{ProblemBody.__name__}"}
    content = {"application/problem+json": {"schema": schema, "example": example}}
    return {"description": description, "content": content}
