"""Latency and recall of filtered retrieval by selectivity, for every plan, on 498,196 x 128 clustered Zipf vectors.

    .venv/bin/python benchmarks/serving/filtered.py --cache /tmp/filtered

The index (HNSW32; 7 minutes of CPU to build) is kept in the folder given by --cache. Prints Markdown: p50 / p99 in
milliseconds of one thread's CPU time, and recall@200 against an exact search. *Served* is what the service does: its
plan, and what follows where that finds too few. The three ways are then measured each by itself.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from service.bundle.manifest import FaissIndex
from service.filter_plan import FILTERED_DEPTH, Passing, fetch
from service.retrieve import Retriever

ITEMS, DIM = 498_196, 128
CLUSTERS, DEPARTMENTS = 4_000, 40
COUNT = 200
EF_SEARCH = 300
"""The depth at which the index finds .95 of the 200 nearest, which is what the offline stage asks of it."""
DEEPEST = 30_000
"""Deeper searches take seconds."""
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Search = Callable[[Floats, Rows], Rows]


def unit(vectors: Floats) -> Floats:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def noise(random: np.random.Generator, count: int) -> Floats:
    """(count, DIM) of length about 1."""
    return random.standard_normal((count, DIM), np.float32) / np.float32(np.sqrt(DIM))


def make_items(items: int) -> tuple[Floats, Rows]:
    """(items, DIM) unit vectors, and the cluster of each: Zipf sizes, clusters gathered into departments."""
    random = np.random.default_rng(5)
    departments = unit(noise(random, DEPARTMENTS))
    centers = unit(departments[np.arange(CLUSTERS) % DEPARTMENTS] + noise(random, CLUSTERS))
    share = 1 / np.arange(1, CLUSTERS + 1)
    cluster = random.choice(CLUSTERS, items, p=share / share.sum()).astype(np.int32)
    return unit(centers[cluster] + np.float32(0.8) * noise(random, items)), cluster


def index_path(folder: Path, items: int) -> Path:
    return folder / f"hnsw32-{items}.faiss"


def cached_index(vectors: Floats, folder: Path) -> Any:
    """The index as the offline stage builds it, kept in a folder."""
    path = index_path(folder, len(vectors))
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        index = faiss.index_factory(DIM, "HNSW32,Flat", faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 200
        index.add(vectors)
        faiss.write_index(index, str(path))
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)


def make_queries(vectors: Floats, cluster: Rows, count: int, random: np.random.Generator) -> tuple[Floats, list[Rows]]:
    """Shoppers: the direction of a few items of one cluster, half of them with one from anywhere; and 30 seen items."""
    found, seen = [], []
    for _ in range(count):
        near = np.flatnonzero(cluster == cluster[random.integers(len(vectors))])
        picked = random.choice(near, min(len(near), int(random.integers(1, 6))), replace=False)
        found.append(vectors[picked].sum(axis=0) + random.integers(2) * vectors[random.integers(len(vectors))])
        seen.append(np.unique(random.choice(near, 30)).astype(np.int32))
    return unit(np.array(found, np.float32)), seen


def make_mask(kind: str, share: float, cluster: Rows, random: np.random.Generator) -> Mask:
    """`scattered`: whatever the vectors, as a price is. `clustered`: whole clusters, as a category is."""
    if kind == "scattered":
        return random.random(len(cluster)) < share
    mask = np.zeros(len(cluster), np.bool_)
    sizes = np.bincount(cluster, minlength=CLUSTERS)
    total = 0
    for one in random.permutation(CLUSTERS):
        if total + sizes[one] <= share * len(cluster) * 1.02:
            mask |= cluster == one
            total += sizes[one]
    return mask


@dataclass
class Figures:
    """Milliseconds and recall of one way, a shopper an entry."""

    ms: list[float]
    recall: list[float]

    def __str__(self) -> str:
        p50, p99 = np.percentile(self.ms, (50, 99))
        return f"{p50:.2f} / {p99:.2f} | {np.mean(self.recall):.3f}"


class Bench:
    """The index, the shoppers and the exact answers."""

    def __init__(self, vectors: Floats, index: Any, queries: Floats, seen: list[Rows], folder: Path) -> None:
        described = FaissIndex(
            factory="HNSW32,Flat", dim=DIM, ntotal=len(vectors), ef_search=EF_SEARCH, recall_at={}, queries=1
        )
        # Of a bundle, retrieval looks at no more than this.
        manifest = SimpleNamespace(index=described, num_candidates=COUNT)
        bundle: Any = SimpleNamespace(manifest=manifest, item_vectors=vectors, index_path=folder)
        self.retriever = Retriever(bundle)
        self.index, self.queries, self.seen = index, queries, seen
        self.scores = queries @ vectors.T
        for scores, rows in zip(self.scores, seen, strict=True):
            scores[rows] = -2.0

    def warm_up(self) -> None:
        """Both files are mapped: what is read for the first time comes from the disk."""
        self.index.search(self.queries, COUNT)
        for query, seen in zip(self.queries, self.seen, strict=True):
            self.retriever.search(query, COUNT, at_least=20, exclude=seen)

    def measure(self, search: Search, mask: Mask, most: int) -> Figures:
        """Each shopper's search once, by this thread's CPU time; and what it found of the exact answer."""
        figures = Figures([], [])
        for query, scores, seen in list(zip(self.queries, self.scores, self.seen, strict=True))[:most]:
            started = time.thread_time()
            rows = search(query, seen)
            figures.ms.append((time.thread_time() - started) * 1000)
            passing = np.where(mask, scores, -2.0)
            best = np.sort(passing[passing > -2.0])[-COUNT:]
            found = passing[rows] >= best[0] - 1e-5  # what rounds to the same score is as good
            figures.recall.append(float(found[:COUNT].sum() / len(best)) if len(best) else 1.0)
        return figures

    def row(self, kind: str, share: float, mask: Mask) -> str:
        """One line of the table."""
        passing = None if share == 1.0 else Passing.of(mask)
        retriever = self.retriever

        def served(query: Floats, seen: Rows) -> Rows:
            return retriever.search(query, COUNT, at_least=20, exclude=seen, passing=passing).rows

        def exact(query: Floats, seen: Rows) -> Rows:
            return retriever.exact(query, COUNT, exclude=seen, passing=passing).rows

        wanted = fetch(COUNT + 30, float(mask.mean()))
        depth = max(wanted, EF_SEARCH if passing is None else FILTERED_DEPTH * EF_SEARCH)
        dropping = faiss.SearchParametersHNSW(efSearch=depth)
        keeping = faiss.SearchParametersHNSW(
            efSearch=depth, sel=faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        )

        def post_filter(query: Floats, seen: Rows) -> Rows:
            rows = self.index.search(query[None], wanted, params=dropping)[1][0]
            return rows[(rows >= 0) & mask[rows] & ~np.isin(rows, seen)][:COUNT]

        def selector(query: Floats, seen: Rows) -> Rows:
            rows = self.index.search(query[None], COUNT + 30, params=keeping)[1][0]
            return rows[(rows >= 0) & ~np.isin(rows, seen)][:COUNT]

        cells = [kind, f"{mask.mean():.1%}", str(retriever.plan(passing)), str(self.measure(served, mask, 200))]
        cells.append(str(self.measure(exact, mask, 50)).split(" | ")[0])
        for search in (post_filter, selector):
            too_deep = wanted > DEEPEST
            cells.append("– | –" if too_deep else str(self.measure(search, mask, 200 if wanted < 5_000 else 20)))
        return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--items", type=int, default=ITEMS)
    args = parser.parse_args()
    random = np.random.default_rng(6)
    vectors, cluster = make_items(args.items)
    index = cached_index(vectors, args.cache)
    queries, seen = make_queries(vectors, cluster, 200, random)
    bench = Bench(vectors, index, queries, seen, index_path(args.cache, args.items))
    bench.warm_up()
    print("| items that pass | share | plan | served, ms | recall | exact, ms", end=" ")
    print("| post-filter, ms | recall | selector, ms | recall |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    print(bench.row("all", 1.0, np.ones(len(vectors), np.bool_)), flush=True)
    for kind in ("scattered", "clustered"):
        for share in (0.5, 0.2, 0.1, 0.05, 0.01, 0.001):
            print(bench.row(kind, share, make_mask(kind, share, cluster, random)), flush=True)


if __name__ == "__main__":
    main()
