"""Seconds of the whole nearest-neighbour search, beside bare FAISS calls on the same vectors in the same run.

    .venv/bin/python benchmarks/offline/knn.py --rows 498196 --dim 384 --out results.jsonl
    .venv/bin/python benchmarks/offline/knn.py --vectors var/shop/work/text_embeddings/vectors.npy --exact --hnsw

The whole search reads the table, finds each row's neighbours, scores them in float64, measures its recall and writes
the npz. What stands beside it:

- bare IVF-Flat (train, add, search every row), as many lists, and the fewest probes that reach the same recall on the
  same sample of rows; with `--hnsw` HNSW32 too (build, search every row);
- for `--exact` bare IndexFlatIP.search of a sample of rows, its seconds scaled to all rows.

Without --vectors the table is made up: rows on a curved 24-d surface, in groups within groups of Zipf sizes, which is
what sentence vectors of a catalogue look like to a search. Prints one JSON document; `--out` appends it as a line.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
from results import record

from offline_jobs.knn import Knn, nearest, recall_against
from offline_jobs.knn_join import LIST_ROWS, TRAIN_PASSES, TRAIN_ROWS
from training.stage import peak_rss_kib

SAMPLE = 1_000
PROBES = (1, 2, 3, 4, 6, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128)


def make_table(path: Path, rows: int, dim: int, seed: int = 0) -> None:
    """Write unit vectors (rows, dim) float32, a block at a time."""
    rng = np.random.default_rng(seed)
    latent, groups = 24, max(rows // 400, 1)
    lift = rng.normal(size=(latent, dim)) / np.sqrt(latent)
    large = rng.normal(size=(max(groups // 50, 1), latent))
    small = large[rng.integers(0, len(large), groups)] + 0.6 * rng.normal(size=(groups, latent))
    share = 1 / (np.arange(groups) + 10) ** 0.8
    table = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, dim))
    for start in range(0, rows, 16_384):
        part = min(16_384, rows - start)
        place = small[rng.choice(groups, part, p=share / share.sum())] + 0.35 * rng.normal(size=(part, latent))
        block = np.tanh(place @ lift) + 0.03 * rng.normal(size=(part, dim))
        table[start : start + part] = block / np.linalg.norm(block, axis=1, keepdims=True)
    table.flush()


def whole_search(path: Path, out: Path, k: int, *, exact: bool, recall: float) -> tuple[Knn, float]:
    """Our whole function, from the file of vectors to the file of neighbours, and its seconds."""
    start = time.perf_counter()
    vectors = np.load(path, mmap_mode="r")
    present = np.ones(len(vectors), dtype=np.bool_)
    exact_up_to = len(vectors) if exact else 0
    graph = nearest(vectors, present, k, exact_up_to=exact_up_to, recall=recall, scratch=out.parent)
    graph.save(out)
    return graph, time.perf_counter() - start


def sample_recall(index: faiss.Index, table: np.ndarray, rows: np.ndarray, truth: np.ndarray) -> float:
    """Share of the sampled rows' true neighbours (rows, k) that the index finds."""
    found = index.search(table[rows], truth.shape[1] + 1)[1]
    others = np.where(found == rows[:, None], -1, found).astype(np.int32)
    return recall_against(truth, others)


