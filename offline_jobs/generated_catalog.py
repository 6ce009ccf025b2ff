"""The generated shop's metadata: a Python-literal an item, as the real ones are; a missing field has no key."""

from __future__ import annotations

import numpy as np

from offline_jobs.generated_plan import Plan, open_plan
from offline_jobs.generated_words import DEPARTMENTS, Theme, describe
from offline_jobs.generated_world import Ints

PART = 4
CHUNK = 10_000
"""Items a chunk."""
ROOT = "Shop"
RELATED = ("also_bought", "also_viewed")
NOUN_NUMBER = {noun: number for number, (_, noun) in enumerate(DEPARTMENTS)}


def write_chunk(folder: str, chunk: int) -> bytes:
    """Chunk `chunk` of the metadata of the plan in `folder`, in order of item numbers."""
    plan = open_plan(folder)
    settings = plan.settings
    items = np.arange(chunk * CHUNK, min((chunk + 1) * CHUNK, settings.items))
    rng = plan.random(PART, chunk)
    draws = rng.random((len(items), 13)).tolist()
    spread = rng.normal(size=len(items)).tolist()
    related = _related(plan, items, rng)
    rows = zip(
        plan.item_ids[items].astype("U10").tolist(), plan.cluster_of_item[items].tolist(), draws, spread,
        plan.has_picture[items].tolist(), plan.bought[items].tolist(), related, strict=True,
    )  # fmt: skip
    lines = []
    for item_id, cluster, draw, z, has_picture, bought, neighbours in rows:
        theme = plan.theme(cluster)
        title, description = describe(theme, draw, with_description=draw[9] >= settings.missing_description_share)
        parts = [f"'asin': '{item_id}', 'title': {title!r}"]
        if description is not None:
            parts.append(f"'description': {description!r}")
        if draw[10] >= settings.missing_price_share:
            parts.append(f"'price': {price(theme, z, draw[7])}")
        if has_picture:
            parts.append(f"'imUrl': '{settings.image_url}{item_id}.jpg'")
        if draw[11] < 0.75:
            parts.append(f"'related': {{{neighbours}}}")
        if bought or draw[11] < 0.6:
            rank = 1 + int(settings.items / (1 + 3 * bought) * (0.5 + draw[12]))
            parts.append(f"'salesRank': {{'{theme.department}': {rank}}}")
        parts.append(f"'brand': '{theme.brand}', 'categories': {categories(theme, draw[12])!r}")
        lines.append(f"{{{', '.join(parts)}}}\n")
    return "".join(lines).encode()


def price(theme: Theme, z: float, draw: float) -> float:
    """Log-normal about what such a thing costs (6 to about 190), brand and material included; most end in .99."""
    number = NOUN_NUMBER[theme.noun]
    median = 6.0 * 32.0 ** (number * 29 % len(DEPARTMENTS) / len(DEPARTMENTS))
    median *= 0.7 + len(theme.material) / 9 + len(theme.brand) / 40
    value = median * float(np.exp(0.4 * z))
    return round(int(value) + 0.99, 2) if draw < 0.6 else round(value, 2)


def categories(theme: Theme, draw: float) -> list[list[str]]:
    """Paths in the tree of categories, three or four deep; some items stand in two places."""
    noun = theme.noun.title()
    path = [ROOT, theme.department, noun]
    if NOUN_NUMBER[theme.noun] % 2:
        path = [ROOT, theme.department, noun, f"{theme.material.title()} {noun}"]
    return [path, [ROOT, "Gifts", theme.style.title()]] if draw < 0.1 else [path]


def _related(plan: Plan, items: Ints, rng: np.random.Generator) -> list[str]:
    """What `related` holds, written out: items of the same cluster, three of each kind."""
    cluster = plan.cluster_of_item[items]
    start, end = plan.offsets[cluster], plan.offsets[cluster + 1]
    drawn = start[:, None] + (rng.random((len(items), 6)) * (end - start)[:, None]).astype(np.int64)
    names = plan.item_ids[plan.by_cluster[drawn]].astype("U10").tolist()
    return [
        f"'{RELATED[0]}': ['{a}', '{b}', '{c}'], '{RELATED[1]}': ['{d}', '{e}', '{f}']" for a, b, c, d, e, f in names
    ]
