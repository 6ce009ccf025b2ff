"""Seconds and memory of judging a model at the size of Amazon Electronics, beside what cannot be saved.

    .venv/bin/python benchmarks/models/evaluation.py whole --out benchmarks/models/results.jsonl
    .venv/bin/python benchmarks/models/evaluation.py floor --users 6320
    .venv/bin/python benchmarks/models/evaluation.py ranx --users 5000

whole   a model of random vectors (192,403 shoppers x 63,001 items; 1.69 million interactions of Zipf popularity, one
        a shopper held out) is judged as every model is: full ranking, slices, figures beyond hits, intervals.
        `--items 498196` takes the candidates that nobody bought too.
floor   ranking beside the product of shoppers' and items' vectors alone, which any full ranking has to make: block by
        block in turns.
ranx    recall and NDCG from rankings and held-out items in memory, beside `ranx` from its own containers (compiled,
        called once before), where its dicts of strings fit.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch

from benchmarks.offline.results import record
from training.evaluation.judge import judge_model
from training.evaluation.significance import compare
from training.ranking_metrics import BLOCK, per_user, rank_all, to_find
from training.stage import peak_rss_kib

USERS, WARM, INTERACTIONS = 192_403, 63_001, 1_689_188


def interactions(users: int, items: int, seed: int = 0) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Train and test (users, items); the items from WARM on are bought by nobody."""
    rng = np.random.default_rng(seed)
    chance = 1 / (np.arange(WARM) + 20) ** 0.8
    count = round(INTERACTIONS * users / USERS)
    user = np.r_[np.arange(users).repeat(3), rng.integers(0, users, count - 3 * users)]
    pair = np.unique(user * items + rng.permutation(WARM)[rng.choice(WARM, count, p=chance / chance.sum())])
    pair = rng.permutation(pair)
    held_out = np.zeros(len(pair), bool)
    held_out[np.unique(pair // items, return_index=True)[1]] = True
    return tuple(  # type: ignore[return-value]
        sp.csr_matrix((np.ones(keep.sum(), np.float32), np.divmod(pair[keep], items)), (users, items))
        for keep in (~held_out, held_out)
    )


def vectors(rows: int, dim: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)


def ranking_beside_floor(users: int, items: int, dim: int) -> dict[str, object]:
    """Seconds of ranking and of the bare products, block by block in turns: by the clock and of the processor."""
    known, _ = interactions(users, items)
    u, i = vectors(users, dim, 1), vectors(items, dim, 2)
    step = 4 * max(1, BLOCK // items)
    ours, floor = np.zeros(2), np.zeros(2)
    for start in range(0, users, step):
        part = np.arange(start, min(start + step, users))
        began = now()
        rank_all(lambda rows: u[rows] @ i.T, part, known, k=20)
        between = now()
        for inner in range(0, len(part), step // 4):
            u[part[inner : inner + step // 4]] @ i.T
        floor += now() - between
        ours += between - began
    return {
        "rank_s": ours[0],
        "matmul_s": floor[0],
        "rank_cpu_s": ours[1],
        "matmul_cpu_s": floor[1],
        "ratio": ours[0] / floor[0],
        "cpu_ratio": ours[1] / floor[1],
    }


def now() -> np.ndarray:
    """Seconds by the clock, seconds of this process's processors."""
    return np.array([time.perf_counter(), time.process_time()])


def metrics_beside_ranx(users: int, items: int, dim: int) -> dict[str, object]:
    """Seconds of recall and NDCG from rankings in memory, ours and ranx's from its own containers."""
    from ranx import Qrels, Run, evaluate

    known, test = interactions(users, items)
    relevant, judged = to_find(known, test)
    u, i = vectors(users, dim, 1), vectors(items, dim, 2)
    ranking = rank_all(lambda rows: u[rows] @ i.T, judged, known, k=20)
    qrels = Qrels({str(user): {str(item): 1 for item in relevant[user].indices} for user in judged.tolist()})
    run = Run(
        {
            str(user): {str(item): 20.0 - place for place, item in enumerate(row)}
            for user, row in zip(judged.tolist(), ranking.rows.tolist(), strict=True)
        }
    )
    names = ["recall@10", "ndcg@10", "recall@20", "ndcg@20"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluate(qrels, run, names, save_results_in_run=True)
    ours_s, theirs_s = [], []
    for _ in range(5):
        began = time.perf_counter()
        ours = per_user(ranking, relevant, [10, 20])
        between = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluate(qrels, run, names, return_mean=False)
        theirs_s.append(time.perf_counter() - between)
        ours_s.append(between - began)
    most = max(
        abs(ours[name][place] - run.scores[name][str(user)]) for name in names for place, user in enumerate(judged)
    )
    found = {"judged_users": len(judged), "ours_s": min(ours_s), "ranx_s": min(theirs_s), "largest_difference": most}
    return found | {"ratio_ranx_to_ours": found["ranx_s"] / found["ours_s"]}


def whole(users: int, items: int, dim: int) -> dict[str, object]:
    """Seconds and memory of the whole judgement, and of comparing two models."""
    known, test = interactions(users, items)
    u, i = vectors(users, dim, 1), vectors(items, dim, 2)
    before = peak_rss_kib() / 1024
    began = time.perf_counter()
    cpu = time.process_time()
    result, shoppers = judge_model(
        "random", "Random vectors", lambda rows: u[rows] @ i.T, known, test,
        dataset="made up", protocol="A", content=i,
    )  # fmt: skip
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = peak_rss_kib() / 1024
    began = time.perf_counter()
    compare({"one": shoppers, "other": shoppers}, "one", draws=1000)
    return {
        "judged_users": result.users,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "rank_seconds": result.rank_seconds,
        "compare_seconds": time.perf_counter() - began,
        "peak_mib": peak,
        "before_mib": before,
        "recall_at_20": result.metrics["recall@20"].mean,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["whole", "floor", "ranx"])
    parser.add_argument("--users", type=int, default=USERS, help="floor and ranx: of whom so many are ranked")
    parser.add_argument("--items", type=int, default=WARM)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--out", type=Path, help="append the result to this file as a JSON line")
    arguments = parser.parse_args()
    size = {"users": arguments.users, "items": arguments.items, "dim": arguments.dim}
    measure = {"whole": whole, "floor": ranking_beside_floor, "ranx": metrics_beside_ranx}[arguments.part]
    figures = rounded(size | {"threads": torch.get_num_threads()} | measure(**size))
    record(f"evaluation_{arguments.part}", figures, arguments.out)


def rounded(figures: dict[str, object]) -> dict[str, object]:
    """Floats to four digits, inside dicts too."""
    return {
        key: rounded(part) if isinstance(part, dict) else float(f"{part:.4g}") if isinstance(part, float) else part
        for key, part in figures.items()
    }


if __name__ == "__main__":
    main()
