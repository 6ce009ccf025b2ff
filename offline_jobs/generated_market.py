"""A shop with an exact number of purchases and the long tails of a large one: most items sell a few, few thousands.

1. Degrees: power laws for warm items and for shoppers, with exact sums (`generated_degrees`).
2. Clusters of equal demand: items are laid into clusters by popularity, with noise, so that a cluster is a popular or
   an unpopular taste as a whole.
3. Taste: a planted shopper buys about three quarters (at most twelve items) in one cluster, drawn without replacement
   by popularity; the next one drawn is held out.
4. All other purchases: shoppers have interests, which are clusters; half-edges are sorted by department and years and
   paired, so what is bought together is of the same department and time. A third of it is anything.
5. Time: a cluster appears, rises and goes out of fashion (Weibull, shape 1.4); more appear in later years.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offline_jobs.generated_degrees import long_tail, pair_up
from offline_jobs.generated_settings import BOUGHT, EVIDENCE, GeneratedShopSettings
from offline_jobs.generated_words import Themes
from offline_jobs.generated_world import DAY, END, Floats, Ints, World, cluster_members, clusters_of_items

TOP_ITEM_SHARE = 0.0029
"""Of all purchases: 4,900 of Electronics' 1.69 million."""
TOP_USER_SHARE = 0.000255
"""Of all purchases: 431 of Electronics' 1.69 million."""
TASTE = 0.75
"""Of a planted shopper's purchases, inside the cluster."""
ANYTHING = 0.35
"""Of the other purchases, not led by an interest."""
PERIODS = 12
"""Stretches of time that tell interests apart."""


@dataclass(frozen=True)
class _Stock:
    """The warm items, cluster by cluster."""

    item: Ints
    """(warm,) item numbers"""
    cluster: Ints
    """(warm,) rising from 0"""
    degree: Ints
    """(warm,) purchases"""
    slots: Ints
    """(sold, warm slots) positions in the above, -1 where a cluster has fewer"""


