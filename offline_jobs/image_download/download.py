"""The run: every URL asked for when it is its host's turn, again where that may help, until each has an outcome."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from yarl import URL

from offline_jobs.image_download.addresses import Policy, RefusedAddressError
from offline_jobs.image_download.client import Ending, ImageClient, Lookup, system_lookup
from offline_jobs.image_download.journal import Outcome
from offline_jobs.image_download.politeness import Schedule
from offline_jobs.image_download.settings import FetchImagesSettings
from offline_jobs.image_download.verify import NotAnImageError, keep, open_store

Note = Callable[[str, Outcome], None]
"""Called once for each URL, with its outcome."""

VERIFIERS = 2
"""Threads that decode and write images: more only contend with the loop for the interpreter."""


@dataclass(slots=True)
class _Job:
    """One URL on its way."""

    text: str
    """As the item names it."""
    first: URL
    url: URL
    """What is asked next: the first, or where a redirect leads."""
    attempts: int = 0
    redirects: int = 0

    @property
    def host(self) -> str:
        return self.url.host or ""


async def download(
    urls: Iterable[str], store: Path, settings: FetchImagesSettings, note: Note, lookup: Lookup = system_lookup
) -> None:
    """Fetch every URL into `store` and note its outcome. Bounded memory: `settings.concurrency` bodies at most."""
    open_store(store)
    with ThreadPoolExecutor(VERIFIERS, "verify-image") as threads:
        policy = Policy.of(settings)
        async with ImageClient(settings, policy, lookup) as client:
            run = _Run(store, settings, policy, note, client, threads)
            run.add(urls)
            await run.all()


class _Run:
    def __init__(
        self,
        store: Path,
        settings: FetchImagesSettings,
        policy: Policy,
        note: Note,
        client: ImageClient,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._store, self._settings, self._policy, self._note = store, settings, policy, note
        self._client, self._threads = client, threads
        self._schedule: Schedule[_Job] = Schedule(settings.concurrency_per_host, settings.requests_per_second)
        self._running: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._error: BaseException | None = None
        self._deadline = None if settings.total_timeout_s is None else time.monotonic() + settings.total_timeout_s

    def add(self, urls: Iterable[str]) -> None:
        """Queue every URL; one that its text forbids is refused at once."""
        now = time.monotonic()
        for text in urls:
            try:
                url = self._policy.check_url(text)
            except RefusedAddressError as error:
                self._note(text, Outcome("refused", error.reason, attempts=0))
            else:
                job = _Job(text, url, url)
                self._schedule.add(job, job.host, now)

    async def all(self) -> None:
        """Start what may start and wait, until nothing is left. Raises what a task raised, with the others ended."""
        try:
            while self._error is None:
                self._start()
                wakes = self._schedule.wakes_at()
                if not self._running and wakes is None:
                    break
                if len(self._running) >= self._settings.concurrency:
                    wakes = None
                if not await self._sleep(wakes):
                    break
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
        if self._error is not None:
            raise self._error

    def _start(self) -> None:
        self._wake.clear()
        now = time.monotonic()
        while len(self._running) < self._settings.concurrency:
            job = self._schedule.take(now)
            if job is None:
                return
            task = asyncio.create_task(self._attempt(job))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._error = self._error or task.exception()
        self._wake.set()

    async def _sleep(self, wakes: float | None) -> bool:
        """Wait for a task to end or a turn to come; False, everything noted, where the run's time is up."""
        until = [moment for moment in (wakes, self._deadline) if moment is not None]
        try:
            async with asyncio.timeout_at(_loop_time(min(until)) if until else None):
                await self._wake.wait()
        except TimeoutError:
            pass
        if self._deadline is None or time.monotonic() < self._deadline:
            return True
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for job in self._schedule.drain():
            self._note(job.text, Outcome("failed", "the run's time was up", job.attempts))
        return False

    async def _attempt(self, job: _Job) -> None:
        """One request, and what follows from its end."""
        host = job.host
        job.attempts += job.redirects == 0
        try:
            self._follow(job, await self._verified(await self._client.get(job.url), job))
        except asyncio.CancelledError:
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._note(job.text, Outcome("failed", "the run's time was up", job.attempts))
            raise
        finally:
            self._schedule.done(host)

    async def _verified(self, ending: Ending, job: _Job) -> Ending | Outcome:
        """A body becomes an image on disk, in another thread; every other end stays as it is."""
        if ending.body is None:
            return ending
        loop, what = asyncio.get_running_loop(), (ending.body, self._store, self._settings.max_pixels)
        try:
            kept = await loop.run_in_executor(self._threads, keep, *what)
        except NotAnImageError as error:
            return Ending(reason=str(error))
        return Outcome("ok", None, job.attempts, kept.file, kept.sha256, kept.bytes, kept.width, kept.height)

    def _follow(self, job: _Job, ending: Ending | Outcome) -> None:
        if isinstance(ending, Outcome):
            self._note(job.text, ending)
        elif ending.location is not None:
            self._redirect(job, ending.location)
        elif ending.again and job.attempts < self._settings.attempts:
            self._again(job, ending)
        else:
            self._note(job.text, Outcome("failed" if ending.again else "refused", ending.reason, job.attempts))

    def _redirect(self, job: _Job, location: str) -> None:
        """On to where it leads, when it is that host's turn."""
        job.redirects += 1
        reason = None
        if job.redirects > self._settings.max_redirects:
            reason = "too many redirects"
        else:
            try:
                job.url = self._policy.check_url(str(job.url.join(URL(location))))
            except RefusedAddressError as error:
                reason = f"redirect: {error.reason}"
            except ValueError:
                reason = "redirect: not a valid URL"
        if reason is not None:
            self._note(job.text, Outcome("refused", reason, job.attempts))
        else:
            self._schedule.add(job, job.host, time.monotonic())

    def _again(self, job: _Job, ending: Ending) -> None:
        """Later, from the first address on; a host that says for how long is left alone for so long."""
        now = time.monotonic()
        wait = self._settings.backoff_s * 2 ** (job.attempts - 1) * random.uniform(0.5, 1.5)
        if ending.retry_after_s is not None:
            wait = max(wait, ending.retry_after_s)
            self._schedule.pause(job.host, now + min(wait, self._settings.max_wait_s))
        job.url, job.redirects = job.first, 0
        self._schedule.add(job, job.host, now, delay=min(wait, self._settings.max_wait_s))


def _loop_time(moment: float) -> float:
    """A moment of the monotonic clock on the running loop's clock."""
    return asyncio.get_running_loop().time() + moment - time.monotonic()
