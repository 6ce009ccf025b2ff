"""The generated shop's plan: who likes what, who buys what and when, and what is held out. Arrays only, no files.

The world whose right answer is known: items fall into taste clusters; a planted shopper buys 8 to 12 items of one
cluster, and one more item of it, that others bought, is held out. All that a cluster has beyond a shopper's
purchases fits into a list of ten, so a recommender that sees taste finds it and one that sees popularity does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

LAST_DAY = date(2014, 7, 23)
"""The last day of the Amazon reviews 2014; every generated shop ends on it."""
DAY = 86_400
BOUGHT = (8, 12)
"""A planted shopper's purchases in the cluster, both ends included."""
EVIDENCE = 3
"""A held-out item was bought by at least so many others."""

Ints = npt.NDArray[np.int64]


class GeneratedShopSettings(BaseModel):
    """Size and make of a generated shop."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    items: int = Field(default=2000, ge=40, le=2_000_000)
    """Items in the catalog, sold or not."""
    users: int = Field(default=3000, ge=20, le=2_000_000)
    """Shoppers, each with at least one purchase."""
    seed: int = Field(default=0, ge=0)
    """The same settings and seed give the same files, byte for byte."""
    planted_share: float = Field(default=0.7, ge=0, le=1)
    """Share of shoppers with a planted taste; the others follow popularity."""
    cluster_size: int = Field(default=18, ge=15, le=60)
    """Items in a taste cluster. Above 18 a held-out item may rightly miss a list of ten."""
    cold_share: float = Field(default=0.1, ge=0, le=0.5)
    """Share of each cluster that nobody bought."""
    unsold_cluster_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of clusters of which nothing was ever bought, as in a catalog far larger than its sales."""
    other_purchases: float = Field(default=6.0, ge=1, le=30)
    """Mean purchases of a shopper without planted taste."""
    days: int = Field(default=30, ge=3, le=3650)
    """Calendar days that the purchases span."""
    image_share: float = Field(default=0.95, ge=0, le=1)
    """Share of items with a picture; 0 draws none."""
    missing_description_share: float = Field(default=0.08, ge=0, le=1)
    """Share of items without a description."""
    missing_price_share: float = Field(default=0.1, ge=0, le=1)
    """Share of items without a price."""

    @model_validator(mode="after")
    def _room_to_plant(self) -> GeneratedShopSettings:
        if self.warm_slots <= BOUGHT[1]:
            raise ValueError(f"a cluster needs more than {BOUGHT[1]} bought items: lower cold_share")
        if self.items < self.cluster_size * 2:
            raise ValueError("items must fill at least two clusters")
        return self

    @property
    def warm_slots(self) -> int:
        """Bought items of a cluster."""
        return self.cluster_size - round(self.cluster_size * self.cold_share)


@dataclass(frozen=True)
class World:
    """A planned shop; items and users are numbers here."""

    cluster_of_item: Ints
    """(items,)"""
    cluster_of_user: Ints
    """(users,), -1 for a shopper without planted taste"""
    held_out: Ints
    """(users,) item, or -1"""
    user: Ints
    """(purchases,), each (user, item) once, ordered by item, then time"""
    item: Ints
    """(purchases,)"""
    timestamp: Ints
    """(purchases,) unix seconds, UTC"""


def plan_world(settings: GeneratedShopSettings) -> World:
    """Plan a shop. Deterministic in `settings`."""
    rng = np.random.default_rng(settings.seed)
    members = _clusters(settings, rng)
    sold = max(1, round(len(members) * (1 - settings.unsold_cluster_share)))
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
    cluster_of_item = np.empty(settings.items, np.int64)
    cluster_of_item[members[members >= 0]] = np.nonzero(members >= 0)[0]
    timestamp = _times(cluster_of_item[item], len(members), settings.days, rng)
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


def _clusters(settings: GeneratedShopSettings, rng: np.random.Generator) -> Ints:
    """(clusters, cluster_size) item numbers in random order; the last slot of some clusters is -1."""
    clusters = -(-settings.items // settings.cluster_size)
    slots = np.full(clusters * settings.cluster_size, -1)
    slots[: settings.items] = rng.permutation(settings.items)
    return slots.reshape(settings.cluster_size, clusters).T


def _warm_members(members: Ints, warm_slots: int) -> Ints:
    """The first slots of every cluster; an empty slot repeats the first, which changes nothing but its weight."""
    warm = members[:, :warm_slots]
    return np.where(warm >= 0, warm, warm[:, :1])


def _tastes(planted: int, sold: int, weight: npt.NDArray[np.float64], rng: np.random.Generator) -> Ints:
    """(planted,) clusters: three of five shoppers spread evenly, so that every cluster has its shoppers."""
    even = planted * 3 // 5
    return np.concatenate([np.arange(even) % sold, rng.choice(sold, size=planted - even, p=weight)])


def _planted_purchases(
    taste: Ints, warm: Ints, weight: npt.NDArray[np.float64], rng: np.random.Generator
) -> tuple[Ints, Ints, Ints]:
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
    settings: GeneratedShopSettings,
    planted: int,
    warm: Ints,
    weight: npt.NDArray[np.float64],
    rng: np.random.Generator,
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
    end = int(datetime(LAST_DAY.year, LAST_DAY.month, LAST_DAY.day, tzinfo=UTC).timestamp()) + DAY
    ago = rng.random(len(cluster)) ** trend * days * DAY
    return end - 1 - ago.astype(np.int64)
