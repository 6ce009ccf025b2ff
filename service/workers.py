"""Several processes on the same two ports: a parent that forks them, starts another where one dies, and ends them all.

The parent imports what the workers need and does nothing else: it runs no thread, no event loop and no gRPC, so that it
can fork at any time, and what it imported is shared memory. Each worker opens the bundle for itself; the pages of its
tables and its index are shared through the page cache.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import selectors
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from service.errors import PlotPointeError
from service.metrics import worker_died

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 30.0
"""Seconds before another worker is started in place of one that died: doubled with each death, up to this."""
SOUND_AFTER_S = 60.0
"""A worker that lived for so many seconds did not die of its start."""
OVERTIME_S = 10.0
"""Seconds that a worker gets to end, beyond those it has for its requests, before it is killed."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


@dataclass(frozen=True, slots=True)
class Post:
    """What a worker is told by its parent."""

    number: int
    """From 0; who takes a dead worker's place has its number."""
    folder: Path
    """Where the workers' metrics add up."""
    replaces: bool
    """Whether it stands in for one that died."""
    alive: int
    """A descriptor that can be read from once the parent is gone."""
    report: Callable[[str], None]
    """To be called with the served version once both ports answer."""


@dataclass(slots=True)
class _Place:
    """One of the workers, over all its lives."""

    number: int
    pid: int = 0
    """0 where none runs now."""
    begun: float = 0.0
    deaths: int = 0
    due: float = 0.0
    """When to start the next one, in monotonic seconds."""
    ready: bool = False
    version: str = ""
    pipe: int = -1
    said: bytes = field(default=b"")


