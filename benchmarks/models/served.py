"""What is served against what was measured: every judged user through the service's own stages, from the bundle.

    python benchmarks/models/served.py --run <run> --split validation --out results.jsonl

For each user with something to find: the bundle's history, user tower (onnxruntime), index (FAISS), re-ranker
(onnxruntime), best 20. Beside it the same users by `training.topk`: exact retrieval and torch. Prints the metrics of
both, their largest difference, the share of equal lists, candidate recall, and milliseconds a user.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from service.bundle.store import active_version
from service.cache import AnswerCache
from service.domain import Query
from service.generation import Generation, open_generation
from service.memory_cache import MemoryCache
from service.recommend import Recommender, Work
from service.selection import Selections
from training.dataset import TEST, TRAIN, VALIDATION, load_interactions
from training.ranking_metrics import Ranking, per_user, to_find
from training.run import work_of
from training.stages import read_recipe
from training.topk import RunModel

K = 20


@dataclass(frozen=True)
class Served:
    """Answers of the service's stages."""

    ranking: Ranking
    candidates: Ranking
    ms_a_user: float


def no_cache(_: Generation) -> AnswerCache:
    """Nothing is asked twice here."""
    return AnswerCache(MemoryCache(max_entries=1, ttl_seconds=1), None, lambda tier, result: None)


def serve(bundle_root: Path, users: list[str]) -> Served:
    """Best K and the candidates of each user id, one user at a time as online."""
    generation = open_generation(bundle_root / active_version(bundle_root), num_candidates=None, cache=no_cache)
    count = generation.num_candidates
    recommender = Recommender(Selections(), rerank_budget_s=None, observe_stage=lambda stage, seconds: None)
    found, best = np.full((len(users), count), -1, np.int64), np.full((len(users), K), -1, np.int64)
    start = time.perf_counter()
    for at, user_id in enumerate(users):
        work = Work(Query(user_id, K, "benchmark"), generation.catalog, generation.shoppers.row(user_id))
        (answer,) = recommender.answers(generation, [work])
        assert work.candidates is not None
        found[at, : len(work.candidates.rows)] = work.candidates.rows
        best[at, : len(answer.rows)] = answer.rows
    spent = (time.perf_counter() - start) * 1000 / max(len(users), 1)
    rows = np.arange(len(users))
    return Served(Ranking(rows, best), Ranking(rows, found), spent)


def compare(run: Path, split: int, most: int) -> dict[str, object]:
    """Metrics of both ways on the users of one split."""
    work = work_of(run)
    recipe = read_recipe(work)
    everything = load_interactions(work)
    known = everything.within(recipe.published())
    relevant, users = to_find(known.matrix(), everything.within([split]).matrix())
    if most and len(users) > most:
        users = np.sort(np.random.default_rng(0).choice(users, most, replace=False))
    model = RunModel.of(run)
    served = serve(run / "bundles", model.user_ids.gather(users).to_list())
    rows, _ = model.top(users, K, None)
    ways = {"served": served.ranking.rows, "offline": rows}
    metrics = {
        name: {k: round(float(v.mean()), 5) for k, v in per_user(Ranking(users, top), relevant, [K]).items()}
        for name, top in ways.items()
    }
    width = served.candidates.rows.shape[1]
    candidate = per_user(Ranking(users, served.candidates.rows), relevant, [width])[f"recall@{width}"].mean()
    difference = max(abs(metrics["served"][k] - metrics["offline"][k]) for k in metrics["served"])
    return {
        "users": len(users),
        **metrics,
        "largest_difference": round(difference, 5),
        "equal_lists": round(float((ways["served"] == ways["offline"]).all(1).mean()), 5),
        f"candidate_recall@{width}": round(float(candidate), 5),
        "ms_a_user": round(served.ms_a_user, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--split", choices=("train", "validation", "test"), default="validation")
    parser.add_argument("--users", type=int, default=0, help="at most so many users, drawn by seed; 0: all")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    split = {"train": TRAIN, "validation": VALIDATION, "test": TEST}[asked.split]
    figures = compare(asked.run, split, asked.users)
    described = json.loads((asked.run / "run.json").read_text())
    line = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "benchmark": "served",
        "preset": described["preset"],
        "seed": described["seed"],
        "split": asked.split,
        **figures,
    }
    print(json.dumps(line, indent=1))
    if asked.out:
        with asked.out.open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
