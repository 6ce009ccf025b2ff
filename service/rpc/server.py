"""The gRPC server: the service, its health, its description of itself, and what the connection may do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from service.health import Readiness
from service.metrics import Metrics
from service.rpc.admin_servicer import AdminServicer
from service.rpc.calls import MAX_PICTURE_MESSAGE_BYTES, UnknownMethods
from service.rpc.health import KNOWN, HealthServicer
from service.rpc.servicer import RecommendationServicer

if TYPE_CHECKING:
    from service.admin import Admin
    from service.engine import Engines

OPTIONS = (
    ("grpc.max_receive_message_length", MAX_PICTURE_MESSAGE_BYTES),
    ("grpc.max_send_message_length", 4 << 20),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.keepalive_time_ms", 60_000),  # finds dead clients behind a load balancer that drops idle connections
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),  # clients may ping this often
)
"""Bytes and milliseconds."""


class RpcServer:
    """A gRPC server on one port; made inside the running event loop."""

    def __init__(
        self,
        engines: Engines,
        admin: Admin,
        metrics: Metrics,
        ready: Readiness,
        *,
        with_reflection: bool,
        share_port: bool = False,
    ) -> None:
        """`share_port`: other workers of this service listen on it too; else a second process there is refused."""
        self._health = HealthServicer(ready)
        self._server = grpc.aio.server(options=(*OPTIONS, ("grpc.so_reuseport", int(share_port))))
        self._server.add_generic_rpc_handlers(
            (RecommendationServicer(engines).handlers(metrics), AdminServicer(admin).handlers(metrics))
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if with_reflection:
            names = (*filter(None, KNOWN), reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self._server.add_generic_rpc_handlers((UnknownMethods(metrics),))  # last: asked when no other knows the method

    def listen(self, host: str, port: int) -> int:
        """Bind; returns the port, which is new where 0 was asked for. Raises RuntimeError where it is taken."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return self._server.add_insecure_port(address)

    async def start(self) -> None:
        """Take calls from now on."""
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Take no more calls; end those in flight when they are done, at the latest after `grace_s` seconds."""
        self._health.close()
        await self._server.stop(grace_s)
