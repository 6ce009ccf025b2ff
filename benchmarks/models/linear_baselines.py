"""Neighborhood and linear baselines on the splits of papers: settings by validation, the test split judged once.

    python -m benchmarks.models.linear_baselines amazon-baby rp3beta --out benchmarks/models/results.jsonl
    python -m benchmarks.models.linear_baselines electronics-size sparse-ease      generated: time and memory alone

One process a model, so that peak memory is its own. Seconds are CPU seconds, so that a busy machine changes them
little. Only training items are masked. Where there is no validation split (Gowalla), settings are not searched:
those that Amazon Baby's validation chose are used. Where test labels are kept aside (Sports), validation stands alone.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.models.published_splits import NAMES, PublishedSplit, load_split
from benchmarks.offline.results import record
from training import baselines
from training.ranking_metrics import Scores, per_user, rank_all

Settings = Mapping[str, Any]
ELECTRONICS = "electronics-size"


@dataclass(frozen=True)
class Contender:
    """A baseline, the grid that validation chooses from, and what did best on all of Amazon Baby's validation users."""

    fit: Callable[..., Scores]
    grid: Mapping[str, Sequence[Any]]
    chosen: Settings


CONTENDERS = {
    "popularity": Contender(lambda train: baselines.popularity(np.asarray(train.sum(0)).ravel()), {}, {}),
    "item-knn": Contender(
        baselines.item_knn,
        {"neighbors": (400, 1000), "shrinkage": (50.0, 100.0, 200.0)},
        {"neighbors": 1000, "shrinkage": 100.0},
    ),
    "rp3beta": Contender(
        baselines.rp3beta,
        {"alpha": (0.2, 0.3, 0.4), "beta": (0.05, 0.1, 0.15), "neighbors": (1000,)},
        {"alpha": 0.3, "beta": 0.1, "neighbors": 1000},
    ),
    "ials": Contender(
        baselines.ials,
        {"factors": (64,), "alpha": (1.0, 4.0, 10.0), "regularization": (3.0, 10.0), "iterations": (10,)},
        {"factors": 64, "alpha": 10.0, "regularization": 3.0, "iterations": 10},
    ),
    "ease": Contender(baselines.ease, {"ridge": (200.0, 300.0, 500.0)}, {"ridge": 300.0}),
    "sparse-ease": Contender(
        baselines.sparse_ease,
        {"ridge": (200.0, 300.0, 500.0), "neighbors": (100,)},
        {"ridge": 300.0, "neighbors": 100},
    ),
}

PUBLISHED = {
    ("amazon-baby", "ease"): {"recall@20": 0.0823, "ndcg@20": 0.0396, "source": "an earlier run of this project"},
    ("gowalla", "ease"): {"recall@20": 0.1765, "source": "published, LightGCN's split"},
    ("gowalla", "sparse-ease"): {"recall@20": 0.1765, "source": "published, LightGCN's split, dense EASE"},
    ("gowalla", "item-knn"): {"recall@20": 0.1570, "source": "published, LightGCN's split, ItemCF"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=(*NAMES, ELECTRONICS))
    parser.add_argument("model", choices=CONTENDERS)
    parser.add_argument("--users", type=int, default=0, help="judge a seeded sample of so many users; 0: all")
    parser.add_argument("--search-users", type=int, default=3000, help="validation users that settings are chosen on")
    parser.add_argument("--no-search", action="store_true", help="use what was chosen on Amazon Baby")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    contender = CONTENDERS[args.model]
    if args.dataset == ELECTRONICS:
        train = electronics_size()
        scores, seconds = timed(contender, train, contender.chosen)
        users = np.arange(0, train.shape[0], train.shape[0] // 500)
        start = time.process_time()
        rank_all(scores, users, train, k=20)
        figures = {
            "settings": contender.chosen,
            "interactions": train.nnz,
            "rank_ms_a_user": round((time.process_time() - start) / len(users) * 1e3, 2),
        }
    else:
        figures, seconds = judged(args.dataset, args.model, contender, args)
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    line = {"dataset": args.dataset, "model": args.model, **figures, "fit_seconds": seconds, "peak_mib": peak}
    record("linear baselines", line, args.out)


def judged(dataset: str, model: str, contender: Contender, args: argparse.Namespace) -> tuple[dict[str, Any], float]:
    """Choose on validation, fit, judge validation and test."""
    split = load_split(dataset)
    settings, tried = contender.chosen, []
    if split.validation.nnz and contender.grid and not args.no_search:
        settings, tried = chosen_on_validation(contender, split, args.search_users)
    scores, seconds = timed(contender, split.train, settings)
    figures: dict[str, Any] = {"settings": settings, "searched": tried, "users": args.users or "all"}
    for part in ("validation", "test"):
        held_out = getattr(split, part)
        figures[part] = quality(scores, split.train, held_out, args.users) if held_out.nnz else None
    figures["published"] = PUBLISHED.get((dataset, model))
    return figures, seconds


def chosen_on_validation(
    contender: Contender, split: PublishedSplit, users: int
) -> tuple[Settings, list[tuple[Settings, float]]]:
    """The settings with the best validation recall@20, and all that was tried."""
    tried = []
    for values in itertools.product(*contender.grid.values()):
        settings = dict(zip(contender.grid, values, strict=True))
        scores = contender.fit(split.train, **settings)
        tried.append((settings, quality(scores, split.train, split.validation, users)["recall@20"]))
        print(*tried[-1], flush=True)
    return max(tried, key=lambda one: one[1])[0], tried


def timed(contender: Contender, train: sp.csr_matrix, settings: Settings) -> tuple[Scores, float]:
    start = time.process_time()
    scores = contender.fit(train, **settings)
    return scores, round(time.process_time() - start, 2)


def quality(scores: Scores, train: sp.csr_matrix, held_out: sp.csr_matrix, most: int) -> dict[str, float]:
    """Recall@20 and NDCG@20, training items masked, over all users with held-out items or a seeded sample of them."""
    users = np.flatnonzero(np.diff(held_out.indptr))
    if 0 < most < len(users):
        users = np.sort(np.random.default_rng(0).choice(users, most, replace=False))
    found = per_user(rank_all(scores, users, train, k=20), held_out, [20])
    return {name: round(float(values.mean()), 5) for name, values in found.items()}


def electronics_size(seed: int = 0) -> sp.csr_matrix:
    """Generated interactions of Amazon Electronics' size: 192,403 users, 63,001 items, 1.5 M of them.

    Long tails on both sides, and 1,000 clusters of items: half of what a user buys is of two of them.
    """
    rng = np.random.default_rng(seed)
    users, items, clusters = 192_403, 63_001, 1000
    degree = np.minimum(4 + rng.pareto(1.6, users) * 3.2, 400).astype(np.int64)
    user = np.repeat(np.arange(users), degree)
    weight = 1 / (np.arange(items) + 20.0) ** 0.8
    anywhere = np.searchsorted(np.cumsum(weight / weight.sum()), rng.random(len(user)))
    # Items of cluster c are those whose row is c modulo the clusters: popular and rare ones alike.
    cluster = rng.integers(0, clusters, (users, 2))[user, rng.integers(0, 2, len(user))]
    near = np.minimum(anywhere // clusters * clusters + cluster, items - 1)
    item = np.where(rng.random(len(user)) < 0.5, near, np.minimum(anywhere, items - 1))
    matrix = sp.csr_matrix((np.ones(len(user), np.float32), (user, item)), (users, items))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


if __name__ == "__main__":
    main()