def bare_flat(table: np.ndarray, k: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Seconds of IndexFlatIP for all rows (from a sample), the sample, and its true neighbours (sample, k)."""
    rows = np.sort(np.random.default_rng(1).choice(len(table), min(SAMPLE, len(table)), replace=False))
    index = faiss.IndexFlatIP(table.shape[1])
    index.add(table)
    start = time.perf_counter()
    found = index.search(table[rows], k + 1)[1]
    seconds = (time.perf_counter() - start) * len(table) / len(rows)
    # Itself is not a neighbour; where equal rows crowd it out of its own list, the last one goes.
    itself = found == rows[:, None]
    itself[~itself.any(axis=1), -1] = True
    return seconds, rows, found[~itself].reshape(len(rows), k).astype(np.int32)


def bare_ivf(table: np.ndarray, k: int, goal: float, rows: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """IVF-Flat with our number of lists, at the fewest probes that reach the recall `goal`."""
    lists = max(1, len(table) // LIST_ROWS)
    start = time.perf_counter()
    index = faiss.index_factory(table.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = TRAIN_PASSES
    index.cp.min_points_per_centroid = 1
    sample = np.random.default_rng(0).choice(len(table), min(len(table), lists * TRAIN_ROWS), replace=False)
    index.train(table[np.sort(sample)])
    index.add(table)
    built = time.perf_counter() - start
    recall = 0.0
    for probes in PROBES:
        index.nprobe = probes
        recall = sample_recall(index, table, rows, truth)
        if recall >= goal:
            break
    start = time.perf_counter()
    index.search(table, k + 1)
    searched = time.perf_counter() - start
    return {"seconds": built + searched, "build_s": built, "search_s": searched, "probes": probes, "recall": recall}


def bare_hnsw(table: np.ndarray, k: int, goal: float, rows: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """HNSW32, efConstruction 120, at the smallest efSearch that reaches the recall `goal`."""
    start = time.perf_counter()
    index = faiss.IndexHNSWFlat(table.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 120
    index.add(table)
    built = time.perf_counter() - start
    recall = 0.0
    for depth in (k + 1, 32, 48, 64, 96, 128, 192, 256):
        index.hnsw.efSearch = max(depth, k + 1)
        recall = sample_recall(index, table, rows, truth)
        if recall >= goal:
            break
    start = time.perf_counter()
    index.search(table, k + 1)
    searched = time.perf_counter() - start
    return {"seconds": built + searched, "build_s": built, "search_s": searched, "ef_search": depth, "recall": recall}


def rounded(value: object) -> object:
    """Floats to four digits after the point, inside dicts too."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument(
        "--vectors", type=Path, help="a .npy of unit vectors (rows, dim) float32 instead of made-up ones"
    )
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--recall", type=float, default=0.98, help="what the approximate search is set to reach")
    parser.add_argument("--exact", action="store_true", help="search exactly, whatever the size")
    parser.add_argument("--hnsw", action="store_true", help="measure HNSW32 too, which is slow to build")
    parser.add_argument("--out", type=Path, help="append the result to this file as a JSON line")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.vectors
        if path is None:
            path = Path(folder) / "vectors.npy"
            make_table(path, arguments.rows, arguments.dim)
        before = peak_rss_kib()
        graph, seconds = whole_search(
            path, Path(folder) / "knn.npz", arguments.k, exact=arguments.exact, recall=arguments.recall
        )
        peak = peak_rss_kib()
        table = np.ascontiguousarray(np.load(path), dtype=np.float32)
    flat_seconds, rows, truth = bare_flat(table, arguments.k)
    result: dict[str, object] = {
        "rows": len(table),
        "dim": table.shape[1],
        "k": arguments.k,
        "vectors": str(arguments.vectors) if arguments.vectors else "made up",
        "seconds": seconds,
        "exact": graph.is_exact,
        "recall_by_itself": graph.recall,
        "recall_beside_flat": recall_against(truth, graph.neighbors[rows]),
        "probes": graph.probes,
        "peak_mib": peak / 1024,
        "peak_before_mib": before / 1024,
        "bare_flat_seconds": flat_seconds,
        "bare_flat_gflops": 2 * len(table) ** 2 * table.shape[1] / flat_seconds / 1e9,
        "faiss": faiss.__version__,
    }
    if graph.is_exact:
        result["ratio_to_bare_flat"] = seconds / flat_seconds
    else:
        ivf = bare_ivf(table, arguments.k, graph.recall, rows, truth)
        result |= {"bare_ivf": ivf, "ratio_to_bare_ivf": seconds / ivf["seconds"]}
    if arguments.hnsw:
        hnsw = bare_hnsw(table, arguments.k, graph.recall, rows, truth)
        result |= {"bare_hnsw": hnsw, "ratio_to_bare_hnsw": seconds / hnsw["seconds"]}
    record("knn", rounded(result), arguments.out)


if __name__ == "__main__":
    main()