def plan_market(settings: GeneratedShopSettings, themes: Themes) -> World:
    """Plan a shop of exactly `settings.interactions` purchases. Deterministic in `settings` and the clusters' themes.

    Raises InputError where the pairs cannot be placed.
    """
    assert settings.interactions is not None
    rng = np.random.default_rng(settings.seed)
    members = cluster_members(settings, rng)
    stock = _stock(settings, members, rng)
    most = max(round(settings.interactions * TOP_USER_SHARE), 4 * settings.interactions // settings.users)
    degree = rng.permutation(
        long_tail(settings.users, settings.interactions, settings.min_purchases, min(most, settings.warm // 2))
    )
    planted = round(settings.users * settings.planted_share)
    mass = np.bincount(stock.cluster, weights=stock.degree).astype(np.float64)
    taste = rng.permutation(_spread(mass, planted, rng))
    user, row, held_out = _taste_purchases(stock, degree[:planted], taste, rng)
    launch = rng.random(len(mass)) ** (1 / 2.2) * 0.97
    place = _places(mass, launch, themes)
    taken = np.sort(np.concatenate([user * settings.warm + row, np.arange(planted) * settings.warm + held_out]))
    left = degree - np.bincount(user, minlength=len(degree))
    other_user, other_row = _other_halves(stock, degree, left, row, taste, place, rng)
    other_user, other_row = pair_up(other_user, other_row, settings.warm, taken, rng)
    user, row = np.concatenate([user, other_user]), np.concatenate([row, other_row])
    # Those who hold an item out bought elsewhere, so all its buyers are others.
    held_out = np.where(stock.degree[held_out] < EVIDENCE, -1, stock.item[held_out])
    timestamp = _times(stock, launch, row, settings.span_days, rng)
    item = stock.item[row]
    order = np.lexsort((user, timestamp, item))
    nobody = np.full(settings.users - planted, -1)
    return World(
        cluster_of_item=clusters_of_items(members, settings.items),
        cluster_of_user=np.concatenate([taste, nobody]),
        held_out=np.concatenate([held_out, nobody]),
        user=user[order],
        item=item[order],
        timestamp=timestamp[order],
    )


def _stock(settings: GeneratedShopSettings, members: Ints, rng: np.random.Generator) -> _Stock:
    """Exactly `settings.warm` items, in clusters that are popular or not as a whole."""
    assert settings.interactions is not None
    mean = settings.interactions // settings.warm
    most = min(max(round(settings.interactions * TOP_ITEM_SHARE), 4 * mean), settings.users // 2)
    degree = long_tail(settings.warm, settings.interactions, settings.min_purchases, most)
    degree = degree[np.argsort(rng.normal(0, 0.4, settings.warm) - np.log(degree), kind="stable")]
    inside = members[:, : settings.warm_slots]
    cluster, slot = (places[: settings.warm] for places in np.nonzero(inside >= 0))
    slots = np.full((int(cluster[-1]) + 1, settings.warm_slots), -1)
    slots[cluster, slot] = np.arange(settings.warm)
    return _Stock(inside[cluster, slot], cluster, degree, slots)


def _spread(mass: Floats, count: int, rng: np.random.Generator) -> Ints:
    """(count,) clusters in proportion to `mass`, as evenly as can be (systematic sampling)."""
    edges = np.cumsum(mass) / mass.sum()
    return np.minimum(np.searchsorted(edges, (np.arange(count) + rng.random()) / max(count, 1)), len(mass) - 1)


def _taste_purchases(stock: _Stock, degree: Ints, taste: Ints, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """(user, position) of the purchases inside the clusters, and (planted,) the positions held out.

    An item never gets more than its degree: what is too much goes to the other purchases.
    """
    slots = stock.slots[taste]
    weight = np.where(slots >= 0, np.log(stock.degree[slots]), -np.inf)
    drawn = np.take_along_axis(slots, np.argsort(-weight - rng.gumbel(size=slots.shape), axis=1), axis=1)
    bought = np.clip(np.rint(degree * TASTE).astype(np.int64), 1, BOUGHT[1])
    bought = np.minimum(bought, (slots >= 0).sum(axis=1) - 1)
    held_out = drawn[np.arange(len(taste)), bought]
    user, place = np.nonzero(np.arange(slots.shape[1]) < bought[:, None])
    row = drawn[user, place]
    order = rng.permutation(len(row))
    order = order[np.argsort(row[order], kind="stable")]
    first = np.searchsorted(row[order], np.arange(len(stock.item)))
    kept = order[np.arange(len(row)) - first[row[order]] < stock.degree[row[order]]]
    return user[kept], row[kept], held_out


def _other_halves(
    stock: _Stock, degree: Ints, left: Ints, row: Ints, taste: Ints, place: Floats, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """The half-edges of all other purchases, (n,) users and (n,) positions, sorted so that like stands beside like."""
    mass = np.bincount(stock.cluster, weights=stock.degree).astype(np.float64)
    user = np.repeat(np.arange(len(degree)), left)
    items = np.repeat(np.arange(len(stock.item)), stock.degree - np.bincount(row, minlength=len(stock.item)))
    interests = 1 + np.minimum(degree // 10, 20)
    start = np.cumsum(interests) - interests
    interest = rng.permutation(_spread(mass, int(interests.sum()), rng))
    interest[start[: len(taste)]] = taste
    chosen = interest[start[user] + (rng.random(len(user)) * interests[user]).astype(np.int64)]
    blur = rng.normal(0, 0.004, size=(2, len(user)))
    wish = np.where(rng.random(len(user)) < ANYTHING, rng.random(len(user)), place[chosen] + blur[0])
    offer = place[stock.cluster[items]] + blur[1]
    return user[np.argsort(wish, kind="stable")], items[np.argsort(offer, kind="stable")]


def _places(mass: Floats, launch: Floats, themes: Themes) -> Floats:
    """(sold,) where each cluster stands between 0 and 1, neighbours being of the same years and kind of thing."""
    order = np.lexsort((themes.noun[: len(mass)], (launch * PERIODS).astype(np.int64)))
    place = np.empty(len(mass))
    place[order] = (np.cumsum(mass[order]) - mass[order] / 2) / mass.sum()
    return place


def _times(stock: _Stock, launch: Floats, row: Ints, days: int, rng: np.random.Generator) -> Ints:
    """Unix seconds of the purchases: nothing before its item appears, most while its cluster is in fashion."""
    appears = np.minimum(launch[stock.cluster] + 0.05 * rng.random(len(stock.item)), 0.995)[row]
    lasts = np.exp(rng.normal(np.log(0.12), 0.6, size=len(launch)))[stock.cluster][row]
    shape = 1.4
    reached = -np.expm1(-(((1 - appears) / lasts) ** shape))
    age = lasts * (-np.log1p(-rng.random(len(row)) * reached)) ** (1 / shape)
    ago = (1 - np.minimum(appears + age, 1.0)) * days * DAY
    return END - 1 - np.minimum(ago.astype(np.int64), days * DAY - 1)
