"""How a bundle on disk becomes a generation that can serve, without the event loop waiting; and which were refused."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from service.bundle.store import CURRENT, versions
from service.errors import BundleError, BundleMissingError

log = logging.getLogger(__name__)

RETRY_S = 60.0
"""Seconds after which a refused bundle may be tried once more; sooner where its folder or CURRENT has changed."""


class Versioned(Protocol):
    """What a generation is to those who move it: the bundle's version, and nothing else."""

    @property
    def version(self) -> str:
        """The bundle's version."""
        ...


G = TypeVar("G", bound=Versioned)


@dataclass(frozen=True, slots=True)
class _Refusal:
    stamp: tuple[int, ...]
    until: float
    what: str  # not the error: its traceback would keep half a generation alive


class Loader(Generic[G]):
    """Opens the bundles of one folder. Not to be called for the same version twice at once."""

    def __init__(
        self,
        root: Path,
        load: Callable[[Path], G],
        prepare: Callable[[G], Awaitable[None]],
        refused: Callable[[str], None],
    ) -> None:
        """`load(folder)` verifies, maps and warms up, or raises BundleError; it runs in a thread.

        `prepare` is awaited before a generation is handed out; `refused(version)` is told of each that cannot be.
        """
        self._root = root
        self._load = load
        self._prepare = prepare
        self._refused = refused
        self._refusals: dict[str, _Refusal] = {}

    async def load(self, version: str) -> G:
        """A new generation of `version`, ready to serve. Raises BundleError, and remembers that it did."""
        stamp = await asyncio.to_thread(self._stamp, version)
        started = time.monotonic()
        try:
            generation = await asyncio.to_thread(self._opened, version)
            await self._prepare(generation)
        except BundleError as error:
            self._refusals[version] = _Refusal(stamp, time.monotonic() + RETRY_S, str(error))
            self._refused(version)
            log.error("a bundle is refused: %s", error)
            raise
        self._refusals.pop(version, None)
        log.info("bundle %s is loaded and warm after %.1f s", version, time.monotonic() - started)
        return generation

    async def is_refused(self, version: str) -> bool:
        """Whether it was refused lately and nothing has changed since."""
        refusal = self._refusals.get(version)
        if refusal is None or time.monotonic() > refusal.until:
            return False
        return refusal.stamp == await asyncio.to_thread(self._stamp, version)

    def refusals(self) -> list[str]:
        """A sentence for each version that could not be loaded."""
        return [f"refused {version}: {refusal.what}" for version, refusal in self._refusals.items()]

    def refuses(self, error: BundleError) -> bool:
        """Whether `error` is one of those `refusals`."""
        return any(refusal.what == str(error) for refusal in self._refusals.values())

    def forget_all_but(self, wanted: Collection[str]) -> None:
        """Only what the folder asks for is worth a word."""
        self._refusals = {version: refusal for version, refusal in self._refusals.items() if version in wanted}

    def _opened(self, version: str) -> G:
        if version not in versions(self._root):
            raise BundleMissingError(
                f"there is no bundle {version[:200]!r}", where=str(self._root), todo="Publish or copy it there"
            )
        return self._load(self._root / version)

    def _stamp(self, version: str) -> tuple[int, ...]:
        """Changes when the bundle is repaired or CURRENT is written again."""
        stamp = []
        for path in (self._root / CURRENT, self._root / version, self._root / version / "manifest.json"):
            try:
                status = path.stat()
                stamp += [status.st_ino, status.st_mtime_ns]
            except OSError:
                stamp += [0, 0]
        return tuple(stamp)
