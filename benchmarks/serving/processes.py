"""Servers of a benchmark, each a process on one core, and what memory they take."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

SMAPS = ("Pss", "Private_Clean", "Private_Dirty", "Rss", "Shared_Clean", "Shared_Dirty")


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Servers:
    """Started one after another, all of them until `close`."""

    def __init__(self, folder: Path, *, core: int | None) -> None:
        """`folder` takes answers and logs; `core` is the one that all of them share, None for no such bound."""
        self._folder = folder
        self._core = core
        self._ports: dict[str, int] = {}
        self._running: list[subprocess.Popen[bytes]] = []
        self._pids: dict[str, int] = {}

    def port(self, name: str) -> int:
        """The port of a server."""
        return self._ports[name]

    def cpu_seconds(self, name: str) -> float:
        """Processor time that the process behind a port has had so far, all its threads."""
        tasks = Path(f"/proc/{self._pids[name]}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def service(self, bundles: Path, *more: str) -> int:
        """Start the service itself, as `rest` and `grpc`; returns its process id."""
        self._ports |= {"rest": free_port(), "grpc": free_port()}
        command = [sys.executable, "-m", "service", "--bundles", str(bundles)]
        command += ["--events-dir", str(self._folder / "events"), "--state-dir", str(self._folder / "state")]
        command += ["--rest-port", str(self.port("rest")), "--grpc-port", str(self.port("grpc"))]
        command += ["--cache-ttl-seconds", "3600", *more]
        pid = self._start(command, "grpc")
        self._pids["rest"] = pid
        return pid

    def bare(self, body: bytes, message: bytes) -> None:
        """Start what answers with constant bytes: a body of JSON, a serialized message."""
        answers = {"json": body, "message": message}
        for name, content in answers.items():
            (self._folder / name).write_bytes(content)
        for kind, name, answer in (
            ("fastapi", "fastapi", "json"),
            ("http-ceiling", "http-ceiling", "json"),
            ("grpc", "grpc-bare", "message"),
            ("grpc-ceiling", "grpc-ceiling", "message"),
        ):
            self._ports[name] = free_port()
            command = [sys.executable, "-m", "benchmarks.serving.bare", kind, str(self._ports[name])]
            self._start([*command, str(self._folder / answer)], name)

    def close(self) -> None:
        """End them all."""
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

    def _start(self, command: Sequence[str], port: str) -> int:
        pinned = ["taskset", "-c", str(self._core), *command] if self._core is not None else list(command)
        process = subprocess.Popen(pinned, env={**os.environ, "OMP_NUM_THREADS": "1"})
        self._running.append(process)
        self._pids[port] = process.pid
        deadline = time.monotonic() + 180
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port(port)), timeout=1).close()
                return process.pid
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{' '.join(command)} did not come up") from None
                time.sleep(0.2)


def memory_mib(pid: int) -> dict[str, float]:
    """What a process takes, in MiB: its proportional share (pss), and what it has alone (uss)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kib = {name: int(found[1]) for name in SMAPS if (found := re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE))}
    return {
        "pss": kib["Pss"] / 1024,
        "uss": (kib["Private_Clean"] + kib["Private_Dirty"]) / 1024,
        "dirty": kib["Private_Dirty"] / 1024,
        "rss": kib["Rss"] / 1024,
    }


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
