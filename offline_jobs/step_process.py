"""One step as a process of its own: its peak memory is its own, and a crash takes nothing else with it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TextIO

from offline_jobs.schedule import Start
from offline_jobs.steps import Step

READERS_S = 5
"""A process that a step has left behind may hold its output open for so long, no longer."""


@dataclass
class StepProcess:
    """A running step. With `terminal` its words go where ours go, else each line has the step's name before it."""

    start: Start
    process: subprocess.Popen[bytes]
    terminal: bool
    began: float
    before: object
    """What the step would change, as it was at the start."""
    readers: list[threading.Thread] = field(default_factory=list)

    @property
    def step(self) -> Step:
        """Which step runs here."""
        return self.start.step

    @property
    def seconds(self) -> float:
        """Time since its start (s)."""
        return time.monotonic() - self.began

    def ended(self) -> tuple[int, float] | None:
        """Exit status and peak resident MiB of the process and of what it waited for; None while it runs."""
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if not pid:
            return None
        self.process.returncode = os.waitstatus_to_exitcode(status)
        for reader in self.readers:
            reader.join(timeout=READERS_S)
        return self.process.returncode, usage.ru_maxrss / 1024


def begin(start: Start, flags: Sequence[str], *, terminal: bool, before: object) -> StepProcess:
    """Start the step's command on its cores."""
    command = [sys.executable, "-m", start.step.module, start.step.command, *flags]
    print(f"$ {shlex.join(['python', *command[1:]])}", flush=True)
    pipe = None if terminal else subprocess.PIPE
    with _on_cores(start.cores):
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe)
    running = StepProcess(start, process, terminal, time.monotonic(), before)
    for source, target in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
        if source is not None:
            reader = threading.Thread(target=_pass_on, args=(source, target, start.step.command), daemon=True)
            reader.start()
            running.readers.append(reader)
    return running


def _pass_on(source: IO[bytes], target: TextIO, name: str) -> None:
    with source:
        for line in source:
            target.write(f"[{name}] {line.decode('utf-8', 'replace').rstrip()}\n")
            target.flush()


@contextmanager
def _on_cores(cores: frozenset[int] | None) -> Iterator[None]:
    """Let what is started inside inherit these cores: its libraries count them when they choose their threads."""
    if cores is None:
        yield
        return
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)
