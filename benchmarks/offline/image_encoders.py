"""Which image encoder's nearest neighbours are bought together most: the offline encoders, and mixtures of them.

    .venv/bin/python benchmarks/offline/image_encoders.py --data FOLDER --work WORK --scratch var/encoders --seconds 200

Reads a work folder whose ingest and split have finished. Two items are bought together where one customer bought both
within 7 days and 10 purchases; only training and validation rows are read. Figures: the mean share of an item's
companions among its 20 nearest by cosine, with a bootstrap interval over items, its difference from the first row on
the same items, and the share of the 20 that are of the same category. Each encoder's features are kept in --scratch
shard by shard: with --seconds the command stops after so long and goes on when it is run again. A JSON line a row.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from results import record
from scipy.sparse import csr_array

from offline_jobs.array_types import BoolArray, FloatArray, IntArray
from offline_jobs.co_bought import read_interactions, training_pairs
from offline_jobs.compute import available_threads
from offline_jobs.embedding_shards import Status, Vectors, finish_shards, finished_shards, normalise
from offline_jobs.image_embeddings import find_images, read_references, shard_encoder
from offline_jobs.image_encoders import OFFLINE, WIDTH
from offline_jobs.image_projection import fit_projection
from offline_jobs.image_settings import ImageEmbeddingSettings, choose_encoder
from offline_jobs.image_store import ImageStore
from training.dataset import TRAIN, VALIDATION
from training.stage import require
from training.threads import torch_threads

K = 20
SHARD = 1024
DRAWS = 1_000
"""Bootstrap samples."""
REFERENCE = "resnet18 as it is"

Table = npt.NDArray[np.float32]


class TimeIsUpError(Exception):
    """The seconds have passed; what is done is kept."""


def features_of(name: str, data: Path, references: list[str | None], scratch: Path, deadline: float) -> Table:
    """The encoder's rooted features (items, features) float32 unit rows, zero where absent."""
    settings = ImageEmbeddingSettings.model_validate({"encoder": name})
    chosen = choose_encoder(settings)
    folder = scratch / name
    folder.mkdir(parents=True, exist_ok=True)
    with ImageStore(data) as store, ThreadPoolExecutor(available_threads(0)) as pool, torch_threads(1):
        store.open_archives(references)
        images = find_images(store, references, pool)
        inner = shard_encoder(chosen.load(), store, images.distinct, pool, chosen.batch_size)

        def encode(start: int, stop: int, advance: Callable[[int], None]) -> tuple[Vectors, Status]:
            if time.monotonic() > deadline:
                raise TimeIsUpError
            return inner(start, stop, advance)

        count = len(images.distinct)
        finish_shards(folder, count, width=chosen.features, shard_size=SHARD, label=name, encode=encode)
    table = np.zeros((len(references), chosen.features), np.float32)
    distinct = [vectors for _, vectors, _ in finished_shards(folder, count, width=chosen.features, shard_size=SHARD)]
    table[images.row >= 0] = np.concatenate(distinct)[images.row[images.row >= 0]]
    return table


