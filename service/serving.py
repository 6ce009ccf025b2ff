"""One process that answers: REST and gRPC over one engine in one event loop, until SIGTERM or SIGINT.

On the signal: ready goes false, the ports stay open for a moment so that balancers hear of it, requests in flight are
finished, both servers stop, the engine is closed. A second process on the same port is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn

from service.errors import InputError, PortBusyError
from service.model_info import model_info
from service.rest.app import build_app
from service.rpc.server import RpcServer
from service.settings import Settings
from service.wiring import Service, open_service

LINGER_S = 0.5
"""Seconds between ready going false and the ports closing: probes and watchers hear of the drain meanwhile."""
KEEP_ALIVE_S = 75
"""Seconds an idle HTTP connection stays open. Longer than the 60 of common load balancers, who must close first."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the service listens, with the ports that it really got."""

    bundle_version: str
    host: str
    rest_port: int
    grpc_port: int


async def serve(settings: Settings, announce: Callable[[Addresses], None]) -> None:
    """Answer until a signal; `announce` is called once when both ports answer.

    Raises PortBusyError or InputError for a port or host that cannot be had, BundleError for a refused bundle.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with listening(settings.host, settings.rest_port, "rest_port") as rest_socket:
        with listening(settings.host, settings.grpc_port, "grpc_port"):
            pass  # only asks whether the port is free, before a bundle is loaded for nothing
        async with open_service(settings) as service:
            await answer(service, rest_socket, stop, announce)


async def answer(
    service: Service, rest_socket: socket.socket, stop: asyncio.Event, announce: Callable[[Addresses], None]
) -> None:
    """Answer on both ports until `stop` is set and what was in flight is done, at the latest after `drain_seconds`."""
    settings = service.settings
    rpc = _rpc_server(service)
    grpc_port = _bind_rpc(rpc, settings)
    await rpc.start()
    rest = _RestServer(_rest_config(service))
    answering = asyncio.create_task(rest.serve(sockets=[rest_socket]))
    announce(Addresses(service.manifest.version, settings.host, rest_socket.getsockname()[1], grpc_port))
    await _first(stop, answering)
    service.ready.drain()
    await asyncio.sleep(min(LINGER_S, settings.drain_seconds))
    rest.should_exit = True
    await asyncio.gather(rpc.stop(settings.drain_seconds), answering)


class _RestServer(uvicorn.Server):
    """Uvicorn without its own signal handlers: the process has one stop for both servers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _rest_config(service: Service) -> uvicorn.Config:
    app = build_app(service.recommender, service.metrics, service.ready, model_info(service.manifest))
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(service.settings.drain_seconds),
    )


def _rpc_server(service: Service) -> RpcServer:
    return RpcServer(
        service.recommender,
        service.metrics,
        service.ready,
        model_info(service.manifest),
        with_reflection=service.settings.grpc_reflection,
    )


def _bind_rpc(rpc: RpcServer, settings: Settings) -> int:
    try:
        return rpc.listen(settings.host, settings.grpc_port)
    except RuntimeError as error:  # taken since it was probed
        raise _port_busy(settings.host, settings.grpc_port, "grpc_port") from error


@contextlib.contextmanager
def listening(host: str, port: int, setting: str) -> Iterator[socket.socket]:
    """A listening socket; PortBusyError or InputError names the setting to change."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _port_busy(host, port, setting) from error
        name = "host" if error.errno != errno.EACCES else setting
        what = f"cannot listen on {host}, port {port}: {error.strerror or error}"
        raise InputError(what, where=_names(name), todo="Choose another") from error
    with listener:
        yield listener


def _port_busy(host: str, port: int, setting: str) -> PortBusyError:
    return PortBusyError(
        f"port {port} on {host} is taken by another process",
        where=_names(setting),
        todo="End that process, or choose another port (0 lets the system choose)",
    )


def _names(setting: str) -> str:
    return f"--{setting.replace('_', '-')} (PLOTPOINTE_{setting.upper()})"


async def _first(stop: asyncio.Event, answering: asyncio.Task[None]) -> None:
    """Wait for the stop; a REST server that ends by itself raises its error here."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({stopping, answering}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if answering.done():
        answering.result()
