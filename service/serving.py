"""A process that answers: REST and gRPC over one set of engines in one event loop, until SIGTERM or SIGINT.

On the signal: ready goes false, the ports stay open for a moment so that balancers hear of it, requests in flight are
finished, both servers stop, the engines are closed. A second service on the same port is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn
import uvloop

from service.metrics import Metrics, share_between_processes
from service.ports import listening, port_busy, reserved
from service.rest.app import build_app
from service.rest.protocol import BoundedHttp
from service.rpc.server import RpcServer
from service.settings import Settings
from service.wiring import Service, open_service
from service.workers import Post, Workers

LINGER_S = 0.5
"""Seconds between ready going false and the ports closing: probes and watchers hear of the drain meanwhile."""
KEEP_ALIVE_S = 75
"""Seconds an idle HTTP connection stays open. Longer than the 60 of common load balancers, who must close first."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the service listens, with the ports that it really got."""

    bundle_version: str
    """Of several tenants, all of them."""
    host: str
    rest_port: int
    grpc_port: int


def run(settings: Settings, announce: Callable[[Addresses], None]) -> None:
    """Answer until a signal, in this process or in several; `announce` is called once when both ports answer.

    Raises PortBusyError or InputError for a port or host that cannot be had, BundleError for a refused bundle.
    """
    with listening(settings.host, settings.rest_port, "rest_port") as rest_socket:
        if settings.workers == 1:
            with listening(settings.host, settings.grpc_port, "grpc_port"):
                pass  # only asks whether the port is free, before a bundle is loaded for nothing
            uvloop.run(_serve(settings, Metrics(), rest_socket, settings.grpc_port, announce))
        else:
            _run_workers(settings, rest_socket, announce)


def _run_workers(settings: Settings, rest_socket: socket.socket, announce: Callable[[Addresses], None]) -> None:
    with reserved(settings.host, settings.grpc_port, "grpc_port") as grpc_port:

        def work(post: Post) -> None:
            share_between_processes(post.folder, post.number)
            metrics = Metrics(folder=post.folder)
            if post.replaces:
                metrics.count_restart()

            def ready(addresses: Addresses) -> None:
                post.report(addresses.bundle_version)

            uvloop.run(_serve(settings, metrics, rest_socket, grpc_port, ready, orphaned=post.alive))

        workers = Workers(settings.workers, work, drain_seconds=settings.drain_seconds)
        rest_port = rest_socket.getsockname()[1]
        workers.run(
            lambda version: announce(Addresses(version, settings.host, rest_port, grpc_port)),
            stopping=rest_socket.close,  # the workers have it too: theirs alone decide how long it stays open
        )


async def _serve(
    settings: Settings,
    metrics: Metrics,
    rest_socket: socket.socket,
    grpc_port: int,
    announce: Callable[[Addresses], None],
    *,
    orphaned: int | None = None,
) -> None:
    """One process's whole service. `orphaned` can be read from once the parent is gone: it then ends as if told to."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if orphaned is not None:
        loop.add_reader(orphaned, stop.set)
    async with open_service(settings, metrics) as service:
        gc.collect()
        gc.freeze()  # what was opened stays: looking through it for garbage took tens of milliseconds now and then
        if not stop.is_set():
            await answer(service, rest_socket, grpc_port, stop, announce)
    if orphaned is not None:
        loop.remove_reader(orphaned)


async def answer(
    service: Service,
    rest_socket: socket.socket,
    grpc_port: int,
    stop: asyncio.Event,
    announce: Callable[[Addresses], None],
) -> None:
    """Answer on both ports until `stop` is set and what was in flight is done, at the latest after `drain_seconds`."""
    settings = service.settings
    rpc = _rpc_server(service)
    grpc_port = _bind_rpc(rpc, settings.host, grpc_port)
    await rpc.start()
    rest = _RestServer(_rest_config(service))
    answering = asyncio.create_task(rest.serve(sockets=[rest_socket]))
    announce(Addresses(service.version, settings.host, rest_socket.getsockname()[1], grpc_port))
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
    app = build_app(service.engines, service.admin, service.metrics, service.ready)
    return uvicorn.Config(
        app,
        http=BoundedHttp,
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
        service.engines,
        service.admin,
        service.metrics,
        service.ready,
        with_reflection=service.settings.grpc_reflection,
        share_port=service.settings.workers > 1,
    )


def _bind_rpc(rpc: RpcServer, host: str, port: int) -> int:
    try:
        return rpc.listen(host, port)
    except RuntimeError as error:  # taken since it was probed
        raise port_busy(host, port, "grpc_port") from error


async def _first(stop: asyncio.Event, answering: asyncio.Task[None]) -> None:
    """Wait for the stop; a REST server that ends by itself raises its error here."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({stopping, answering}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if answering.done():
        answering.result()
