"""One tenant of a process: its bundles, its cache, its shoppers' states, its live catalogue, its log, its engine.

Every name that reaches disk or Redis from here holds the tenant's: nothing of one shop is another's.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from service.admission import Admission
from service.answer_codec import AnswerCodec
from service.background import Background, every
from service.bundle.reader import MANIFEST
from service.bundle.store import active_version
from service.cache import AnswerCache
from service.catalog_store import Bounds, CatalogFollower, CatalogStore
from service.engine import Engine
from service.event_log import EventLog
from service.generation import Generation, open_generation
from service.generations import Generations, Roles
from service.health import Readiness
from service.live_catalog import LiveCatalog
from service.loader import Loader
from service.memory_cache import MemoryCache
from service.metrics import Metrics
from service.presenter import Presenter
from service.recommend import Recommender
from service.redis_cache import RedisCache
from service.redis_catalog_store import RedisCatalogStore
from service.redis_link import RedisDownError, RedisLink, RedisRefusedError
from service.redis_states import RedisStates
from service.redis_trends import RedisTrends
from service.selection import Selections
from service.settings import Settings
from service.shadow import Aftermath
from service.shopper_states import MemoryStates, ShopperStates
from service.sqlite_catalog_store import SqliteCatalogStore
from service.trends import MemoryTrends, Trends
from service.turns import Turns

GAUGE_SECONDS = 1.0
CATALOG_TIMEOUT_MS = 500
"""Least time that the catalogue's Redis gets: no answer waits for it, and many items take longer than an answer may."""