class Workers:
    """Runs `work` in `count` forked processes until a signal. Made and run once, in a process without threads."""

    def __init__(self, count: int, work: Callable[[Post], None], *, drain_seconds: float) -> None:
        """`work` returns when its worker was told to stop and has drained; PlotPointeError where it cannot start."""
        self._work = work
        self._patience = drain_seconds + OVERTIME_S
        self._places = [_Place(number) for number in range(count)]
        self._selector = selectors.DefaultSelector()
        self._stopping_since: float | None = None
        self._stopping: Callable[[], None] = lambda: None
        self._failure = ""
        self._announced = False

    def run(self, announce: Callable[[str], None], stopping: Callable[[], None]) -> None:
        """Until SIGTERM or SIGINT, and every worker has ended.

        `announce(version)` is called once when all are ready, `stopping()` before they are told to end.
        Raises PlotPointeError where the first workers cannot start, or one had to be killed in the end.
        """
        self._stopping = stopping
        gc.collect()
        gc.freeze()  # what is there now is never collected, so that collections do not copy shared pages
        with _metrics_folder() as folder, _signals() as woken, _lifeline() as (alive, alive_here):
            self._selector.register(woken, selectors.EVENT_READ)
            while not self._over():
                for place in self._places:
                    if self._stopping_since is None and not place.pid and time.monotonic() >= place.due:
                        self._start(place, folder, alive, alive_here)
                self._wait(woken)
                self._reap(folder)
                if not self._announced and all(place.ready for place in self._places):
                    self._announced = True
                    announce(self._places[0].version)
        if self._failure:
            raise PlotPointeError(self._failure)

    def stop(self) -> None:
        """Ask every worker to drain and end."""
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
            self._stopping()
            self._signal_all(signal.SIGTERM)

    def _over(self) -> bool:
        return self._stopping_since is not None and not any(place.pid for place in self._places)

    def _start(self, place: _Place, folder: Path, alive: int, alive_here: int) -> None:
        readable, writable = os.pipe()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if not pid:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.close(readable)
            os.close(alive_here)
            self._selector.close()
            self._live(Post(place.number, folder, place.deaths > 0, alive, _reporter(writable)), writable)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(writable)
        place.pid, place.pipe, place.begun, place.ready, place.said = pid, readable, time.monotonic(), False, b""
        self._selector.register(readable, selectors.EVENT_READ, place)

    def _live(self, post: Post, writable: int) -> NoReturn:
        """The worker's whole life. Ends the process here, whatever happens: nothing of the parent goes on in it."""
        code = 1
        try:
            self._work(post)
            code = 0
        except PlotPointeError as error:
            os.write(writable, json.dumps({"error": str(error)}).encode())
            code = 2
        except KeyboardInterrupt:
            code = 130
        except BaseException:
            log.critical("worker %d failed", post.number, exc_info=True)
            raise
        finally:
            logging.shutdown()
            sys.stdout.flush()
            os._exit(code)

    def _wait(self, woken: int) -> None:
        """For a word of a worker, a signal, or the time to start one."""
        for key, _ in self._selector.select(self._pause()):
            if key.fd == woken:
                numbers = os.read(woken, 1024)
                if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                    self.stop()
            else:
                self._hear(key.data)

    def _pause(self) -> float | None:
        if self._stopping_since is not None:
            return 0.2
        due = [place.due for place in self._places if not place.pid]
        return max(min(due) - time.monotonic(), 0.0) if due else None

    def _hear(self, place: _Place) -> None:
        said = os.read(place.pipe, 65_536)
        place.said += said
        if not said:
            self._selector.unregister(place.pipe)
            os.close(place.pipe)
            place.pipe = -1
        elif place.said.endswith(b"\n"):
            place.ready, place.version, place.said = True, json.loads(place.said)["version"], b""

    def _reap(self, folder: Path) -> None:
        for place in self._places:
            if not place.pid:
                continue
            pid, status = os.waitpid(place.pid, os.WNOHANG)
            if pid:
                while place.pipe >= 0:
                    self._hear(place)
                place.pid = 0
                worker_died(folder, place.number)
                self._ended(place, os.waitstatus_to_exitcode(status))
        if self._stopping_since is not None and time.monotonic() > self._stopping_since + self._patience:
            self._failure = self._failure or "workers did not end in time and were killed"
            self._signal_all(signal.SIGKILL)

    def _ended(self, place: _Place, code: int) -> None:
        """Decide what follows the end of a worker."""
        if self._stopping_since is not None:
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        if not self._announced and not place.ready:
            self._failure = _error_in(place.said) or f"worker {place.number} {how} before it was ready"
            self.stop()
            return
        place.deaths = 1 if time.monotonic() - place.begun > SOUND_AFTER_S else place.deaths + 1
        pause = min(FIRST_PAUSE_S * 2 ** (place.deaths - 1), LONGEST_PAUSE_S)
        place.due = time.monotonic() + pause
        log.error("worker %d %s; another is started in %.1f s %s", place.number, how, pause, _error_in(place.said))

    def _signal_all(self, number: signal.Signals) -> None:
        for place in self._places:
            if place.pid:
                os.kill(place.pid, number)


def _reporter(writable: int) -> Callable[[str], None]:
    return lambda version: _write(writable, json.dumps({"version": version}) + "\n")


def _write(descriptor: int, text: str) -> None:
    os.write(descriptor, text.encode())


def _error_in(said: bytes) -> str:
    """What a worker reported before it ended; empty where it was no error."""
    try:
        error: str = json.loads(said).get("error", "")
    except ValueError:
        return ""
    return error


@contextlib.contextmanager
def _metrics_folder() -> Iterator[Path]:
    """A private folder that is new with every start, so that nothing of an earlier one is counted."""
    folder = Path(tempfile.mkdtemp(prefix="plotpointe-metrics-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _lifeline() -> Iterator[tuple[int, int]]:
    """A pipe that nobody writes to: its reading end tells a worker when the last holder of the other is gone."""
    readable, writable = os.pipe()
    try:
        yield readable, writable
    finally:
        os.close(readable)
        os.close(writable)


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """A descriptor from which the numbers of the signals that arrive can be read."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    woken = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    try:
        yield readable
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(readable)
        os.close(writable)