@dataclasses.dataclass(frozen=True)
class Companions:
    """The items to ask for, and what was bought with them."""

    queries: IntArray
    bought: csr_array
    """Bool (items, items)."""
    category: npt.NDArray[np.int64]
    present: BoolArray

    def judge(self, vectors: FloatArray) -> tuple[FloatArray, float]:
        """Each query's recall@20 of its companions, and the mean share of its 20 nearest in its own category."""
        recall, alike = np.zeros(len(self.queries), np.float32), np.zeros(len(self.queries), np.float32)
        for block in np.array_split(np.arange(len(self.queries)), max(1, len(self.queries) // 500)):
            rows = self.queries[block]
            scores = vectors[rows] @ vectors.T
            scores[:, ~self.present] = -np.inf
            scores[np.arange(len(rows)), rows] = -np.inf
            nearest = np.argpartition(-scores, K, axis=1)[:, :K]
            bought = self.bought[rows].toarray()
            recall[block] = np.take_along_axis(bought, nearest, axis=1).sum(axis=1) / bought.sum(axis=1)
            alike[block] = (self.category[nearest] == self.category[rows][:, None]).mean(axis=1)
        return recall, float(alike.mean())


def companions(work: Path, present: BoolArray, queries: int) -> Companions:
    """From training and validation rows alone; at most so many items to ask for, drawn with a fixed seed."""
    rows = read_interactions(require(work, "split"), len(present))
    known = rows.where(rows.split <= VALIDATION)
    known = dataclasses.replace(known, split=np.full_like(known.split, TRAIN))
    pairs = training_pairs(known, window_days=7, reach=10, seed=0)
    pairs = pairs[present[pairs].all(axis=1) & (pairs[:, 0] != pairs[:, 1])]
    left, right = np.concatenate([pairs, pairs[:, ::-1]]).T
    asked = np.unique(left)
    if len(asked) > queries:
        asked = np.sort(np.random.default_rng(0).choice(asked, queries, replace=False))
    shape = (len(present), len(present))
    category = pl.read_parquet(require(work, "ingest") / "items.parquet")["category"].fill_null("").to_numpy()
    bought = csr_array((np.ones(len(left), np.bool_), (left, right)), shape=shape)
    return Companions(asked, bought, np.unique(category, return_inverse=True)[1], present)


def variants(tables: dict[str, Table]) -> Iterator[tuple[str, Table]]:
    """Name and unit rows of everything that is compared."""
    if "resnet18" in tables:
        yield REFERENCE, normalise(tables["resnet18"] ** 2)
    for name, table in tables.items():
        yield name, fit_projection([table], table.shape[1], WIDTH)(table)
    best = next(iter(tables))
    table = tables[best]
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((table.shape[1], WIDTH)))[0].astype(np.float32)
    yield f"{best}, random orthogonal projection", normalise(table @ turn)
    yield f"{best}, features as they are", normalise(table**2)
    names = list(tables)
    for mixed in [names[:2], [names[0], names[-1]], names]:
        if len(mixed) > 1:
            table = normalise(np.concatenate([tables[name] for name in mixed], axis=1))
            yield " + ".join(mixed), fit_projection([table], table.shape[1], WIDTH)(table)


def interval(values: FloatArray) -> list[float]:
    """Mean and 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(DRAWS)]
    return [round(float(x), 5) for x in (values.mean(), *np.percentile(means, [2.5, 97.5]))]


def main() -> None:
    """Encode what is not encoded yet, then compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the shop's folder")
    parser.add_argument("--work", type=Path, required=True, help="work folder with ingest and split")
    parser.add_argument("--scratch", type=Path, required=True, help="folder to keep features in")
    parser.add_argument("--encoder", action="append", choices=list(OFFLINE))
    parser.add_argument("--queries", type=int, default=4_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop encoding after so long")
    parser.add_argument("--out", type=Path, help="file to append the JSON lines to")
    given = parser.parse_args()
    deadline = time.monotonic() + given.seconds
    references = read_references(require(given.work, "ingest") / "items.parquet")
    try:
        tables = {
            name: features_of(name, given.data, references, given.scratch, deadline)
            for name in given.encoder or OFFLINE
        }
    except TimeIsUpError:
        print("time is up; run the same command again to go on")
        return
    asked = companions(given.work, np.logical_and.reduce([t.any(axis=1) for t in tables.values()]), given.queries)
    reference: FloatArray | None = None
    for name, vectors in variants(tables):
        recall, alike = asked.judge(vectors)
        reference = recall if reference is None else reference
        line: dict[str, Any] = {"encoder": name, "queries": len(recall)}
        line |= {"recall_at_20": interval(recall), "minus_first_row": interval(recall - reference)}
        line |= {"same_category": round(alike, 4)}
        record("image encoders", line, given.out)


if __name__ == "__main__":
    main()
