"""Bundles in motion: which generation answers whom, and how a new one takes over while requests are in flight.

A request asks `serving` once and keeps what it got to its end, so no answer is of two bundles. A generation that no
role holds any more is freed when the last request that uses it ends; a rollback opens it again from disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic

from service.bundle.store import activate, active_version, versions
from service.errors import BundleError, BundleMissingError, InvalidQueryError
from service.loader import G, Loader
from service.rollout import Part, Rollout, change_rollout, read_rollout, writing

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Share(Generic[G]):
    """A generation and its share, 0 to 1."""

    generation: G
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Roles(Generic[G]):
    """Who answers; replaced as a whole, so that no reader sees half of a change."""

    current: G
    canary: Share[G] | None = None
    """Answers a share of the shoppers in place of `current`."""
    shadow: Share[G] | None = None
    """Computes a share of the requests again, and shows nobody."""

    def loaded(self) -> dict[str, G]:
        """Version -> generation."""
        parts = (self.current, *(part.generation for part in (self.canary, self.shadow) if part is not None))
        return {generation.version: generation for generation in parts}

    def summary(self) -> tuple[str, tuple[str, float] | None, tuple[str, float] | None]:
        """Versions and shares of current, canary and shadow."""
        canary, shadow = (
            None if part is None else (part.generation.version, part.share) for part in (self.canary, self.shadow)
        )
        return self.current.version, canary, shadow


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the folder asks for."""

    current: str
    rollout: Rollout


