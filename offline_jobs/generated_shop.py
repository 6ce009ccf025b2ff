"""A generated shop in the raw format of the Amazon reviews 2014, for tests, for a demo without data, and for load.

    reviews.json.gz      strict JSON lines
    meta.json.gz         Python-literal lines, as the real ones are
    images/<asin>.jpg    drawn pictures, 128 x 128
    truth.json           the planted structure; ingest never reads it
    generated.json       the settings, so that the same shop is not made twice

First a plan of arrays (`generated_plan`: a compact shop or, with `interactions`, one with the long tails of a large
one), then its lines and pictures, chunk by chunk, on every core. The size of Amazon Electronics:
`--items 498196 --users 192403 --interactions 1689188 --image-share 0.3`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from pathlib import Path

import numpy as np

from offline_jobs import generated_catalog, generated_reviews
from offline_jobs.generated_files import PICTURES_CHUNK, makers, write_part, write_pictures
from offline_jobs.generated_plan import item_ids, save_plan, user_ids
from offline_jobs.generated_settings import GeneratedShopSettings, check_possible
from offline_jobs.generated_world import World
from service.errors import DataError

__all__ = ["GeneratedShopSettings", "generate_shop"]

log = logging.getLogger(__name__)

VERSION = 2
RECORD = "generated.json"
ORPHANS_S = 5.0
"""How long processes of a killed run may take to end."""
WORTH_PROCESSES = 12
"""Chunks of text or pictures below which starting processes takes longer than they save."""


def generate_shop(settings: GeneratedShopSettings, out: Path) -> None:
    """Make the folder `out` whole, or leave it as it is; nothing to do where the same shop is there already.

    Raises InputError where no such shop can be, DataError where `out` holds something else than a generated shop.
    """
    check_possible(settings)
    record = {"version": VERSION, "settings": settings.model_dump(mode="json", exclude={"processes"})}
    if out.exists() and _is_made(out, record):
        log.info("generated shop: %s has it already, skipped", out)
        return
    # A name of its own: processes of a killed run may still be writing below theirs.
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    for leftover in (partial, *out.parent.glob(f".{out.name}.partial*")):
        _remove(leftover)
    partial.mkdir(parents=True)
    try:
        _write(settings, partial)
        (partial / RECORD).write_text(json.dumps(record, indent=2))
        _replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove(leftover: Path) -> None:
    """Remove a folder, and once more what orphans put into it meanwhile: they end within moments of their parent."""
    deadline = time.monotonic() + ORPHANS_S
    while leftover.exists():
        shutil.rmtree(leftover, ignore_errors=time.monotonic() < deadline)


def _is_made(out: Path, record: dict[str, object]) -> bool:
    try:
        return bool(json.loads((out / RECORD).read_bytes()) == record)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        if out.is_dir() and not any(out.iterdir()):
            return False
        raise DataError(
            f"there is something else than a generated shop ({RECORD} is missing or damaged)",
            where=str(out),
            todo="Name a new folder, or delete that one",
        ) from error


def _replace(new: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.rename(out, old)
    os.rename(new, out)
    shutil.rmtree(old, ignore_errors=True)


def _write(settings: GeneratedShopSettings, folder: Path) -> None:
    plan = folder / "plan"
    world = save_plan(settings, plan)
    suffix = ".json" if settings.uncompressed else ".json.gz"
    rows = len(world.user)
    with makers(_processes(settings, rows)) as run:
        write_part(folder / f"reviews{suffix}", generated_reviews.write_chunk, plan, rows, generated_reviews.CHUNK, run)
        write_part(
            folder / f"meta{suffix}", generated_catalog.write_chunk, plan, settings.items, generated_catalog.CHUNK, run
        )
        write_pictures(folder / "images", plan, settings.items, run)
    (folder / "truth.json").write_text(json.dumps(_truth(settings, world)))
    shutil.rmtree(plan)


def _processes(settings: GeneratedShopSettings, rows: int) -> int:
    """As many as asked for; by default every core, or this process alone for a small shop."""
    if settings.processes:
        return settings.processes
    pictures = settings.items * settings.image_share
    chunks = rows / generated_reviews.CHUNK + settings.items / generated_catalog.CHUNK + pictures / PICTURES_CHUNK
    return len(os.sched_getaffinity(0)) if chunks > WORTH_PROCESSES else 1


def _truth(settings: GeneratedShopSettings, world: World) -> dict[str, object]:
    items, users = (ids.astype(str).tolist() for ids in (item_ids(settings.items), user_ids(settings.users)))
    planted = np.flatnonzero(world.held_out >= 0).tolist()
    bought = np.bincount(world.item, minlength=settings.items)
    return {
        "held_out": {users[u]: items[world.held_out[u]] for u in planted},
        "user_clusters": {users[u]: c for u, c in enumerate(world.cluster_of_user.tolist()) if c >= 0},
        "item_clusters": dict(zip(items, world.cluster_of_item.tolist(), strict=True)),
        "cold_items": [items[i] for i in np.flatnonzero(bought == 0).tolist()],
    }
