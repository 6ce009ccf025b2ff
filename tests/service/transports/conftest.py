"""The service on real ports: its own process over a planted bundle, or in this loop around a test's engine."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import grpc
import httpx
import pytest

from service import ports, serving
from service.admin import Admin
from service.bundle.manifest import Manifest
from service.bundle.store import active_version
from service.engine import Engines
from service.health import Readiness
from service.metrics import Metrics
from service.settings import Settings
from service.wiring import Service

LINE = re.compile(r"serving bundle (\S+): REST (http://\S+:\d+), gRPC (\S+:\d+) \(Ctrl-C stops\)\n")


@dataclass(frozen=True)
class Served:
    """A running service."""

    rest: str
    """Base URL."""
    grpc: str
    """Target of a channel."""
    version: str = ""
    process: subprocess.Popen[str] | None = None

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.rest + path, **options)


ADMIN_KEY = "a-key-of-the-tests"

Serve = Callable[..., AbstractContextManager[Served]]
Answering = Callable[..., AbstractAsyncContextManager[Served]]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PLOTPOINTE_")}
    return kept | {"PLOTPOINTE_ADMIN_KEY": ADMIN_KEY}


@pytest.fixture(scope="session")
def command() -> tuple[list[str], dict[str, str]]:
    """The command line and environment that run the service, without anything of the caller's settings."""
    return [sys.executable, "-m", "service"], environment()


@pytest.fixture(scope="session")
def serve(command: tuple[list[str], dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """`with serve("--flag", ...)`: the real process on free ports; it must end well on SIGTERM.

    Its state is its own, and it sheds nothing for being slow: the tests' machine is.
    """

    @contextmanager
    def start(*flags: str) -> Iterator[Served]:
        state = str(tmp_path_factory.mktemp("state"))
        usual = ("--rest-port", "0", "--grpc-port", "0", "--state-dir", state, "--max-queue-ms", "30000")
        process = subprocess.Popen(
            [*command[0], *usual, *flags],
            env=command[1],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with process:
            try:
                assert process.stdout is not None
                assert _says_something(process.stdout, 60), "the service did not say where it serves"
                line = LINE.fullmatch(process.stdout.readline())
                assert line
                yield Served(line[2], line[3], line[1], process)
                process.send_signal(signal.SIGTERM)
                assert process.wait(15) == 0
            finally:
                process.kill()

    return start


@pytest.fixture(scope="session")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the event log of `served`."""
    return tmp_path_factory.mktemp("events")


@pytest.fixture(scope="session")
def served(serve: Serve, bundle_root: Path, events: Path) -> Iterator[Served]:
    """The real process over the planted bundle, shared by tests that only ask."""
    with serve("--bundles", str(bundle_root), "--events-dir", str(events)) as running:
        yield running


def _says_something(stream: IO[str], seconds: float) -> bool:
    """Whether there is something to read in time. By `poll`: all tests hold more files than `select` can count."""
    waiting = select.poll()
    waiting.register(stream, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


def _load(name: str) -> ModuleType:
    """A helper beside this file: under importlib mode no test folder is on the import path."""
    spec = importlib.util.spec_from_file_location(f"tests_transports_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def wire() -> ModuleType:
    """The module `wire.py`: one form for what both transports answer."""
    return _load("wire")


@pytest.fixture(scope="session")
def both(served: Served, wire: ModuleType) -> Iterator[Any]:
    """A connection of each kind to `served`."""
    with grpc.insecure_channel(served.grpc) as channel, httpx.Client(base_url=served.rest, timeout=30) as http:
        yield wire.Both(http, channel)


@pytest.fixture(scope="session")
def admin_key() -> str:
    """The key that `served` knows."""
    return ADMIN_KEY


@pytest.fixture
def manifest(bundle_root: Path) -> Manifest:
    """Manifest of the planted bundle."""
    path = bundle_root / active_version(bundle_root) / "manifest.json"
    return Manifest.model_validate_json(path.read_bytes())


@pytest.fixture
def metrics() -> Metrics:
    """Metrics of the service in this loop."""
    return Metrics()


@pytest.fixture
def ready() -> Readiness:
    """Readiness of the service in this loop; serving."""
    readiness = Readiness()
    readiness.open("test")
    return readiness


@pytest.fixture
def answering(metrics: Metrics, ready: Readiness) -> Answering:
    """`async with answering(engine, stop)`: both transports around a test's engine, in this loop, on real ports.

    It ends at once where the test does not say how many seconds a drain may take.
    """

    @asynccontextmanager
    async def start(engine: Any, stop: asyncio.Event | None = None, **settings: Any) -> AsyncIterator[Served]:
        stop = stop or asyncio.Event()
        service = Service(
            Engines({"default": engine}),
            Admin({}, None),
            metrics,
            Settings.load(**{"drain_seconds": 0} | settings),
            ready,
            "test",
        )
        addresses: asyncio.Future[serving.Addresses] = asyncio.get_running_loop().create_future()
        with ports.listening("127.0.0.1", 0, "rest_port") as listener:
            running = asyncio.create_task(serving.answer(service, listener, 0, stop, addresses.set_result))
            where = await asyncio.wait_for(addresses, 10)
            yield Served(f"http://127.0.0.1:{where.rest_port}", f"127.0.0.1:{where.grpc_port}")
            stop.set()
            await running

    return start
