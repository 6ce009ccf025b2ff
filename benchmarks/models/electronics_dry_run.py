"""One epoch at the size of Amazon Electronics, with the settings of its preset: seconds and memory of each part.

    python -m benchmarks.models.electronics_dry_run [--epochs 1] [--out results.jsonl]

Interactions are those of the generated shop (192,403 shoppers, 63,001 items with purchases, 1,689,188 purchases).
There are no encoders here: content is random, as wide as the real one (128 fused, 192 words), and an item's 20 nearest
by text and by image are drawn at random too. So nothing can be said of quality, and memory is reached at random, which
is slower than real neighbors are.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.models.gat_rungs import preset_settings
from benchmarks.offline.results import record
from offline_jobs.generated_plan import plan_world
from offline_jobs.generated_settings import GeneratedShopSettings
from service.neighborhood import Relation
from training.dataset import TRAIN, VALIDATION, Dataset, Interactions
from training.fit import GatFit
from training.linear import LinearSettings, linear_graph
from training.stage import peak_rss_kib
from training.tables import validation_recall

SIZE = {"items": 498_196, "users": 192_403, "interactions": 1_689_188}
CONTENT, DEGREE = 128 + 192, 20
HELD_OUT = 0.1


def generated(size: dict[str, int]) -> Dataset:
    """The items with purchases, the newest tenth of the interactions as validation."""
    world = plan_world(GeneratedShopSettings.model_validate(size))
    sold, item = np.unique(world.item, return_inverse=True)
    split = np.full(len(item), TRAIN, np.int8)
    split[np.argsort(world.timestamp, kind="stable")[round((1 - HELD_OUT) * len(item)) :]] = VALIDATION
    rng = np.random.default_rng(0)
    near = {name: rng.integers(0, len(sold), (len(sold), DEGREE), np.int32) for name in ("text_knn", "image_knn")}
    return Dataset(
        Interactions(
            world.user.astype(np.int32),
            item.astype(np.int32),
            world.timestamp.astype(np.int64),
            split,
            size["users"],
            len(sold),
        ),
        rng.standard_normal((len(sold), CONTENT), np.float32) / np.float32(CONTENT**0.5),
        {name: Relation(rows, np.full(rows.shape, 0.5, np.float32)) for name, rows in near.items()},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="of the size, for a trial")
    parser.add_argument("--batch-size", type=int, help="shoppers a step; each step propagates over the whole graph")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="Append the figures to this file")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    figures: dict[str, object] = {"threads": given.threads, "share": given.share}

    @contextmanager
    def part(name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        spent = (time.perf_counter() - wall, time.process_time() - cpu, peak_rss_kib() / 1024)
        figures.update(zip((f"{name}_wall_s", f"{name}_cpu_s", f"{name}_peak_mib"), map(round, spent), strict=True))
        print(name, figures, flush=True)

    settings = preset_settings("amazon-electronics")
    if given.batch_size:
        settings = settings.model_copy(update={"batch_size": given.batch_size})
    with part("shop"):
        data = generated({name: round(given.share * size) for name, size in SIZE.items()})
    train, validation = (data.interactions.within([split]) for split in (TRAIN, VALIDATION))
    steps = math.ceil(train.num_users / settings.batch_size)
    figures |= {
        "steps": steps,
        "users": train.num_users,
        "items": train.num_items,
        "train": len(train),
        "held_out": len(validation),
    }
    with part("linear"):
        graph = linear_graph(train.matrix(), data.relations, LinearSettings())
    with part("start"):
        fit = GatFit(data, train, settings, graph)
    for number in range(given.epochs):
        with part("epoch"):
            figures["loss"] = round(fit.epoch(number), 4)
    with part("look"):
        validation_recall(fit.tables(), train, validation, settings.history_length)
    record("electronics-dry-run", figures | {"settings": settings.model_dump()}, given.out)


if __name__ == "__main__":
    main()
