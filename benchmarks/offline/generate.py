"""How fast a generated shop is written: reviews and metadata, and pictures, beside bare gzip of the same bytes.

    python benchmarks/offline/generate.py --items 498196 --users 192403 --interactions 1689188 --pictures 5000

The reference compresses the same uncompressed lines, in the same run on one core, at the same level: what writing a
.gz costs whoever makes the lines. Peak memory is of the largest process and of its largest child.
"""

from __future__ import annotations

import argparse
import gzip
import resource
import shutil
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
from results import record

from offline_jobs.generated_plan import plan_world
from offline_jobs.generated_settings import GeneratedShopSettings
from offline_jobs.generated_shop import generate_shop


def gini(counts: np.ndarray) -> float:
    """Gini coefficient of positive counts."""
    ordered = np.sort(counts)
    return float((2 * np.arange(1, len(ordered) + 1) - len(ordered) - 1) @ ordered / (len(ordered) * ordered.sum()))


def shape(settings: GeneratedShopSettings) -> dict[str, float]:
    """The plan's seconds and its degrees."""
    start = time.perf_counter()
    world = plan_world(settings)
    seconds = time.perf_counter() - start
    item = np.bincount(world.item, minlength=settings.items)
    item, user = np.sort(item[item > 0])[::-1], np.bincount(world.user)
    return {
        "plan_s": round(seconds, 2),
        "warm_items": len(item),
        "cold_share": round(1 - len(item) / settings.items, 4),
        "item_median": float(np.median(item)),
        "item_max": int(item[0]),
        "item_gini": round(gini(item), 4),
        "top_1_percent_share": round(float(item[: len(item) // 100].sum() / item.sum()), 4),
        "user_median": float(np.median(user)),
        "user_max": int(user.max()),
        "user_gini": round(gini(user), 4),
    }


def bare_gzip(files: list[Path]) -> tuple[float, int]:
    """Seconds to compress the lines of `files` again, level 1, one core, and their bytes."""
    seconds, size = 0.0, 0
    for path in files:
        packer = zlib.compressobj(1, wbits=31)
        with gzip.open(path) as file:
            while block := file.read(1 << 22):
                start = time.perf_counter()
                packer.compress(block)
                seconds += time.perf_counter() - start
                size += len(block)
    return seconds, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=49_820)
    parser.add_argument("--users", type=int, default=19_240)
    parser.add_argument("--interactions", type=int, default=168_919)
    parser.add_argument("--pictures", type=int, default=2_000, help="about so many are drawn, in a shop of their own")
    parser.add_argument("--out", type=Path, help="append one JSON line to this file")
    given = parser.parse_args()
    settings = GeneratedShopSettings(
        items=given.items, users=given.users, interactions=given.interactions, image_share=0
    )
    folder = Path(tempfile.mkdtemp(prefix="generate-"))
    try:
        result = {**vars(given), **shape(settings)}
        start = time.perf_counter()
        generate_shop(settings, folder / "text")
        seconds = time.perf_counter() - start
        reference, size = bare_gzip([folder / "text/reviews.json.gz", folder / "text/meta.json.gz"])
        start = time.perf_counter()
        few = GeneratedShopSettings(items=max(40, given.pictures), users=20, image_share=1, other_purchases=1)
        generate_shop(few, folder / "pictures")
        drawn = time.perf_counter() - start
    finally:
        shutil.rmtree(folder)
    rows = given.items + given.interactions
    result |= {
        "text_s": round(seconds, 2),
        "rows_per_s": round(rows / seconds),
        "text_mib": round(size / 2**20),
        "bare_gzip_one_core_s": round(reference, 2),
        "ratio_to_bare_gzip": round(seconds / reference, 2),
        "pictures_per_s": round(few.items / drawn),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "peak_child_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
    }
    del result["out"]
    record("generate", result, given.out)


if __name__ == "__main__":
    main()
