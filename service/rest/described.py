"""Pieces of the OpenAPI description that routes share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from service.domain import MAX_ID_BYTES, MAX_K
from service.rest import examples
from service.rest.schemas import ProblemBody
from service.validation.identity import TENANT
from service.validation.queries import DEFAULT_K

TENANT_HEADER = {
    "name": TENANT,
    "in": "header",
    "description": "The shop, where the service has several.",
    "schema": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,62}$"},
}
USER_ID = {
    "name": "user_id",
    "in": "query",
    "required": True,
    "description": f"The shop's own name of the user: text, up to {MAX_ID_BYTES} bytes of UTF-8, percent-encoded.",
    "schema": {"type": "string", "minLength": 1},
    "examples": {"a user": {"value": "user-0001"}, "any text": {"value": "Zoë & Söhne/42"}},
}
K = {
    "name": "k",
    "in": "query",
    "description": "How many items to answer with.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_K, "default": DEFAULT_K},
}
FILTER = {
    "name": "filter",
    "in": "query",
    "description": "Which items may be answered.",
    "schema": {"type": "string"},
    "examples": {"a filter": {"value": 'category: ANY("Phones") AND price < 50'}},
}
CATEGORY = {
    "name": "category",
    "in": "query",
    "description": "The category of the page, or the one to look in.",
    "schema": {"type": "string"},
}
METADATA = {
    "name": "metadata",
    "in": "query",
    "description": "Whether each item carries category, brand, price, image, stock and attributes.",
    "schema": {"type": "boolean", "default": False},
}
ITEM_ID = {
    "name": "item_id",
    "in": "path",
    "required": True,
    "description": "The shop's own name of the item, percent-encoded; a slash is %2F.",
    "schema": {"type": "string", "minLength": 1},
}


def answer(model: type[BaseModel], description: str, example: object) -> dict[str, Any]:
    """A response with a JSON body."""
    return {"model": model, "description": description, "content": {"application/json": {"example": example}}}


def problem(description: str, example: object) -> dict[str, Any]:
    """A response with a problem body."""
    schema = {"$ref": f"#/components/schemas/{ProblemBody.__name__}"}
    return {"description": description, "content": {"application/problem+json": {"schema": schema, "example": example}}}


REFUSED = {400: problem("The request breaks the contract; `errors` names the fields.", examples.REFUSED)}
TOO_LARGE = {413: problem("The body is larger than the service reads.", examples.TOO_LARGE)}
UNKNOWN = {404: problem("No one knows the item.", examples.UNKNOWN_ITEM)}
UNAVAILABLE = {503: problem("Not ready, or overloaded; retry after `Retry-After` seconds.", examples.NOT_READY)}
NO_ENCODER = {501: problem("No encoder for it is installed or published.", examples.NO_ENCODER)}
UNAUTHENTICATED = {401: problem("The admin key is missing or wrong.", examples.UNAUTHENTICATED)}
LATE = {504: problem("The request's own deadline passed.", examples.LATE)}
ASKED = {**REFUSED, **UNAVAILABLE}
"""What every question may come to beside its answer."""


def body(model: type[BaseModel], example: object) -> dict[str, Any]:
    """A request body of JSON."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


def extra(*parameters: Mapping[str, Any], **others: Any) -> dict[str, Any]:
    """What OpenAPI is told of an operation beside its responses: its parameters, the tenant's header, its body."""
    return {"parameters": [*parameters, TENANT_HEADER], **others}
