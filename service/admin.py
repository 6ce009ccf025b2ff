"""What an operator may do over both ports: activate, roll back, canary, shadow. With a key, and a line in the log."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from service.errors import PlotPointeError, UnauthenticatedError, UnknownTenantError
from service.generation import Generation
from service.generations import Generations, Share
from service.logs import RateLimit

log = logging.getLogger("service.audit")

DEFAULT = "default"
"""The tenant of a service that serves one shop."""


@dataclass(frozen=True, slots=True)
class PartState:
    """A bundle that serves beside the current one, and its share of the shoppers or the requests."""

    version: str
    share: float


@dataclass(frozen=True, slots=True)
class BundleStates:
    """Which bundles of a tenant do what in this process; the others follow within `reload_seconds`."""

    serving: str
    previous: str
    """What a rollback would activate; empty where there is nothing."""
    canary: PartState | None
    shadow: PartState | None
    available: tuple[str, ...]
    """Versions that lie in the folder, in name order."""
    state: str
    """`ok`, or what keeps the folder's wish from being served, in words."""


class Admin:
    """Each call asks for the key first, and leaves a line in the log whatever came of it."""

    def __init__(self, bundles: Mapping[str, Generations[Generation]], key: SecretStr | None) -> None:
        """Without a `key` there is no administration over the ports: every call is refused, and told so."""
        self._bundles = dict(bundles)
        self._key = None if key is None else _digest(key.get_secret_value())
        self._limit = RateLimit()

    async def bundles(self, tenant: str, key: str) -> BundleStates:
        """Which bundles do what. Raises UnauthenticatedError, UnknownTenantError."""
        return await self._done(tenant, key, "look at the bundles", lambda _: _nothing())

    async def activate(self, tenant: str, version: str, key: str) -> BundleStates:
        """Serve `version` from now on. Raises BundleError where it is refused, and as `bundles` does."""
        return await self._done(tenant, key, f"activate {version[:200]}", lambda own: own.activate(version))

    async def rollback(self, tenant: str, key: str) -> BundleStates:
        """Serve the version before. Raises BundleMissingError where there was none, and as `activate` does."""
        return await self._done(tenant, key, "roll back", lambda own: own.rollback())

    async def set_canary(self, tenant: str, version: str, share: float, key: str) -> BundleStates:
        """Let `version` answer a share of the shoppers; a share of 0 ends it.

        Raises InvalidQueryError for a share that is none, and as `activate` does.
        """
        what = f"canary {version[:200]} for {share}"
        return await self._done(tenant, key, what, lambda own: own.set_canary(version, share))

    async def set_shadow(self, tenant: str, version: str, share: float, key: str) -> BundleStates:
        """Compute a share of the requests with `version` too; a share of 0 ends it. Raises as `set_canary` does."""
        what = f"shadow {version[:200]} for {share}"
        return await self._done(tenant, key, what, lambda own: own.set_shadow(version, share))

    async def _done(
        self, tenant: str, key: str, what: str, do: Callable[[Generations[Generation]], Awaitable[None]]
    ) -> BundleStates:
        """Do it, and log who did what to whom with what outcome."""
        self._authenticate(key, what)
        own = self._of(tenant)
        try:
            await do(own)
        except PlotPointeError as error:
            log.warning("%s of %s by %s: refused: %s", what, tenant or DEFAULT, _fingerprint(key), error)
            raise
        log.info("%s of %s by %s: done", what, tenant or DEFAULT, _fingerprint(key))
        canary, shadow = own.roles.canary, own.roles.shadow
        return BundleStates(
            serving=own.current.version,
            previous=own.previous,
            canary=_part(canary),
            shadow=_part(shadow),
            available=await own.available(),
            state=own.state,
        )

    def _authenticate(self, key: str, what: str) -> None:
        if self._key is None:
            raise UnauthenticatedError(
                "administration over the ports is off",
                todo="Set PLOTPOINTE_ADMIN_KEY to turn it on",
            )
        # Digests, so that the time of the comparison tells nothing of the key, nor of its length.
        if not hmac.compare_digest(_digest(key), self._key):
            if self._limit.allows():
                log.warning("%s by someone without the right key: refused", what)
            raise UnauthenticatedError("the admin key is missing or wrong", todo="Send the key of this service")

    def _of(self, tenant: str) -> Generations[Generation]:
        if not tenant and len(self._bundles) == 1:
            return next(iter(self._bundles.values()))
        try:
            return self._bundles[tenant or DEFAULT]
        except KeyError:
            raise UnknownTenantError(f"no such tenant: {tenant[:64]!r}", where="tenant") from None


def _part(share: Share[Generation] | None) -> PartState | None:
    return None if share is None else PartState(share.generation.version, share.share)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()


def _fingerprint(key: str) -> str:
    """Tells keys apart in the log, and nothing else."""
    return f"key {hashlib.sha256(_digest(key)).hexdigest()[:8]}"


async def _nothing() -> None:
    return None
