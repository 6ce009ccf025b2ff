"""The standard health service, answered from the service's own readiness.

The reference servicer of grpcio-health-checking keeps states of its own, and stops telling the other watchers of a
service once one of them leaves (it deletes the condition that they share); so the two methods are written here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from service.health import Readiness

SERVICE_NAME = "plotpointe.v1.RecommendationService"
ADMIN_SERVICE_NAME = "plotpointe.v1.AdminService"
KNOWN = ("", SERVICE_NAME, ADMIN_SERVICE_NAME, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
"""Services whose health can be asked for; the empty name is the process as a whole."""
WATCH_INTERVAL_S = 0.1
"""Seconds within which a watcher hears of a change."""

Context = grpc.aio.ServicerContext[HealthCheckRequest, HealthCheckResponse]


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Check and Watch over `Readiness`: the same answer as `/readyz`."""

    def __init__(self, ready: Readiness) -> None:
        self._ready = ready
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Tell every watcher the last state and end its stream: an open one would hold up the drain."""
        self._closing.set()

    async def Check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:  # noqa: N802
        """The state now; NOT_FOUND for a service that is not served here."""
        if request.service not in KNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no such service: {request.service[:200]}")
        return HealthCheckResponse(status=self._status(request.service))

    async def Watch(  # noqa: N802
        self, request: HealthCheckRequest, context: Context
    ) -> AsyncIterator[HealthCheckResponse]:
        """The state now and after each change; SERVICE_UNKNOWN for a service that is not served here."""
        last: int | None = None
        closing = False
        while not closing:
            closing = self._closing.is_set()
            status = self._status(request.service)
            if status != last:
                yield HealthCheckResponse(status=status)
                last = status
            if not closing:
                await self._pause()

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._closing.wait(), WATCH_INTERVAL_S)
        except TimeoutError:
            return

    def _status(self, service: str) -> int:
        if service not in KNOWN:
            return int(HealthCheckResponse.SERVICE_UNKNOWN)
        return int(HealthCheckResponse.SERVING if self._ready.is_ready() else HealthCheckResponse.NOT_SERVING)
