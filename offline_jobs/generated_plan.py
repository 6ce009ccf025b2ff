"""The plan of a generated shop on disk, for the processes that write it: arrays that all of them map, not copy."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from offline_jobs.generated_compact import plan_compact
from offline_jobs.generated_market import plan_market
from offline_jobs.generated_settings import GeneratedShopSettings, check_possible
from offline_jobs.generated_words import Theme, Themes
from offline_jobs.generated_world import Ints, World

BASE36 = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", np.uint8)
SETTINGS = "settings.json"

Ids = npt.NDArray[np.bytes_]


def plan_world(settings: GeneratedShopSettings, themes: Themes | None = None) -> World:
    """Plan a shop: compact, or with `interactions` a large one. Raises InputError where there can be none."""
    check_possible(settings)
    if settings.interactions is None:
        return plan_compact(settings)
    return plan_market(settings, themes or plan_themes(settings))


def plan_themes(settings: GeneratedShopSettings) -> Themes:
    """What each cluster is about."""
    return Themes(settings.clusters, np.random.default_rng([settings.seed, 1]))


@dataclass(frozen=True)
class Plan:
    """All that a writer of one part of the shop needs."""

    settings: GeneratedShopSettings
    item_ids: Ids
    """(items,) S10"""
    user_ids: Ids
    """(users,) S14"""
    user: Ints
    item: Ints
    timestamp: Ints
    """The purchases, as in World."""
    cluster_of_item: Ints
    cluster_of_user: Ints
    bought: Ints
    """(items,) purchases of each item."""
    has_picture: npt.NDArray[np.bool_]
    """(items,)"""
    theme_code: Ints
    theme_brand: Ints
    """(clusters,) as in Themes."""
    by_cluster: Ints
    """(items,) item numbers, cluster by cluster; cluster c is `by_cluster[offsets[c]:offsets[c + 1]]`."""
    offsets: Ints
    """(clusters + 1,)"""

    def theme(self, cluster: int) -> Theme:
        """What a cluster is about."""
        themes = Themes.__new__(Themes)
        themes.code, themes.brand = self.theme_code, self.theme_brand
        return themes[cluster]

    def random(self, part: int, chunk: int) -> np.random.Generator:
        """The numbers of one chunk of one part: the same whichever process writes it."""
        return np.random.default_rng([self.settings.seed, part, chunk])


def save_plan(settings: GeneratedShopSettings, folder: Path) -> World:
    """Plan the shop and save all that its writers need below `folder`; returns the world for what is written here."""
    themes = plan_themes(settings)
    world = plan_world(settings, themes)
    folder.mkdir(parents=True)
    (folder / SETTINGS).write_text(settings.model_dump_json())
    clusters = settings.clusters
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "item_ids": item_ids(settings.items),
        "user_ids": user_ids(settings.users),
        "user": world.user,
        "item": world.item,
        "timestamp": world.timestamp,
        "cluster_of_item": world.cluster_of_item,
        "cluster_of_user": world.cluster_of_user,
        "bought": np.bincount(world.item, minlength=settings.items),
        "has_picture": np.random.default_rng([settings.seed, 2]).random(settings.items) < settings.image_share,
        "theme_code": themes.code,
        "theme_brand": themes.brand,
        "by_cluster": np.argsort(world.cluster_of_item, kind="stable"),
        "offsets": np.concatenate([[0], np.cumsum(np.bincount(world.cluster_of_item, minlength=clusters))]),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return world


@lru_cache(maxsize=1)
def open_plan(folder: str) -> Plan:
    """Map the plan that `save_plan` wrote; once a process."""
    settings = GeneratedShopSettings.model_validate_json((Path(folder) / SETTINGS).read_bytes())
    names = [field.name for field in fields(Plan) if field.name != "settings"]
    return Plan(settings, **{name: np.load(Path(folder) / f"{name}.npy", mmap_mode="r") for name in names})


def item_ids(count: int) -> Ids:
    """`count` distinct ids of ten characters that look like ASINs; their order says nothing."""
    digits = _base36(np.arange(count) * 31_415_926_537 + 271_828_182, 7)
    return _texts(np.concatenate([np.broadcast_to(np.frombuffer(b"B00", np.uint8), (count, 3)), digits], axis=1))


def user_ids(count: int) -> Ids:
    """`count` distinct ids of fourteen characters that look like Amazon's."""
    first = _base36(np.arange(count) * 27_182_818_289 + 314_159_265, 7)
    second = _base36(np.arange(count) * 1_618_033_981 + 57_721_566, 6)
    return _texts(np.concatenate([np.full((count, 1), ord("A"), np.uint8), first, second], axis=1))


def _base36(numbers: Ints, width: int) -> npt.NDArray[np.uint8]:
    """The last `width` base-36 digits; the factors above are prime to 36, so distinct numbers stay distinct."""
    return np.asarray(BASE36[numbers[:, None] // 36 ** np.arange(width)[::-1] % 36])


def _texts(letters: npt.NDArray[np.uint8]) -> Ids:
    return np.ascontiguousarray(letters).view(f"S{letters.shape[1]}").ravel()
