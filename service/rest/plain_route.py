"""Routes of FastAPI that are described as any other, and answered without its machinery.

FastAPI spends more on a request than a cached answer takes: four layers of middleware, three exit stacks, a dependency
graph that is empty here, two error handlers, a response object. A plain route goes from ASGI to its handler and back,
and answers its errors itself; one whose path has no part that varies is not even looked for by FastAPI.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send

from service.errors import InvalidQueryError, PlotPointeError, RequestTooLargeError
from service.rest.envelope import Exchange, exchange_of
from service.rest.problems import bug, refusal
from service.rest.query_string import Kinds, parameters
from service.validation.shape import ROOT
from service.validation.violations import FieldViolation, InvalidFieldsError

MAX_BODY_BYTES = 1 << 20
"""Largest body that is read; it holds some thousands of events or items."""
MAX_PICTURE_BODY_BYTES = 2 << 20
"""The same where a picture may be in it, in base64."""

BODY_S = 30.0
"""Seconds within which a body has to be here: a connection that sends nothing holds up nobody for ever."""

_JSON = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as its handler sees it."""

    exchange: Exchange
    scope: Scope
    receive: Receive

    @property
    def request_id(self) -> str:
        """The id of the exchange."""
        return self.exchange.request_id

    def parameters(self, kinds: Kinds) -> dict[str, Any]:
        """The query string's values. Raises InvalidFieldsError for unknown and repeated ones."""
        return parameters(self.scope["query_string"], kinds)

    def in_path(self, name: str) -> str:
        """A part of the path, decoded. Raises InvalidFieldsError where it is no percent-encoded UTF-8."""
        try:
            return unquote(self.scope["path_params"][name], errors="strict")
        except UnicodeDecodeError as error:
            raise InvalidFieldsError(FieldViolation(name, f"{name} must be percent-encoded UTF-8")) from error

    async def json(self, limit: int = MAX_BODY_BYTES) -> Any:
        """The body. Raises RequestTooLargeError before more than `limit` bytes are kept, InvalidFieldsError."""
        if self.scope["query_string"]:
            self.parameters({})
        raw = await self._body(limit)
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise InvalidFieldsError(FieldViolation(ROOT, f"{ROOT} must be JSON in UTF-8: {error}")) from error

    async def _body(self, limit: int) -> bytes:
        declared = self.exchange.headers.get(b"content-length", b"")
        if declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
            raise _too_large(limit)
        message = await self.receive()
        body: bytes = _part(message)
        if message.get("more_body", False):
            try:
                async with asyncio.timeout(BODY_S):
                    body = await self._rest(body, limit)
            except TimeoutError as error:
                raise InvalidQueryError(f"the body did not arrive within {BODY_S} s", where=ROOT) from error
        if len(body) > limit:
            raise _too_large(limit)
        return body

    async def _rest(self, first: bytes, limit: int) -> bytes:
        parts = [first]
        size = len(first)
        while size <= limit:
            message = await self.receive()
            parts.append(_part(message))
            size += len(parts[-1])
            if not message.get("more_body", False):
                break
        return b"".join(parts)


Handler = Callable[[Asked], Awaitable[bytes]]
"""Answers with a body of JSON; what it raises becomes a problem body."""


class PlainRoute(APIRoute):
    """A route that is `handler` and nothing else; what FastAPI is told of it is for its description."""

    def __init__(self, path: str, handler: Handler, **described: Any) -> None:
        async def endpoint() -> None:
            """Never called: FastAPI asks an endpoint for its parameters, and these are described by hand."""

        super().__init__(path, endpoint, response_model=None, name=handler.__name__, **described)
        self._handler = handler
        self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        try:
            body = await self._handler(Asked(exchange, scope, receive))
        except PlotPointeError as error:
            await refusal(exchange.request_id, error)(scope, receive, send)
            return
        except Exception:
            await bug(exchange.request_id)(scope, receive, send)
            raise  # to the envelope, which logs it
        headers = [(b"content-length", str(len(body)).encode()), _JSON]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Direct:
    """ASGI wrapper: takes a request whose path is that of a plain route there, past FastAPI's layers."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._routes = {
            (method, route.path): route
            for route in app.routes
            if isinstance(route, PlainRoute) and not route.param_convertors
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        route = self._routes.get((scope["method"], scope["path"]))
        if route is None:
            await self._app(scope, receive, send)
        else:
            scope["route"] = route
            await route.app(scope, receive, send)


def _part(message: Message) -> bytes:
    if message["type"] != "http.request":
        raise InvalidQueryError("the connection ended before the body did", where=ROOT)
    part: bytes = message.get("body", b"")
    return part


def _too_large(limit: int) -> RequestTooLargeError:
    return RequestTooLargeError(f"the body has more than {limit} bytes", todo="Send it in several requests")
