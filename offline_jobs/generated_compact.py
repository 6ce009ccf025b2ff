"""A compact shop, for tests and the demo: small, dense, and what to recommend next is beyond doubt.

Items fall into taste clusters; a planted shopper buys 8 to 12 items of one cluster, and one more item of it, that
others bought, is held out. All that a cluster has beyond a shopper's purchases fits into a list of ten, so a
recommender that sees taste finds it and one that sees popularity does not.
"""

from __future__ import annotations

import numpy as np

from offline_jobs.generated_settings import BOUGHT, EVIDENCE, GeneratedShopSettings
from offline_jobs.generated_world import DAY, END, Floats, Ints, World, cluster_members, clusters_of_items


def plan_compact(settings: GeneratedShopSettings) -> World:
    """Plan a shop. Deterministic in `settings`."""
    rng = np.random.default_rng(settings.seed)
    members = cluster_members(settings, rng)
    sold = min(len(members), max(1, -(-settings.warm // settings.warm_slots)))
    warm = _warm_members(members[:sold], settings.warm_slots)
    weight = (np.arange(sold) + 1.0) ** -0.6
    cluster_weight = rng.permutation(weight / weight.sum())
    planted = round(settings.users * settings.planted_share)
    taste = _tastes(planted, sold, cluster_weight, rng)
    user, item, held_out = _planted_purchases(taste, warm, cluster_weight, rng)
    other_user, other_item = _other_purchases(settings, planted, warm, cluster_weight, rng)
    pairs = np.unique(np.concatenate([user, other_user]) * settings.items + np.concatenate([item, other_item]))
    pairs = pairs[~np.isin(pairs, np.arange(planted) * settings.items + held_out)]
    user, item = pairs // settings.items, pairs % settings.items
    held_out[np.bincount(item, minlength=settings.items)[held_out] < EVIDENCE] = -1
    cluster_of_item = clusters_of_items(members, settings.items)
    timestamp = _times(cluster_of_item[item], len(members), settings.span_days, rng)
    order = np.lexsort((timestamp, item))
    nobody = np.full(settings.users - planted, -1)
    return World(
        cluster_of_item=cluster_of_item,
        cluster_of_user=np.concatenate([taste, nobody]),
        held_out=np.concatenate([held_out, nobody]),
        user=user[order],
        item=item[order],
        timestamp=timestamp[order],
    )


def _warm_members(members: Ints, warm_slots: int) -> Ints:
    """The first slots of every cluster; an empty slot repeats the first, which changes nothing but its weight."""
    warm = members[:, :warm_slots]
    return np.where(warm >= 0, warm, warm[:, :1])


def _tastes(planted: int, sold: int, weight: Floats, rng: np.random.Generator) -> Ints:
    """(planted,) clusters: three of five shoppers spread evenly, so that every cluster has its shoppers."""
    even = planted * 3 // 5
    return np.concatenate([np.arange(even) % sold, rng.choice(sold, size=planted - even, p=weight)])


def _planted_purchases(taste: Ints, warm: Ints, weight: Floats, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """(user, item) of the purchases in and beside the cluster, and (planted,) held-out items.

    Items are drawn without replacement by weight (Gumbel top-k); the next one drawn is held out.
    """
    planted, slots = len(taste), warm.shape[1]
    keys = rng.gumbel(size=(planted, slots)) - 0.3 * np.log(np.arange(slots) + 1.0)
    drawn = np.take_along_axis(warm[taste], np.argsort(-keys, axis=1), axis=1)
    bought = rng.integers(BOUGHT[0], BOUGHT[1] + 1, size=planted)
    inside = np.arange(slots) < bought[:, None]
    held_out = drawn[np.arange(planted), bought]
    beside = np.repeat(np.arange(planted), rng.integers(0, 3, size=planted))
    clusters = rng.choice(len(warm), size=len(beside), p=weight)
    extra = warm[clusters, rng.integers(0, slots, size=len(beside))]
    users = np.concatenate([np.nonzero(inside)[0], beside])
    return users, np.concatenate([drawn[inside], extra]), held_out


def _other_purchases(
    settings: GeneratedShopSettings, planted: int, warm: Ints, weight: Floats, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """(user, item) of shoppers who take what is popular in one to three clusters."""
    others = settings.users - planted
    sizes = 1 + rng.poisson(settings.other_purchases - 1, size=others)
    user = np.repeat(np.arange(others), sizes)
    favourites = rng.choice(len(warm), size=(others, 3), p=weight)
    pick = (rng.random(len(user)) * rng.integers(1, 4, size=others)[user]).astype(np.int64)
    slot_weight = (np.arange(warm.shape[1]) + 1.0) ** -0.8
    slot = rng.choice(warm.shape[1], size=len(user), p=slot_weight / slot_weight.sum())
    return user + planted, warm[favourites[user, pick], slot]


def _times(cluster: Ints, clusters: int, days: int, rng: np.random.Generator) -> Ints:
    """Unix seconds; each cluster comes into or out of fashion a little over the period."""
    trend = np.exp(rng.normal(0, 0.25, size=clusters))[cluster]
    ago = rng.random(len(cluster)) ** trend * days * DAY
    return END - 1 - ago.astype(np.int64)
