"""Federated averaging on Amazon Baby: validation recall@20 by round, clients and shards, beside the central fit.

    python benchmarks/models/federated.py --out /tmp/federated.jsonl --only central

The central fit is one client with every shopper: plain SGD. Judged on validation, on a fixed sample of its shoppers.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from published_splits import load_split

from training.extended.federated import FederatedSettings, federated_fit, items_of, shards_of
from training.extended.history_softmax import history_scores
from training.extended.privacy import epsilon
from training.ranking_metrics import per_user, rank_all

JUDGED = 2_000
DELTA = 1e-4
"""Below one in the number of clients of any run here."""

# name -> clients, shards, settings beyond the defaults
RUNS: dict[str, tuple[int, str, dict[str, float | int | None]]] = {
    "central": (1, "random", {"rounds": 10}),
    "10 random": (10, "random", {"rounds": 10, "server_rate": 3.0}),
    "10 activity": (10, "activity", {"rounds": 10, "server_rate": 3.0}),
    "100 random": (100, "random", {"rounds": 20, "participation": 0.5, "server_rate": 10.0}),
    "100 activity": (100, "activity", {"rounds": 20, "participation": 0.5, "server_rate": 10.0}),
    "1000 random": (1000, "random", {"rounds": 20, "participation": 0.05, "server_rate": 10.0}),
    "1000 activity": (1000, "activity", {"rounds": 20, "participation": 0.05, "server_rate": 10.0}),
}


def measure(name: str, seed: int, changed: dict[str, float | int | None]) -> dict[str, object]:
    split = load_split("amazon-baby")
    clients, how, beyond = RUNS[name]
    settings = FederatedSettings.model_validate({**beyond, **changed, "seed": seed})
    judged = np.flatnonzero(np.diff(split.validation.indptr))
    judged = np.sort(np.random.default_rng(0).choice(judged, min(JUDGED, len(judged)), replace=False))
    shards = shards_of(split.train, clients, how, np.random.default_rng([seed, 7]))
    start, curve, sent, steps, clipped, recalls = time.perf_counter(), [], 0, 0, 0, np.zeros(1)
    every = max(1, settings.rounds // 5)
    for state, what in federated_fit(split.train, shards, settings):
        sent, steps, clipped = sent + what.bytes_sent, steps + what.steps, clipped + what.clipped
        if (what.number + 1) % every == 0 or what.number + 1 == settings.rounds:
            scores = history_scores(items_of(state, settings), split.train)
            ranking = rank_all(scores, judged, split.train, k=20)
            recalls = per_user(ranking, split.validation, [20])["recall@20"]
            curve.append((what.number + 1, steps, sent, float(recalls.mean())))
            print(name, seed, changed, what.number + 1, steps, round(recalls.mean(), 4), flush=True)
    row = {
        "name": name,
        "seed": seed,
        "changed": changed,
        "recall@20": float(recalls.mean()),
        "half over shoppers": float(1.96 * recalls.std(ddof=1) / np.sqrt(len(recalls))),
        "curve": curve,
        "steps": steps,
        "bytes": sent,
        "clipped": clipped,
        "seconds": time.perf_counter() - start,
    }
    if settings.noise:
        row["epsilon"] = epsilon(settings.participation, settings.noise, settings.rounds, DELTA)
    return row


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; what it holds already is not done again")
    parser.add_argument("--only", choices=list(RUNS), nargs="+", default=list(RUNS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--change", type=json.loads, default={}, help="settings beyond those of RUNS, as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    done = [(row["name"], row["seed"], row["changed"]) for row in rows]
    for name in given.only:
        for seed in given.seeds:
            if (name, seed, given.change) not in done:
                row = measure(name, seed, given.change)
                with given.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
