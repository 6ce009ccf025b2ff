"""The composition root: the only place that builds the service's parts. Opened in order, closed in reverse.

What all tenants of a process have in common is built here; what is a tenant's own, in `shop.py`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from service.admin import DEFAULT, Admin
from service.admission import Admission
from service.background import Background, every
from service.engine import Engines
from service.health import Readiness
from service.metrics import FLUSH_SECONDS, Metrics
from service.settings import Settings
from service.shop import Common, Shop, open_shop
from service.turns import Turns

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """What a transport needs."""

    engines: Engines
    admin: Admin
    metrics: Metrics
    settings: Settings
    ready: Readiness
    version: str
    """The bundle that serves at the start; of several tenants, all of them."""


@asynccontextmanager
async def open_service(settings: Settings, metrics: Metrics | None = None) -> AsyncIterator[Service]:
    """Open the active bundle of every tenant and everything around it; ready once every shape was warmed up.

    Raises BundleError where a bundle is refused, InputError where a setting cannot work. A Redis that does not answer
    is no reason not to start.
    """
    metrics, ready = metrics or Metrics(), Readiness()
    turns = Turns(lambda: admission.check())
    admission = Admission(turns, max_queue_ms=settings.max_queue_ms, count_shed=metrics.count_shed)
    common = Common(settings, metrics, ready, turns, admission)
    shops: dict[str, Shop] = {}

    def swapped() -> None:
        if ready.is_ready():
            ready.open(_versions(shops))

    async with AsyncExitStack() as stack:
        for tenant in settings.tenants or (DEFAULT,):
            shops[tenant] = await open_shop(tenant, common, stack, swapped)
        background = await stack.enter_async_context(Background())
        background.begin("metrics", every(FLUSH_SECONDS, metrics.flush))
        stack.callback(metrics.flush)
        admin = Admin({tenant: shop.generations for tenant, shop in shops.items()}, settings.admin_key)
        engines = Engines({tenant: shop.engine for tenant, shop in shops.items()})
        ready.open(_versions(shops))
        stack.callback(ready.drain)
        _say_what_serves(settings, shops)
        yield Service(engines, admin, metrics, settings, ready, _versions(shops))


def _versions(shops: Mapping[str, Shop]) -> str:
    """The bundle that serves; of several tenants, all of them."""
    versions = {tenant: shop.generations.current.version for tenant, shop in shops.items()}
    return ",".join(versions.values() if len(versions) == 1 else map("=".join, versions.items()))


def _say_what_serves(settings: Settings, shops: Mapping[str, Shop]) -> None:
    for tenant, shop in shops.items():
        bundle = shop.generations.current.bundle
        log.info(
            "%s: serving bundle %s: %d items, %d shoppers",
            tenant, shop.generations.current.version, len(bundle.item_ids), len(bundle.user_ids),
        )  # fmt: skip
    if settings.workers > 1 and settings.redis_url is None:
        log.warning("without Redis a worker knows only those events that it took in itself; see docs/OPERATING.md")
