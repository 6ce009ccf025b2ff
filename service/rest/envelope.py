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
from service.validation import accepted_request_id

log = logging.getLogger(__name__)

CANCELLED = 499
"""Status in the metrics of a request that ended before its answer began; nginx's word for it."""

_KEY = "plotpointe.exchange"


@dataclass(slots=True)
class Exchange:
    """One request and what is known of its answer; routes fill in what the metrics and the headers need."""

    request_id: str
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
        exchange = Exchange(accepted_request_id(_header(scope, b"x-request-id")), perf_counter())
        scope[_KEY] = exchange

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


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def _headers(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    stages = [f"{stage};dur={ms:.2f}" for stage, ms in exchange.timing_ms.items()]
    timing = ", ".join([*stages, f"total;dur={exchange.elapsed() * 1e3:.2f}"])
    return [
        (b"x-request-id", exchange.request_id.encode()),
        (b"server-timing", timing.encode()),
        (b"cache-control", b"private, no-store"),
    ]


def route_of(scope: Scope) -> str:
    """The route's template, never the path: a label must not grow with what callers send."""
    route = scope.get("route")
    return getattr(route, "path", None) or "unmatched"
