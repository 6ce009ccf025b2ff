"""What stands around every HTTP exchange: its id, its time, its headers, its line in the metrics. Pure ASGI.

A `BaseHTTPMiddleware` would do the same at several times the cost: it starts a task group for every request.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import Metrics
from service.validation.identity import AUTHORIZATION, REQUEST_ID, TENANT, accepted_request_id, admin_key

log = logging.getLogger(__name__)

CANCELLED = 499
"""Status in the metrics of a request that ended before its answer began; nginx's word for it."""
ENCODED = ("/v1/items/", "/v1/bundles/")
"""Below these paths are matched as they were sent, still percent-encoded: an id may hold a slash."""

_KEY = "plotpointe.exchange"
_REQUEST_ID, _TENANT, _AUTHORIZATION = (name.encode() for name in (REQUEST_ID, TENANT, AUTHORIZATION))
_PRIVATE = (b"cache-control", b"private, no-store")


@dataclass(slots=True)
class Exchange:
    """One request and what is known of its answer; routes fill in what the metrics and the headers need."""

    request_id: str
    headers: Mapping[bytes, bytes]
    """Of the request; of a header given twice the last."""
    started: float
    """`perf_counter` seconds."""
    status: int = 0
    """HTTP status; 0 until the answer starts."""
    strategy: str = ""
    """Strategy of the recommendation; empty where the answer is none."""
    timing_ms: Mapping[str, float] = field(default_factory=dict)
    """Stage name -> milliseconds."""

    def elapsed(self) -> float:
        """Seconds since the request arrived."""
        return perf_counter() - self.started

    def tenant(self) -> str:
        """The tenant that the request names, as it came; empty where it names none."""
        return self.headers.get(_TENANT, b"").decode("latin-1")

    def admin_key(self) -> str:
        """The key of `authorization: Bearer <key>`; empty where there is none."""
        return admin_key(self.headers.get(_AUTHORIZATION, b"").decode("latin-1"))


def exchange_of(scope: Scope) -> Exchange:
    """The exchange that the envelope opened for this scope."""
    exchange = scope[_KEY]
    assert isinstance(exchange, Exchange)
    return exchange


class Envelope:
    """ASGI wrapper: gives each request an id, sends it back, times the request whatever its status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; an error that escapes the app is logged here, after its 500 was sent."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        exchange = Exchange(_accepted(headers.get(_REQUEST_ID)), headers, perf_counter())
        scope[_KEY] = exchange
        if scope["path"].startswith(ENCODED):
            scope["path"] = scope["raw_path"].decode("latin-1")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [*message["headers"], *_headers(exchange)]
            await send(message)

        try:
            with self._metrics.in_flight():
                await self._app(scope, receive, send_with_headers)
        except Exception:
            extra = {"request_id": exchange.request_id}
            log.exception("a request failed: %s %s", scope["method"], route_of(scope), extra=extra)
        finally:
            self._metrics.observe_request(
                route=route_of(scope),
                status=str(exchange.status or CANCELLED),
                strategy=exchange.strategy,
                seconds=exchange.elapsed(),
            )


def _accepted(request_id: bytes | None) -> str:
    return accepted_request_id(None if request_id is None else request_id.decode("latin-1"))


def _headers(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    timing = "".join([f"{stage};dur={ms:.2f}, " for stage, ms in exchange.timing_ms.items()])
    total = f"{timing}total;dur={exchange.elapsed() * 1e3:.2f}"
    return [(_REQUEST_ID, exchange.request_id.encode()), (b"server-timing", total.encode()), _PRIVATE]


def route_of(scope: Scope) -> str:
    """The route's template, never the path: a label must not grow with what callers send."""
    route = scope.get("route")
    return getattr(route, "path", None) or "unmatched"
