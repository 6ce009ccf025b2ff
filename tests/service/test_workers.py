"""The parent of several workers, with real processes. What they serve: transports/test_workers_serving.py."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PARENT = """
import os, select, signal, sys, time
from service.errors import BundleMissingError, PlotPointeError
from service.logs import configure
from service import workers as module
from service.workers import Workers

log = open(sys.argv[1], "a", buffering=1)
mode = sys.argv[2]
stopped = []

def work(post):
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    log.write(f"{post.number} {os.getpid()} {post.replaces} {post.folder}\\n")
    if mode == "refused":
        raise BundleMissingError("there is no bundle", where="/nowhere")
    if mode == "crash" or (mode == "crash later" and post.replaces):
        os._exit(7)
    post.report(f"v{post.number}")
    while not stopped or mode == "stubborn":
        if select.select([post.alive], [], [], 0.02)[0]:
            log.write(f"{post.number} orphaned\\n")
            return
    time.sleep(0.2)
    log.write(f"{post.number} drained\\n")

configure("INFO")
if mode == "stubborn":
    module.OVERTIME_S = 0.5
workers = Workers(3, work, drain_seconds=0)
try:
    workers.run(lambda version: print("serving", version, flush=True), lambda: log.write("stopping\\n"))
except PlotPointeError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
"""


class Parent:
    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    def lines(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    def born(self) -> dict[int, list[int]]:
        """Number -> pids, in order."""
        found: dict[int, list[int]] = {}
        for line in self.lines():
            if match := re.match(r"(\d) (\d+) (True|False) ", line):
                found.setdefault(int(match[1]), []).append(int(match[2]))
        return found

    def announced(self) -> str:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], 20)[0]
        return self.process.stdout.readline()


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Callable[[str], Parent]]:
    with contextlib.ExitStack() as stack:

        def start(mode: str) -> Parent:
            command = [sys.executable, "-c", PARENT, str(tmp_path / "log"), mode]
            process = stack.enter_context(
                subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
            stack.callback(process.kill)
            return Parent(process, tmp_path / "log")

        yield start


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_parent_drains_every_worker(parent: Callable[[str], Parent], number: int) -> None:
    running = parent("well")
    assert running.announced() == "serving v0\n"
    born = running.born()
    assert sorted(born) == [0, 1, 2]
    folder = running.lines()[0].split()[-1]
    assert oct(Path(folder).stat().st_mode)[-3:] == "700"
    running.process.send_signal(number)
    output, complaints = running.process.communicate(timeout=15)
    assert running.process.returncode == 0, complaints
    assert output == ""
    assert sum("drained" in line for line in running.lines()) == 3
    assert running.lines().index("stopping") < min(n for n, line in enumerate(running.lines()) if "drained" in line)
    assert all(gone(pid) for pids in born.values() for pid in pids)
    assert not Path(folder).exists()


def test_a_worker_that_dies_is_replaced_under_its_number(parent: Callable[[str], Parent]) -> None:
    running = parent("well")
    running.announced()
    (victim,) = running.born()[1]
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(running.born()[1]) == 2)
    assert [len(pids) for _, pids in sorted(running.born().items())] == [1, 2, 1]
    assert re.search(r"^1 \d+ True ", "\n".join(running.lines()), re.MULTILINE)
    os.kill(running.born()[2][0], signal.SIGTERM)  # an operator ends one: it drains, and another comes
    until(lambda: len(running.born()[2]) == 2)
    running.process.terminate()
    _, complaints = running.process.communicate(timeout=15)
    assert running.process.returncode == 0
    assert "worker 1 was killed by SIGKILL; another is started in 0.1 s" in complaints
    assert "worker 2 ended with status 0" in complaints


def test_a_worker_that_keeps_dying_is_started_ever_more_rarely(parent: Callable[[str], Parent]) -> None:
    running = parent("crash later")
    running.announced()
    os.kill(running.born()[0][0], signal.SIGKILL)
    until(lambda: len(running.born()[0]) >= 4)
    running.process.terminate()
    _, complaints = running.process.communicate(timeout=15)
    assert running.process.returncode == 0
    pauses = [float(pause) for pause in re.findall(r"another is started in (\S+) s", complaints)]
    assert pauses[:3] == [0.1, 0.2, 0.4]


@pytest.mark.parametrize(
    ("mode", "words"), [("refused", "there is no bundle"), ("crash", "ended with status 7 before it was ready")]
)
def test_workers_that_cannot_start_end_the_parent_with_their_reason(
    parent: Callable[[str], Parent], mode: str, words: str
) -> None:
    running = parent(mode)
    output, complaints = running.process.communicate(timeout=15)
    assert (running.process.returncode, output) == (2, "")
    assert complaints.strip().splitlines()[-1].startswith("error: ")
    assert words in complaints.strip().splitlines()[-1]


def test_a_worker_that_does_not_end_is_killed_in_the_end(parent: Callable[[str], Parent]) -> None:
    running = parent("stubborn")
    running.announced()
    running.process.terminate()
    _, complaints = running.process.communicate(timeout=15)
    assert running.process.returncode == 2
    assert "were killed" in complaints


def test_workers_end_with_their_parent_though_it_was_killed(parent: Callable[[str], Parent]) -> None:
    running = parent("well")
    running.announced()
    running.process.kill()
    until(lambda: sum("orphaned" in line for line in running.lines()) == 3)
    until(lambda: all(gone(pid) for pids in running.born().values() for pid in pids))
