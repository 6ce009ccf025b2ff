"""All steps, each a process of its own: what is done already is skipped, what is independent runs side by side."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console

from offline_jobs.schedule import Start, ready, starts
from offline_jobs.status import Line, table
from offline_jobs.step_process import StepProcess, begin
from offline_jobs.steps import Step, chosen
from service.bundle.store import active_version, versions
from service.errors import BundleMissingError, DataError, InputError, StageError
from training.stage import read_record

POLL_S = 0.02
GRACE_S = 1.0
"""Ctrl-C in a terminal reaches the running steps by itself; only after so many seconds are they told again."""

Options = Mapping[str, Sequence[str]]
"""Command -> flags that it gets beside its folders."""


def run_pipeline(
    options: Options,
    data: Path,
    work: Path,
    bundles: Path,
    *,
    at_most: int = 0,
    asked: Collection[str] = (),
    until: str | None = None,
) -> None:
    """Run every step that is not done already and print a table of them.

    `at_most` steps at once (0: as many as there are cores); of the optional steps those of `asked`; with `until` only
    that step and what it needs. Raises StageError where a step fails, after those that run beside it have ended,
    KeyboardInterrupt on SIGINT and SystemExit(143) on SIGTERM.
    """
    if not data.exists():
        raise DataError("no such file or folder", where=str(data), todo="Check --data")
    began = time.monotonic()
    run = _Run(options, data, work, bundles, at_most or len(os.sched_getaffinity(0)), chosen(asked, until))
    try:
        run.all()
    finally:
        if run.lines:
            order = {step.command: at for at, step in enumerate(run.steps)}
            lines = sorted(run.lines, key=lambda line: order[line.command])
            made = table(lines, f"{data} > {bundles}", time.monotonic() - began)
            Console(file=sys.stdout).print(made)


def options_of(pairs: Sequence[str]) -> dict[str, list[str]]:
    """`["fuse.epochs=3"]` as `{"fuse": ["--epochs=3"]}`; `publish.force=true` as a flag without a value.

    Raises InputError where a pair is not COMMAND.FLAG=VALUE.
    """
    options: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        command, dot, field = name.partition(".")
        if not (equals and dot and command and field):
            raise InputError(
                f"{pair!r} is not COMMAND.FLAG=VALUE", where="--set", todo="For example --set fit-model.max-epochs=10"
            )
        flag = f"--{field.replace('_', '-')}"
        options.setdefault(command, []).append(flag if value == "true" else f"{flag}={value}")
    return options


class _Run:
    """One run: which steps wait, which are busy, and what became of the others."""

    def __init__(
        self, options: Options, data: Path, work: Path, bundles: Path, at_most: int, steps: Sequence[Step]
    ) -> None:
        self.options, self.data, self.work, self.bundles = options, data, work, bundles
        self.at_most = at_most
        self.steps = tuple(steps)
        self.waiting = list(steps)
        self.busy: list[StepProcess] = []
        self.finished: set[str] = set()
        self.lines: list[Line] = []
        self.failure: StageError | None = None

    def all(self) -> None:
        """Start what can start and wait for what runs, until nothing is left or something has failed."""
        cores = frozenset(os.sched_getaffinity(0))
        made_here = {step.stage for step in self.steps}
        with _ending_all(self.busy), _passing_signals_on(self.busy) as asked:
            while self.busy or (self.waiting and self.failure is None and not asked):
                if self.failure is None and not asked:
                    able = ready(self.waiting, self.finished, made_here)
                    for start in starts(able, [running.start for running in self.busy], cores, self.at_most):
                        self._begin(start)
                self._reap(asked)
                if self.busy:
                    time.sleep(POLL_S)
                    _tell_again(self.busy, asked)
        if asked:
            raise KeyboardInterrupt if asked[0][0] == signal.SIGINT else SystemExit(128 + asked[0][0])
        if self.failure is not None:
            raise self.failure

    def _begin(self, start: Start) -> None:
        step = start.step
        self.waiting.remove(step)
        flags = [*self._folders(step), *self.options.get(step.command, ())]
        terminal = not any(running.terminal for running in self.busy)
        self.busy.append(begin(start, flags, terminal=terminal, before=self._made(step)))

    def _reap(self, asked: Sequence[object]) -> None:
        for running in list(self.busy):
            ended = running.ended()
            if ended is None:
                continue
            self.busy.remove(running)
            status, peak_mib = ended
            step = running.step
            if status == 0:
                if step.stage is not None:
                    self.finished.add(step.stage)
                skipped = self._made(step) == running.before
                state = "skipped: nothing has changed" if skipped else "ran"
                peak = None if skipped else self._peak_mib(step, peak_mib)
                self.lines.append(Line(step.command, running.seconds, peak, state))
            elif not asked:
                self._fail(step, status)

    def _peak_mib(self, step: Step, of_process: float) -> float:
        """As the stage has recorded it: the system counts a process at no less than what started it had then."""
        record = None if step.stage is None else read_record(self.work / step.stage)
        return of_process if record is None else record.peak_rss_mib

    def _fail(self, step: Step, status: int) -> None:
        how = f"status {status}" if status > 0 else signal.strsignal(-status) or f"signal {-status}"
        self.failure = self.failure or StageError(
            f"step '{step.command}' ended with {how}",
            where=str(self.work),
            todo="Its own message stands above. Run the same command again to go on from there",
        )
        if self.busy:
            others = ", ".join(running.step.command for running in self.busy)
            print(f"step '{step.command}' has failed; waiting for {others} to end (Ctrl-C stops)", file=sys.stderr)

    def _folders(self, step: Step) -> list[str]:
        flags = ["--work", str(self.work)]
        if step.reads_data:
            flags += ["--data", str(self.data)]
        if step.stage is None:
            flags += ["--bundles", str(self.bundles)]
        return flags

    def _made(self, step: Step) -> object:
        """What changes when the step does something: its stage's record, or the bundles and which is active."""
        if step.stage is None:
            try:
                return versions(self.bundles), active_version(self.bundles)
            except BundleMissingError:
                return versions(self.bundles), None
        try:
            found = (self.work / step.stage / "stage.json").stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns


@contextmanager
def _ending_all(busy: Sequence[StepProcess]) -> Iterator[None]:
    """Leave no step behind, whatever goes wrong here."""
    try:
        yield
    finally:
        for running in busy:
            running.process.terminate()


@contextmanager
def _passing_signals_on(busy: Sequence[StepProcess]) -> Iterator[list[tuple[int, float]]]:
    """Note SIGINT and SIGTERM, and when, in the list given out instead of ending here; SIGTERM is passed on at once."""
    asked: list[tuple[int, float]] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append((number, time.monotonic()))
        if number == signal.SIGTERM:
            for running in busy:
                running.process.send_signal(number)

    earlier = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _tell_again(busy: Sequence[StepProcess], asked: list[tuple[int, float]]) -> None:
    """Pass the last signal on to what still runs a while after it came, and again after as long."""
    if asked and time.monotonic() > asked[-1][1] + GRACE_S:
        number = asked[-1][0]
        asked[-1] = (number, time.monotonic())
        for running in busy:
            running.process.send_signal(number)
