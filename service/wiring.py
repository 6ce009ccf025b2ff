"""The composition root: the only place that builds the service's parts. Opened in order, closed in reverse."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from service.bundle.manifest import Manifest
from service.bundle.reader import Bundle, open_bundle
from service.bundle.store import active_version
from service.cache import AnswerCache, MemoryCache
from service.catalog import Catalog
from service.domain import MAX_K
from service.errors import BundleForeignError, ModelError
from service.event_log import EventLog
from service.health import Readiness
from service.metrics import Metrics
from service.recommend import Recommender
from service.redis_cache import RedisCache
from service.rerank import Reranker
from service.retrieve import Retriever
from service.settings import Settings
from service.shoppers import Shoppers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """What a transport needs."""

    recommender: Recommender
    metrics: Metrics
    settings: Settings
    manifest: Manifest
    ready: Readiness


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[Service]:
    """Open the active bundle and everything around it; ready once every shape was warmed up.

    Raises BundleError where the bundle is refused, InputError where a setting cannot work. A Redis that does not
    answer is no reason not to start.
    """
    metrics, ready = Metrics(), Readiness()
    async with AsyncExitStack() as stack:
        bundle = open_bundle(settings.bundles / active_version(settings.bundles))
        event_log = EventLog(settings.events_dir, metrics.count_impression)
        stack.callback(event_log.close)
        ready.report("event_log", lambda: event_log.state)
        cache = await _open_cache(settings, bundle, metrics, ready, stack)
        recommender = _recommender(settings, bundle, cache, event_log, metrics)
        recommender.warm_up()
        version = bundle.manifest.version
        metrics.bundle_serves("default", version, "")
        metrics.bundle_current("default")
        ready.open(version)
        stack.callback(ready.drain)
        log.info("serving bundle %s: %d items, %d shoppers", version, len(bundle.item_ids), len(bundle.user_ids))
        yield Service(recommender, metrics, settings, bundle.manifest, ready)


async def _open_cache(
    settings: Settings, bundle: Bundle, metrics: Metrics, ready: Readiness, stack: AsyncExitStack
) -> AnswerCache:
    memory = MemoryCache(max_entries=settings.cache_max_entries, ttl_seconds=settings.cache_ttl_seconds)
    redis = None
    if settings.redis_url is not None:
        redis = RedisCache(
            settings.redis_url,
            timeout_ms=settings.redis_timeout_ms,
            ttl_seconds=settings.cache_ttl_seconds,
            num_items=bundle.manifest.num_items,
        )
        stack.push_async_callback(redis.close)
        await redis.probe()
    state = redis
    ready.report("redis", lambda: "not configured" if state is None else state.state)
    cache = AnswerCache(memory, redis, metrics.count_cache)
    stack.push_async_callback(cache.close)
    return cache


def _recommender(
    settings: Settings, bundle: Bundle, cache: AnswerCache, event_log: EventLog, metrics: Metrics
) -> Recommender:
    num_candidates = settings.num_candidates or bundle.manifest.num_candidates
    shoppers = Shoppers(bundle)
    reranker = Reranker(bundle, most_candidates=max(num_candidates, MAX_K))
    try:
        shoppers.warm_up()
        reranker.warm_up(shoppers.history_lengths)
    except ModelError as error:
        raise BundleForeignError(
            f"a model fails on its first call: {error}", where=str(bundle.path), todo="Publish the bundle again"
        ) from error
    return Recommender(
        bundle_version=bundle.manifest.version,
        num_candidates=num_candidates,
        shoppers=shoppers,
        retriever=Retriever(bundle),
        reranker=reranker,
        catalog=Catalog(bundle),
        cache=cache,
        event_log=event_log,
        metrics=metrics,
    )
