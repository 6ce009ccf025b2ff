"""All steps in order, each a process of its own: its peak memory is its own, and a crash takes nothing else with it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console

from offline_jobs.steps import STEPS, Line, Step, status_lines, table
from service.bundle.store import active_version, versions
from service.errors import BundleMissingError, DataError, InputError, StageError

POLL_S = 0.02
GRACE_S = 1.0
"""Ctrl-C in a terminal reaches the running step by itself; only after so many seconds is it told again."""

Options = Mapping[str, Sequence[str]]
"""Command -> flags that it gets beside its folders."""


def run_pipeline(options: Options, data: Path, work: Path, bundles: Path) -> str:
    """Run every step that is not done already and print a table of them; returns the active bundle's version.

    Raises StageError where a step fails, KeyboardInterrupt on SIGINT and SystemExit(143) on SIGTERM, after the running
    step has ended.
    """
    if not data.exists():
        raise DataError("no such file or folder", where=str(data), todo="Check --data")
    lines: list[Line] = []
    try:
        for step in STEPS:
            lines.append(
                _run(step, [*_folders(step, data, work, bundles), *options.get(step.command, ())], work, bundles)
            )
    finally:
        if lines:
            Console(file=sys.stdout).print(table(lines, f"{data} > {bundles}"))
    return active_version(bundles)


def print_status(work: Path) -> None:
    """Print how far a work folder is: each stage with the seconds and the peak memory of its last run."""
    if not work.is_dir():
        raise InputError("no such folder", where=str(work), todo="Check --work")
    Console(file=sys.stdout).print(table(status_lines(work), str(work)))


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
                f"{pair!r} is not COMMAND.FLAG=VALUE", where="--set", todo="For example --set fit.max-epochs=10"
            )
        flag = f"--{field.replace('_', '-')}"
        options.setdefault(command, []).append(flag if value == "true" else f"{flag}={value}")
    return options


def _folders(step: Step, data: Path, work: Path, bundles: Path) -> list[str]:
    flags = ["--work", str(work)]
    if step.reads_data:
        flags += ["--data", str(data)]
    if step.stage is None:
        flags += ["--bundles", str(bundles)]
    return flags


def _run(step: Step, flags: Sequence[str], work: Path, bundles: Path) -> Line:
    """Run one step to its end; StageError where it fails. Its own words go where ours go."""
    command = [sys.executable, "-m", step.module, step.command, *flags]
    print(f"$ {shlex.join(['python', *command[1:]])}", flush=True)
    before = _made(step, work, bundles)
    started = time.monotonic()
    process = subprocess.Popen(command)
    with _passing_signals_on(process) as asked:
        status, peak_mib = _wait(process, asked)
    seconds = time.monotonic() - started
    if asked:
        raise KeyboardInterrupt if asked[0] == signal.SIGINT else SystemExit(128 + asked[0])
    if status != 0:
        raise StageError(
            f"step '{step.command}' ended with "
            + (f"status {status}" if status > 0 else signal.strsignal(-status) or ""),
            where=str(work),
            todo="Its own message stands above. Run the same command again to go on from there",
        )
    skipped = _made(step, work, bundles) == before
    return Line(step.command, seconds, peak_mib, "skipped: nothing has changed" if skipped else "ran")


def _made(step: Step, work: Path, bundles: Path) -> object:
    """What changes when the step does something: its stage's record, or the bundles and which is active."""
    if step.stage is None:
        try:
            return versions(bundles), active_version(bundles)
        except BundleMissingError:
            return versions(bundles), None
    try:
        found = (work / step.stage / "stage.json").stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


@contextmanager
def _passing_signals_on(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM in the list given out, instead of ending this process; SIGTERM goes on at once."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if number == signal.SIGTERM:
            process.send_signal(number)

    earlier = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _wait(process: subprocess.Popen[bytes], asked: Sequence[int]) -> tuple[int, float]:
    """Exit status and peak resident MiB of a child and of what it waited for."""
    tell_again = None
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage.ru_maxrss / 1024
        if asked and tell_again is None:
            tell_again = time.monotonic() + GRACE_S
        if tell_again is not None and time.monotonic() > tell_again:
            process.send_signal(asked[-1])
            tell_again = time.monotonic() + GRACE_S
        time.sleep(POLL_S)