@dataclass(frozen=True, slots=True)
class Common:
    """What the tenants of a process share: its time, and its numbers."""

    settings: Settings
    metrics: Metrics
    ready: Readiness
    turns: Turns
    admission: Admission

    def root(self, tenant: str) -> Path:
        """Folder of the tenant's bundles."""
        return self.settings.bundles / tenant if self.settings.tenants else self.settings.bundles

    def events_dir(self, tenant: str) -> Path:
        """Folder of the tenant's event log."""
        return self.settings.events_dir / tenant if self.settings.tenants else self.settings.events_dir

    def part(self, most: int) -> int:
        """A tenant's part of what the process may take."""
        return max(most // max(len(self.settings.tenants), 1), 1)

    def report(self, tenant: str, name: str, probe: Callable[[], str]) -> None:
        """Show the state of a tenant's part; with the tenant's name where there are several."""
        self.ready.report(f"{tenant}/{name}" if self.settings.tenants else name, probe)


@dataclass(frozen=True, slots=True)
class Shop:
    """One tenant, open."""

    engine: Engine
    generations: Generations[Generation]


async def open_shop(tenant: str, common: Common, stack: AsyncExitStack, swapped: Callable[[], None]) -> Shop:
    """Open a tenant's active bundle and everything around it; `stack` closes it.

    `swapped` is called whenever another bundle has begun to serve. Raises BundleError, InputError.
    """
    settings, metrics = common.settings, common.metrics
    root = common.root(tenant)
    active_version(root)  # where there is no bundle, nothing else is to be made
    redis = await _cache_link(tenant, common, stack)
    store = await _catalog_store(tenant, common, stack)
    live = LiveCatalog(store, lambda: generations.roles.loaded().values())
    loader = Loader(root, _opener(tenant, common, redis), live.prepare, lambda _: metrics.count_load(tenant, "refused"))
    generations: Generations[Generation] = Generations(root, loader, _told(tenant, metrics, root, swapped))
    await generations.open()
    stack.push_async_callback(_close_caches, generations)
    event_log = EventLog(common.events_dir(tenant), metrics.count_impression)
    stack.callback(event_log.close)
    states = await _states(tenant, common, stack)
    selections = Selections()
    aftermath = _aftermath(common, selections, generations)
    stack.push_async_callback(aftermath.close)
    engine = Engine(
        generations=generations,
        recommender=_recommender(settings, selections, metrics),
        selections=selections,
        states=states,
        trends=_trends(tenant, redis),
        live=live,
        turns=common.turns,
        admission=common.admission,
        presenter=Presenter(event_log, metrics, aftermath.answered),
        event_log=event_log,
        metrics=metrics,
        default_deadline_s=None if settings.default_deadline_ms is None else settings.default_deadline_ms / 1000,
    )
    common.report(tenant, "reload", lambda: generations.state)
    common.report(tenant, "event_log", lambda: event_log.state)
    common.report(tenant, "states", lambda: states.state)
    follower = CatalogFollower(live.follow)
    await follower.open()
    stack.push_async_callback(follower.close)
    common.report(tenant, "live_catalogue", lambda: follower.state)
    background = await stack.enter_async_context(Background())
    background.begin(f"bundles of {tenant}", generations.watch(settings.reload_seconds))
    gauges = _gauges(tenant, metrics, live, {"states": lambda: states.state, "live_catalogue": lambda: follower.state})
    background.begin(f"gauges of {tenant}", every(GAUGE_SECONDS, gauges))
    return Shop(engine, generations)


def _opener(tenant: str, common: Common, redis: RedisLink | None) -> Callable[[Path], Generation]:
    """How a bundle of this tenant is opened; runs in a thread."""
    settings = common.settings
    memory = MemoryCache(
        max_entries=common.part(settings.cache_max_entries),
        max_bytes=common.part(settings.cache_max_mib * 2**20),
        ttl_seconds=settings.cache_ttl_seconds,
        stale_seconds=settings.cache_stale_seconds,
    )

    def cache(generation: Generation) -> AnswerCache:
        shared = None
        if redis is not None:
            # A proxy: a reference would be a circle, and a retired generation would stay until the next collection.
            codec = AnswerCodec(generation.manifest.num_items, weakref.proxy(generation))
            shared = RedisCache(
                redis, codec, ttl_seconds=settings.cache_ttl_seconds, stale_seconds=settings.cache_stale_seconds
            )
        return AnswerCache(memory, shared, common.metrics.count_cache, common.turns, tenant=tenant)

    return lambda directory: open_generation(directory, num_candidates=settings.num_candidates, cache=cache)


async def _cache_link(tenant: str, common: Common, stack: AsyncExitStack) -> RedisLink | None:
    """The way to the cache's Redis, tried once; None where there is none."""
    settings = common.settings
    if settings.redis_url is None:
        common.report(tenant, "redis", lambda: "not configured")
        return None
    link = RedisLink(settings.redis_url, timeout_ms=settings.redis_timeout_ms, without="answers are computed again")
    stack.push_async_callback(link.close)
    with contextlib.suppress(RedisDownError, RedisRefusedError):
        await link.call(lambda redis: redis.ping())
    common.report(tenant, "redis", lambda: link.state)
    return link


async def _catalog_store(tenant: str, common: Common, stack: AsyncExitStack) -> CatalogStore:
    """Where the tenant's live items are kept: Redis, or a file that the workers of this host share."""
    settings = common.settings
    bounds = Bounds(settings.live_catalog_max_items, settings.live_catalog_max_mib * 2**20)
    store: CatalogStore
    if settings.redis_url is None:
        store = await SqliteCatalogStore.open(settings.state_dir / tenant / "catalog.sqlite", bounds)
    else:
        timeout_ms = max(settings.redis_timeout_ms, CATALOG_TIMEOUT_MS)
        store = RedisCatalogStore(settings.redis_url, tenant=tenant, timeout_ms=timeout_ms, bounds=bounds)
    stack.push_async_callback(store.close)
    return store


def _trends(tenant: str, redis: RedisLink | None) -> Trends:
    return MemoryTrends() if redis is None else RedisTrends(redis, tenant=tenant)


async def _states(tenant: str, common: Common, stack: AsyncExitStack) -> ShopperStates:
    settings = common.settings
    most, most_bytes = common.part(settings.state_max_shoppers), common.part(settings.state_max_mib * 2**20)
    ttl_seconds = settings.state_ttl_days * 86_400
    states: ShopperStates
    if settings.redis_url is None:
        states = MemoryStates(max_shoppers=most, max_bytes=most_bytes, ttl_seconds=ttl_seconds)
    else:
        states = RedisStates(
            settings.redis_url,
            tenant=tenant,
            timeout_ms=settings.redis_timeout_ms,
            ttl_seconds=ttl_seconds,
            max_local_shoppers=most,
            max_local_bytes=most_bytes,
        )
        await states.open()
    stack.push_async_callback(states.close)
    return states


def _recommender(settings: Settings, selections: Selections, metrics: Metrics | None) -> Recommender:
    """`metrics` None: for computations that are no request's."""
    budget = settings.rerank_budget_ms
    return Recommender(
        selections,
        rerank_budget_s=None if budget is None else budget / 1000,
        observe_stage=(lambda stage, seconds: None) if metrics is None else metrics.observe_stage,
        count_plan=(lambda plan: None) if metrics is None else metrics.count_plan,
    )


def _aftermath(common: Common, selections: Selections, generations: Generations[Generation]) -> Aftermath:
    return Aftermath(
        _recommender(common.settings, selections, None),
        common.turns,
        common.metrics,
        lambda: generations.roles,
        recall_share=common.settings.recall_sample_share,
    )


def _told(
    tenant: str, metrics: Metrics, root: Path, swapped: Callable[[], None]
) -> Callable[[Roles[Generation] | None, Roles[Generation]], None]:
    """What follows a change of roles: metrics, and the word to whoever shows what serves."""

    checksums: dict[str, str] = {}

    def changed(before: Roles[Generation] | None, after: Roles[Generation]) -> None:
        old, new = (set() if roles is None else set(roles.loaded()) for roles in (before, after))
        for version in old - new:
            metrics.bundle_retired(tenant, version, checksums[version])
        for version in new - old:
            checksums[version] = _checksum(root, version)
            metrics.bundle_serves(tenant, version, checksums[version])
            metrics.count_load(tenant, "loaded")
        if before is None or before.current is not after.current:
            metrics.bundle_current(tenant)
            swapped()

    return changed


def _checksum(root: Path, version: str) -> str:
    """Names a bundle's exact bytes: its manifest holds the digest of every file."""
    return sha256((root / version / MANIFEST).read_bytes()).hexdigest()[:16]


def _gauges(
    tenant: str, metrics: Metrics, live: LiveCatalog, followers: Mapping[str, Callable[[], str]]
) -> Callable[[], None]:
    """Notes, whenever it is called, what is not counted as it happens."""
    abreast = dict.fromkeys(followers, time.monotonic())

    def note() -> None:
        metrics.set_live_items(tenant, len(live))
        now = time.monotonic()
        for name, state in followers.items():
            if state().startswith("ok"):
                abreast[name] = now
            metrics.set_follower_lag(tenant, name, now - abreast[name])

    return note


async def _close_caches(generations: Generations[Generation]) -> None:
    for generation in generations.roles.loaded().values():
        await generation.cache.close()