class Generations(Generic[G]):
    """The loaded generations of one folder of bundles. `open` before anything else; `watch` follows the folder."""

    def __init__(self, root: Path, loader: Loader[G], changed: Callable[[Roles[G] | None, Roles[G]], None]) -> None:
        """`changed(before, after)` is told of every change of roles."""
        self._root = root
        self._loader = loader
        self._changed = changed
        self._changing = asyncio.Lock()
        self._roles: Roles[G] | None = None
        self._previous = ""
        self._trouble = ""

    @property
    def roles(self) -> Roles[G]:
        """Who answers now."""
        assert self._roles is not None, "open() comes first"
        return self._roles

    @property
    def current(self) -> G:
        """The generation that answers whoever is not in a canary."""
        return self.roles.current

    @property
    def previous(self) -> str:
        """The version that a rollback would activate; empty where there is none."""
        return self._previous

    @property
    def state(self) -> str:
        """`ok`, or what keeps the folder's wish from being served, in words."""
        return "; ".join(filter(None, (self._trouble, *self._loader.refusals()))) or "ok"

    def serving(self, user_id: str, version: str = "") -> G:
        """The generation for this shopper, always the same one while a canary lasts; or the loaded `version`.

        Raises BundleMissingError where `version` is not loaded. Shoppers without a name are never in a canary.
        """
        roles = self.roles
        if version:
            try:
                return roles.loaded()[version]
            except KeyError:
                raise BundleMissingError(
                    f"this version is not loaded: {version[:200]!r}",
                    where="bundle_version",
                    todo=f"Loaded: {', '.join(roles.loaded())}",
                ) from None
        canary = roles.canary
        if canary is not None and user_id and _place(canary.generation.version, user_id) < canary.share:
            return canary.generation
        return roles.current

    async def open(self) -> None:
        """Load what the folder asks for. BundleError where it is refused and no version that served before is left."""
        async with self._changing:
            wanted = await asyncio.to_thread(self._wanted)
            try:
                current = await self._fetched(wanted.current)
            except BundleError:
                last_good = wanted.rollout.serving
                if last_good in ("", wanted.current):
                    raise
                log.error("CURRENT is refused; going on with the version that served last: %s", last_good)
                current = await self._fetched(last_good)
            self._become(Roles(current))
            rollout = wanted.rollout
            self._previous = rollout.previous
            if rollout != Rollout():  # merely to serve leaves nothing behind: before a first change there is no file
                rollout = await self._record(current.version)
            await self._follow_parts(rollout)

    async def watch(self, seconds: float) -> None:
        """Look at the folder every `seconds` and follow it, until cancelled. Refusals are logged and not raised."""
        while True:
            await asyncio.sleep(seconds)
            try:
                async with self._changing:
                    await self._follow()
            except BundleError as error:
                self._troubled(error)
            except OSError as error:
                self._troubled(BundleError(f"the folder of bundles cannot be read ({error.strerror})"))

    async def activate(self, version: str) -> None:
        """Serve `version` from now on, here and in every process that follows the folder.

        Raises BundleError where it is refused; everything is then as it was.
        """
        async with self._changing:
            await self._activate(version)

    async def rollback(self) -> None:
        """Activate the version that served before. Raises BundleMissingError where there was none."""
        async with self._changing:
            if not self._previous:
                raise BundleMissingError(
                    "no version served before this one", where=str(self._root), todo="Activate a version by its name"
                )
            await self._activate(self._previous)

    async def set_canary(self, version: str, share: float) -> None:
        """Let `version` answer a share of the shoppers; a share of 0 ends the canary.

        Raises BundleError where it is refused, InvalidQueryError for a share that is none.
        """
        await self._set_part("canary", version, share)

    async def set_shadow(self, version: str, share: float) -> None:
        """Compute a share of the requests with `version` too; a share of 0 ends it. Raises as `set_canary` does."""
        await self._set_part("shadow", version, share)

    async def available(self) -> tuple[str, ...]:
        """The versions that lie in the folder, in name order."""
        return tuple(await asyncio.to_thread(versions, self._root))

    async def _activate(self, version: str) -> None:
        generation = await self._fetched(version)
        await asyncio.to_thread(self._name_current, version)
        self._become(replace(self.roles, current=generation))
        await self._follow_parts(await self._record(version))

    async def _follow(self) -> None:
        wanted = await asyncio.to_thread(self._wanted)
        self._trouble = ""
        if wanted.current != self.current.version and not await self._loader.is_refused(wanted.current):
            try:
                generation = await self._fetched(wanted.current)
            except BundleError:
                await self._record(self.current.version)  # for who starts while CURRENT is refused
                raise
            self._become(replace(self.roles, current=generation))
            wanted = _Wanted(wanted.current, await self._record(wanted.current))
        self._previous = wanted.rollout.previous or self._previous
        self._loader.forget_all_but(_named(wanted))
        await self._follow_parts(wanted.rollout)

    async def _follow_parts(self, rollout: Rollout) -> None:
        """Load and drop the canary and the shadow that the rollout names; one that is refused is done without."""
        canary = await self._part(rollout.canary)
        shadow = await self._part(rollout.shadow)
        self._become(replace(self.roles, canary=canary, shadow=shadow))

    async def _part(self, part: Part | None) -> Share[G] | None:
        if part is None or part.version == self.current.version:
            return None
        if part.version not in self.roles.loaded() and await self._loader.is_refused(part.version):
            return None
        try:
            return Share(await self._fetched(part.version), part.share)
        except BundleError as error:
            log.error("a canary or shadow is done without: %s", error)
            return None

    async def _set_part(self, role: str, version: str, share: float) -> None:
        if not 0 <= share <= 1:
            raise InvalidQueryError("the share must be a number from 0 to 1", where="share")
        async with self._changing:
            part = Part(version=version, share=share) if version and share else None
            if part is not None:
                if version == self.current.version:
                    raise InvalidQueryError("this version serves everyone already", where="version")
                await self._fetched(version)
            rollout = await asyncio.to_thread(
                change_rollout, self._root, lambda old: old.model_copy(update={role: part})
            )
            await self._follow_parts(rollout)

    async def _fetched(self, version: str) -> G:
        """The generation of `version`: the loaded one, or a new one, ready to serve. Raises BundleError."""
        if self._roles is not None and version in (loaded := self._roles.loaded()):
            return loaded[version]
        return await self._loader.load(version)

    def _become(self, roles: Roles[G]) -> None:
        """The swap: one assignment. Whoever asked before keeps what they got."""
        before, self._roles = self._roles, roles
        if before is not None and before.current is not roles.current:
            self._previous = before.current.version
        if before is None or before.summary() != roles.summary():
            self._changed(before, roles)

    async def _record(self, version: str) -> Rollout:
        """Leave word of what is served, for rollbacks and restarts; a folder that cannot be written to is no fault."""
        before = self._previous

        def recorded(old: Rollout) -> Rollout:
            known = old if old.serving else old.model_copy(update={"serving": before})
            return known.now_serving(version)

        try:
            rollout = await asyncio.to_thread(change_rollout, self._root, recorded)
        except BundleError as error:
            log.info("rollbacks will not outlive this process: %s", error)
            rollout = Rollout(serving=version, previous=self._previous)
        self._previous = rollout.previous
        return rollout

    def _name_current(self, version: str) -> None:
        with writing(self._root):
            activate(self._root, version)

    def _wanted(self) -> _Wanted:
        return _Wanted(active_version(self._root), read_rollout(self._root))

    def _troubled(self, error: BundleError) -> None:
        what = "" if self._loader.refuses(error) else str(error)
        if what and what != self._trouble:
            log.error("the served bundle stays: %s", what)
        self._trouble = what


def _named(wanted: _Wanted) -> set[str]:
    parts = (wanted.rollout.canary, wanted.rollout.shadow)
    return {wanted.current, *(part.version for part in parts if part is not None)}


def _place(salt: str, user_id: str) -> float:
    """Where the shopper stands in [0, 1): the same for every worker, another for every canary."""
    digest = hashlib.blake2b(user_id.encode(), key=salt.encode()[:64], digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
