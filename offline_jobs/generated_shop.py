"""A generated shop in the raw format of the Amazon reviews 2014, for tests, for a demo without data, and for load.

    reviews.json.gz      strict JSON lines
    meta.json.gz         Python-literal lines, as the real ones are
    images/<asin>.jpg    drawn pictures, 128 x 128
    truth.json           the planted structure; ingest never reads it
    generated.json       the settings, so that the same shop is not made twice

The plan is `generated_world`, the texts `generated_words`, the pictures `drawing`. The size of Amazon Electronics:
`--items 498196 --users 192403 --unsold-cluster-share 0.855 --other-purchases 3.95 --image-share 0`.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from offline_jobs.drawing import draw_picture
from offline_jobs.generated_words import REVIEWS, Theme, Themes, describe
from offline_jobs.generated_world import GeneratedShopSettings, Ints, World, plan_world
from service.errors import DataError

__all__ = ["GeneratedShopSettings", "generate_shop"]

log = logging.getLogger(__name__)

T = TypeVar("T")

VERSION = 1
RECORD = "generated.json"
BASE36 = np.array(list("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
CHUNK = 50_000


def generate_shop(settings: GeneratedShopSettings, out: Path) -> None:
    """Make the folder `out` whole, or leave it as it is; nothing to do where the same shop is there already.

    Raises DataError where `out` holds something else than a generated shop.
    """
    record = {"version": VERSION, "settings": settings.model_dump(mode="json")}
    if out.exists() and _is_made(out, record):
        log.info("generated shop: %s has it already, skipped", out)
        return
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _write(settings, partial)
        (partial / RECORD).write_text(json.dumps(record, indent=2))
        _replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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
    world = plan_world(settings)
    rng = np.random.default_rng([settings.seed, 1])
    items = item_ids(settings.items)
    users = user_ids(settings.users)
    _write_lines(folder / "reviews.json.gz", _reviews(world, users, items, rng), len(world.user), "reviews")
    themes = Themes(int(world.cluster_of_item.max()) + 1, rng)
    has_picture = rng.random(settings.items) < settings.image_share
    _write_lines(
        folder / "meta.json.gz", _metadata(settings, world, items, themes, has_picture, rng), settings.items, "metadata"
    )
    _write_pictures(folder / "images", world, items, themes, has_picture, rng)
    truth = _truth(world, users, items)
    (folder / "truth.json").write_text(json.dumps(truth))


def item_ids(count: int) -> list[str]:
    """`count` distinct ids of ten characters that look like ASINs; their order says nothing."""
    return ["B00" + code for code in _base36(np.arange(count) * 31_415_926_537 + 271_828_182, 7)]


def user_ids(count: int) -> list[str]:
    """`count` distinct ids of fourteen characters that look like Amazon's."""
    first = _base36(np.arange(count) * 27_182_818_289 + 314_159_265, 7)
    second = _base36(np.arange(count) * 1_618_033_981 + 57_721_566, 6)
    return [f"A{a}{b}" for a, b in zip(first, second, strict=True)]


def _base36(numbers: Ints, width: int) -> list[str]:
    """The last `width` base-36 digits; the factors above are prime to 36, so distinct numbers stay distinct."""
    digits = numbers[:, None] // 36 ** np.arange(width)[::-1] % 36
    codes: list[str] = np.ascontiguousarray(BASE36[digits]).view(f"<U{width}").ravel().tolist()
    return codes


def _reviews(world: World, users: list[str], items: list[str], rng: np.random.Generator) -> Iterator[str]:
    """JSON lines, built from parts that are already JSON: nothing else in them needs escaping."""
    texts = [json.dumps(text) for text in REVIEWS]
    days: dict[int, str] = {}
    for start in range(0, len(world.user), CHUNK):
        part = slice(start, start + CHUNK)
        user, item, stamp = world.user[part].tolist(), world.item[part].tolist(), world.timestamp[part].tolist()
        draws = rng.integers(0, [len(texts), 3, 5], size=(len(user), 3)).tolist()
        for u, i, t, (text, stars, votes) in zip(user, item, stamp, draws, strict=True):
            day = t // 86_400
            if day not in days:
                days[day] = datetime.fromtimestamp(t, UTC).strftime("%m %d, %Y").replace(" 0", " ")
            yield (
                f'{{"reviewerID": "{users[u]}", "asin": "{items[i]}", "reviewerName": "Shopper {u}", '
                f'"helpful": [{votes // 2}, {votes}], "reviewText": {texts[text]}, "overall": {stars + 3}.0, '
                f'"summary": "{["Fine", "Good", "Great"][stars]}", "unixReviewTime": {t}, '
                f'"reviewTime": "{days[day]}"}}\n'
            )


def _metadata(
    settings: GeneratedShopSettings,
    world: World,
    items: list[str],
    themes: Themes,
    has_picture: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> Iterator[str]:
    """One Python-literal dictionary an item; a missing field has no key, as in the real files."""
    for start in range(0, settings.items, CHUNK):
        draws = rng.random((min(CHUNK, settings.items - start), 10)).tolist()
        for number, draw in enumerate(draws, start=start):
            theme = themes[int(world.cluster_of_item[number])]
            described = draw[8] >= settings.missing_description_share
            title, description = describe(theme, draw, with_description=described)
            row: dict[str, object] = {"asin": items[number], "title": title}
            if description is not None:
                row["description"] = description
            if draw[9] >= settings.missing_price_share:
                row["price"] = round(_base_price(theme) * (0.7 + 0.6 * draw[7]), 2)
            if has_picture[number]:
                row["imUrl"] = f"http://images.example/{items[number]}.jpg"
            row["brand"] = theme.brand
            row["categories"] = [["Shop", theme.department, theme.noun.title()]]
            yield f"{row!r}\n"


def _base_price(theme: Theme) -> float:
    """A price that goes with the noun and the material, 5 to about 150."""
    return 5.0 + len(theme.noun) * 6.0 + len(theme.material) * 9.0


def _write_pictures(
    folder: Path,
    world: World,
    items: list[str],
    themes: Themes,
    has_picture: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> None:
    folder.mkdir()
    draws = rng.random((len(items), 6))
    for number in _tracked(np.flatnonzero(has_picture).tolist(), int(has_picture.sum()), "pictures"):
        look = themes[int(world.cluster_of_item[number])].look
        (folder / f"{items[number]}.jpg").write_bytes(draw_picture(look, draws[number].tolist()))


def _truth(world: World, users: list[str], items: list[str]) -> dict[str, object]:
    planted = np.flatnonzero(world.held_out >= 0).tolist()
    bought = np.bincount(world.item, minlength=len(items))
    return {
        "held_out": {users[u]: items[world.held_out[u]] for u in planted},
        "user_clusters": {users[u]: int(c) for u, c in enumerate(world.cluster_of_user) if c >= 0},
        "item_clusters": dict(zip(items, world.cluster_of_item.tolist(), strict=True)),
        "cold_items": [items[i] for i in np.flatnonzero(bought == 0).tolist()],
    }


def _write_lines(path: Path, lines: Iterable[str], total: int, title: str) -> None:
    """A gzip file without a time stamp inside: the same lines give the same bytes."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=2, fileobj=raw, mtime=0) as file:
        buffer: list[str] = []
        for line in _tracked(lines, total, title):
            buffer.append(line)
            if len(buffer) == 2000:
                file.write("".join(buffer).encode())
                buffer.clear()
        file.write("".join(buffer).encode())


def _tracked(values: Iterable[T], total: int, title: str) -> Iterable[T]:
    return track(values, total=total, description=f"generating {title}", console=Console(stderr=True))
