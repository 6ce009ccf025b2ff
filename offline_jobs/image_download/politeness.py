"""Whose turn it is: so many requests a host at once, so many a second, and none while a host asks to wait."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Job = TypeVar("Job")


@dataclass
class _Host(Generic[Job]):
    waiting: deque[Job] = field(default_factory=deque)
    running: int = 0
    free_at: float = 0.0
    """Time from which the next request may start."""
    offered: bool = False
    """Whether it stands in the queue of hosts; there it stands once."""


class Schedule(Generic[Job]):
    """Jobs by host. Times are seconds of one clock that the caller reads; nothing here waits."""

    def __init__(self, per_host: int, per_second: float) -> None:
        self._per_host = per_host
        self._apart = 1.0 / per_second if per_second else 0.0
        self._hosts: dict[str, _Host[Job]] = {}
        self._turns: list[tuple[float, int, str]] = []
        self._later: list[tuple[float, int, str, Job]] = []
        self._count = 0

    def add(self, job: Job, host: str, now: float, delay: float = 0.0) -> None:
        """Queue a job; with `delay`, not before so many seconds have passed."""
        self._count += 1
        if delay > 0:
            heapq.heappush(self._later, (now + delay, self._count, host, job))
            return
        self._hosts.setdefault(host, _Host()).waiting.append(job)
        self._offer(host)

    def take(self, now: float) -> Job | None:
        """The next job that may start now, counted as running; None where none may."""
        while self._later and self._later[0][0] <= now:
            _, _, name, job = heapq.heappop(self._later)
            self.add(job, name, now)
        while self._turns and self._turns[0][0] <= now:
            _, _, name = heapq.heappop(self._turns)
            host = self._hosts[name]
            host.offered = False
            if not host.waiting or host.running >= self._per_host:
                continue  # offered again by `add` or `done`
            if host.free_at > now:
                self._offer(name)
                continue
            host.running += 1
            host.free_at = max(host.free_at, now + self._apart)
            taken = host.waiting.popleft()
            self._offer(name)
            return taken
        return None

    def done(self, host: str) -> None:
        """One job of that host is no longer running."""
        self._hosts[host].running -= 1
        self._offer(host)

    def pause(self, host: str, until: float) -> None:
        """Start nothing of that host before `until`."""
        state = self._hosts.setdefault(host, _Host())
        state.free_at = max(state.free_at, until)

    def wakes_at(self) -> float | None:
        """The time at which `take` may next give a job without any being done; None where there is none."""
        times = [heap[0][0] for heap in (self._turns, self._later) if heap]
        return min(times, default=None)

    def drain(self) -> list[Job]:
        """Take out every job that has not been started."""
        jobs = [job for host in self._hosts.values() for job in host.waiting] + [entry[3] for entry in self._later]
        self._hosts = {name: _Host(running=host.running) for name, host in self._hosts.items()}
        self._turns, self._later = [], []
        return jobs

    def _offer(self, name: str) -> None:
        host = self._hosts[name]
        if host.waiting and host.running < self._per_host and not host.offered:
            host.offered = True
            self._count += 1
            heapq.heappush(self._turns, (host.free_at, self._count, name))
