"""The generated shop's plan, as both kinds of shop give it: arrays only, no files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import numpy.typing as npt

from offline_jobs.generated_settings import GeneratedShopSettings

LAST_DAY = date(2014, 7, 23)
"""The last day of the Amazon reviews 2014; every generated shop ends on it."""
DAY = 86_400
END = int(datetime(LAST_DAY.year, LAST_DAY.month, LAST_DAY.day, tzinfo=UTC).timestamp()) + DAY
"""The first second after the last day."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


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


def cluster_members(settings: GeneratedShopSettings, rng: np.random.Generator) -> Ints:
    """(clusters, cluster_size) item numbers in random order; the last slots of some clusters are -1."""
    slots = np.full(settings.clusters * settings.cluster_size, -1)
    slots[: settings.items] = rng.permutation(settings.items)
    return slots.reshape(settings.cluster_size, settings.clusters).T


def clusters_of_items(members: Ints, items: int) -> Ints:
    """(items,) the cluster of each item."""
    cluster = np.empty(items, np.int64)
    cluster[members[members >= 0]] = np.nonzero(members >= 0)[0]
    return cluster
