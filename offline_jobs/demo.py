"""The demo: a shop's files in, a running service out, and three requests to try with their real answers."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from urllib.parse import quote

import numpy as np

from offline_jobs.pipeline import Options, run_pipeline
from service.bundle.files import load_array, load_ids
from service.bundle.store import active_version
from service.client import RecommendationClient
from service.errors import NotReadyError, PortBusyError, StageError

HOST = "127.0.0.1"
HOME = Path("var")
SAID = re.compile(r"serving bundle \S+: REST (http://\S+), gRPC (\S+) \(")
READY_WITHIN_S = 60.0
EVENTS_TO_SHOW = 8
"""The shopper of the first request has about so many purchases: enough to have a taste, few enough to read."""
NOBODY = "somebody-new"
SHOWN = 5


@dataclass(frozen=True)
class Places:
    """The folders of one demo."""

    data: Path | None
    """The shop's files; None where they are to be generated."""
    raw: Path
    """Where a generated shop goes."""
    work: Path
    bundles: Path
    events: Path
    state: Path

    @classmethod
    def of(cls, data: Path | None, work: Path | None, bundles: Path | None) -> Places:
        """Everything of one shop in one folder: `var/demo`, or `var/NAME` for data in a folder NAME."""
        if work is None:
            work = HOME / ("demo" if data is None else data.resolve().name) / "work"
        home = work.parent
        return cls(data, home / "raw", work, bundles or home / "bundles", home / "events", home / "state")


@dataclass(frozen=True)
class Service:
    """The running service."""

    process: subprocess.Popen[str]
    rest: str
    grpc: str


def run_demo(options: Options, places: Places, *, rest_port: int, grpc_port: int, once: bool) -> None:
    """Run every step, serve the bundle and show three requests; then serve on until SIGINT or SIGTERM, or end (`once`).

    Raises PortBusyError before anything is run, and StageError where a step fails or the service does not start.
    """
    for port, flag in ((rest_port, "--rest-port"), (grpc_port, "--grpc-port")):
        _check_free(port, flag)
    data = places.data
    if data is None:
        data = places.raw
        generate(options.get("generate", ()), data)
    run_pipeline(options, data, places.work, places.bundles)
    version = active_version(places.bundles)
    with serving(places, rest_port, grpc_port) as service:
        show(service, known_shopper(places.bundles / version))
        if not once:
            print(f"\nServing {service.rest} (REST, docs at {service.rest}/docs) and {service.grpc} (gRPC).")
            print("Ctrl-C stops.", flush=True)
            _serve_on(service)


def generate(flags: Sequence[str], out: Path) -> None:
    """Generate the demo's shop in a process of its own."""
    command = [sys.executable, "-m", "offline_jobs", "generate", "--out", str(out), *flags]
    print(f"$ {shlex.join(['python', *command[1:]])}", flush=True)
    status = subprocess.run(command, check=False).returncode
    if status != 0:
        raise StageError(
            f"generating the shop ended with status {status}", where=str(out), todo="See its message above"
        )


def known_shopper(bundle: Path) -> str:
    """The first shopper whose number of purchases is nearest to EVENTS_TO_SHOW."""
    purchases = np.diff(load_array(bundle, "history_offsets"))
    return load_ids(bundle, "user_ids")[int(np.argmin(np.abs(purchases - EVENTS_TO_SHOW)))]


@contextmanager
def serving(places: Places, rest_port: int, grpc_port: int) -> Iterator[Service]:
    """`plotpointe-serve` as a child that is ready; it is stopped at the end whatever happens."""
    command = [sys.executable, "-m", "service", "--host", HOST, "--log-level", "WARNING"]
    command += ["--rest-port", str(rest_port), "--grpc-port", str(grpc_port)]
    command += ["--bundles", str(places.bundles), "--events-dir", str(places.events), "--state-dir", str(places.state)]
    print(f"$ {shlex.join(['python', *command[1:]])}", flush=True)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = SAID.match(process.stdout.readline())
        if said is None:
            raise StageError(f"the service ended with status {process.wait()}", todo="Its own message stands above")
        service = Service(process, said[1], said[2])
        _wait_until_ready(service)
        yield service
    finally:
        _stop(process)


def show(service: Service, shopper: str) -> None:
    """Print three requests, each with its real answer."""
    for title, user in (("a shopper the bundle knows", shopper), ("a shopper nobody knows", NOBODY)):
        url = f"{service.rest}/recommend?user_id={quote(user, safe='')}&k={SHOWN}"
        print(f"\n# REST, {title}\n$ curl '{url}'")
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own service, by http
            print(json.dumps(json.load(answer), indent=2, ensure_ascii=False))
    code = (
        f"from service.client import RecommendationClient as C; "
        f"print(C({service.grpc!r}).recommend({shopper!r}, k={SHOWN}))"
    )
    print(f"\n# gRPC, the same shopper as in the first\n$ {shlex.join(['.venv/bin/python', '-c', code])}")
    with RecommendationClient(service.grpc, timeout_s=10) as client:
        print(client.recommend(shopper, k=SHOWN), flush=True)


def _serve_on(service: Service) -> None:
    """Wait for SIGINT or SIGTERM, or for the service to end by itself, which is an error."""
    asked = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        service.process.terminate()

    earlier = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = service.process.wait()
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
    if not asked:
        raise StageError(f"the service ended with status {status}", todo="Its own message stands above")
    print("stopped", flush=True)


def _stop(process: subprocess.Popen[str]) -> None:
    """SIGTERM, time to finish, then SIGKILL."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _wait_until_ready(service: Service) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{service.rest}/readyz", timeout=5):  # noqa: S310 - our own service, by http
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
    raise NotReadyError(f"the service is not ready after {READY_WITHIN_S:.0f} s", where=service.rest)


def _check_free(port: int, flag: str) -> None:
    """Hear of a busy port now, and not after all steps have run."""
    try:
        with socket.create_server((HOST, port)):
            pass
    except OSError as error:
        raise PortBusyError(
            f"port {port} on {HOST} cannot be had: {error.strerror}",
            where=flag,
            todo="End the process that has it, or choose another port (0 lets the system choose)",
        ) from error
