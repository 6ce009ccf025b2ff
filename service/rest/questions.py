"""The routes that ask: each takes a request apart, asks the engine, and puts the answer together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import FastAPI

from service.domain import MAX_DEPTH, By, Query, Recommendation
from service.errors import PlotPointeError
from service.rest import examples, query_string
from service.rest.answers import batch_body, list_body, model_body, recommendation_body
from service.rest.described import (
    ASKED,
    CATEGORY,
    FILTER,
    ITEM_ID,
    LATE,
    METADATA,
    NO_ENCODER,
    TOO_LARGE,
    UNKNOWN,
    USER_ID,
    K,
    answer,
    body,
    extra,
)
from service.rest.plain_route import MAX_PICTURE_BODY_BYTES, Asked, PlainRoute
from service.rest.request_schemas import BatchRequestBody, RecommendRequestBody, RerankRequestBody, SimilarRequestBody
from service.rest.schemas import BatchBody, ItemListBody, ModelBody, RecommendationBody
from service.validation.identity import accepted_tenant
from service.validation.queries import (
    MAX_DEADLINE_MS,
    batch_queries,
    popular_query,
    recommend_query,
    rerank_query,
    similar_content_query,
    similar_items_query,
)

if TYPE_CHECKING:
    from service.engine import Engine, Engines

RECOMMEND_KINDS: query_string.Kinds = {
    "user_id": str,
    "k": query_string.whole,
    "offset": query_string.whole,
    "filter": str,
    "category": str,
    "explain": query_string.flag,
    "deadline_ms": query_string.whole,
    "diversity": query_string.number,
    "metadata": query_string.flag,
}
SIMILAR_KINDS: query_string.Kinds = {"by": str, "k": query_string.whole, "filter": str, "metadata": query_string.flag}
WEIGHT_KINDS: query_string.Kinds = {
    "look": query_string.number,
    "meaning": query_string.number,
    "behaviour": query_string.number,
}
POPULAR_KINDS: query_string.Kinds = {
    "k": query_string.whole,
    "category": str,
    "window_s": query_string.number,
    "filter": str,
    "metadata": query_string.flag,
}

_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_RECOMMEND_PARAMETERS: list[dict[str, Any]] = [
    USER_ID,
    K,
    {
        "name": "offset",
        "in": "query",
        "description": f"How many items of the ranking to pass over first; with k at most {MAX_DEPTH}.",
        "schema": {"type": "integer", "minimum": 0, "maximum": MAX_DEPTH - 1, "default": 0},
    },
    FILTER,
    CATEGORY,
    {
        "name": "explain",
        "in": "query",
        "description": "Whether each item carries the reasons for its score.",
        "schema": {"type": "boolean", "default": False},
    },
    {
        "name": "deadline_ms",
        "in": "query",
        "description": "Milliseconds within which the answer is of use.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_DEADLINE_MS},
    },
    {
        "name": "diversity",
        "in": "query",
        "description": "How much an item's likeness to those before it counts against it.",
        "schema": {**_SHARE, "default": 0},
    },
    METADATA,
]
_BY = {
    "name": "by",
    "in": "query",
    "description": "In which respect: by image, by text, by who bought them, or as the model has it.",
    "schema": {"type": "string", "enum": [str(by) for by in By], "default": str(By.BLEND)},
}
_WEIGHTS: list[dict[str, Any]] = [
    {"name": name, "in": "query", "description": "Weight in a mixture, in place of `by`.", "schema": _SHARE}
    for name in WEIGHT_KINDS
]
_WINDOW = {
    "name": "window_s",
    "in": "query",
    "description": "Only what shoppers did in the last seconds, as far back as the service remembers.",
    "schema": {"type": "number", "minimum": 1},
}


class Questions:
    """The handlers, over the engines of all tenants."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    async def get_recommend(self, asked: Asked) -> bytes:
        """The best items for one user, as a query string asks."""
        query = recommend_query(asked.parameters(RECOMMEND_KINDS), asked.request_id)
        return _recommended(asked, await self._engine(asked).recommend(query, transport="rest"))

    async def recommend(self, asked: Asked) -> bytes:
        """The same with everything that a body can say."""
        query = recommend_query(await asked.json(), asked.request_id)
        return _recommended(asked, await self._engine(asked).recommend(query, transport="rest"))

    async def recommend_batch(self, asked: Asked) -> bytes:
        """Several requests in one call."""
        queries = batch_queries(await asked.json(), asked.request_id)
        asked_of_engine = [query for query in queries if isinstance(query, Query)]
        answers = iter(await self._engine(asked).recommend_batch(asked_of_engine, transport="rest"))
        outcomes: Sequence[Recommendation | PlotPointeError]
        outcomes = [next(answers) if isinstance(query, Query) else query for query in queries]
        return orjson.dumps(batch_body(outcomes))

    async def rerank(self, asked: Asked) -> bytes:
        """The caller's own list."""
        query = rerank_query(await asked.json(), asked.request_id)
        return _recommended(asked, await self._engine(asked).rerank(query, transport="rest"))

    async def similar_items(self, asked: Asked) -> bytes:
        """What is like an item."""
        values = asked.parameters({**SIMILAR_KINDS, **WEIGHT_KINDS})
        weights = {name: values.pop(name) for name in WEIGHT_KINDS if name in values}
        values |= {"item_id": asked.in_path("item_id")} | ({"modality_weights": weights} if weights else {})
        query = similar_items_query(values, asked.request_id)
        return orjson.dumps(list_body(await self._engine(asked).similar(query, transport="rest")))

    async def similar_content(self, asked: Asked) -> bytes:
        """What is like a text or a picture."""
        query = similar_content_query(await asked.json(MAX_PICTURE_BODY_BYTES), asked.request_id)
        return orjson.dumps(list_body(await self._engine(asked).similar(query, transport="rest")))

    async def popular(self, asked: Asked) -> bytes:
        """The most popular items."""
        query = popular_query(asked.parameters(POPULAR_KINDS), asked.request_id)
        return orjson.dumps(list_body(await self._engine(asked).popular(query, transport="rest")))

    async def model(self, asked: Asked) -> bytes:
        """What is being served."""
        asked.parameters({})
        return orjson.dumps(model_body(self._engine(asked).model()))

    def _engine(self, asked: Asked) -> Engine:
        return self._engines.get(accepted_tenant(asked.exchange.tenant()))


def add_questions(app: FastAPI, engines: Engines) -> None:
    """Add the routes; the most asked for first, for they are matched in turn."""
    ask = Questions(engines)
    late = {**ASKED, **LATE}
    recommended = answer(RecommendationBody, "Items, best first.", examples.RECOMMENDATION)
    listed = answer(ItemListBody, "Items, best first.", examples.ITEM_LIST)
    for method, path, handler, summary, responses, described in (
        (
            "GET",
            "/recommend",
            ask.get_recommend,
            "The best items for one user",
            {200: recommended, **late},
            extra(*_RECOMMEND_PARAMETERS),
        ),
        (
            "POST",
            "/v1/recommend",
            ask.recommend,
            "The same, with history, seed items, rules and weights",
            {200: recommended, **late, **TOO_LARGE},
            extra(**body(RecommendRequestBody, examples.RECOMMEND_REQUEST)),
        ),
        (
            "POST",
            "/v1/recommend:batch",
            ask.recommend_batch,
            "Several requests in one call, each with an answer or a refusal of its own",
            {200: answer(BatchBody, "Outcomes, in order.", examples.BATCH), **ASKED, **TOO_LARGE},
            extra(**body(BatchRequestBody, examples.BATCH_REQUEST)),
        ),
        (
            "POST",
            "/v1/rerank",
            ask.rerank,
            "Your own list, in a user's order",
            {200: recommended, **late, **TOO_LARGE},
            extra(**body(RerankRequestBody, examples.RERANK_REQUEST)),
        ),
        (
            "GET",
            "/v1/items/{item_id}/similar",
            ask.similar_items,
            "What is like an item",
            {200: listed, **ASKED, **UNKNOWN},
            extra(ITEM_ID, _BY, *_WEIGHTS, K, FILTER, METADATA),
        ),
        (
            "POST",
            "/v1/similar",
            ask.similar_content,
            "What is like a text, a picture, or both",
            {200: listed, **ASKED, **NO_ENCODER, **TOO_LARGE},
            extra(**body(SimilarRequestBody, examples.SIMILAR_REQUEST)),
        ),
        (
            "GET",
            "/v1/popular",
            ask.popular,
            "The most popular items",
            {200: listed, **ASKED},
            extra(K, CATEGORY, _WINDOW, FILTER, METADATA),
        ),
        (
            "GET",
            "/v1/model",
            ask.model,
            "What is being served",
            {200: answer(ModelBody, "The bundle and its measured figures.", examples.MODEL), **ASKED},
            extra(),
        ),
    ):
        about: dict[str, Any] = {"tags": ["recommendations"], "summary": summary, "responses": responses}
        app.router.routes.append(PlainRoute(path, handler, methods=[method], openapi_extra=described, **about))


def _recommended(asked: Asked, answered: Recommendation) -> bytes:
    exchange = asked.exchange
    exchange.strategy, exchange.timing_ms = answered.strategy, answered.timing_ms
    return orjson.dumps(recommendation_body(answered))
