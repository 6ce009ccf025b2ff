"""MF, LightGCN and the frozen item graph on published splits, beside the figures that papers give.

    python -m benchmarks.models.learned_baselines amazon-baby lightgcn bpr --seeds 0 1 2 --out results.jsonl

SETTINGS were chosen by recall@20 on validation (`--validation-only`, `--settings '{"temperature": 0.2}'`); what is not
named there is fitted with the defaults, which are not tuned. Without that flag the model of the best epoch is judged on
the test split. Gowalla has no validation split: a tenth of each user's training interactions is held out to choose the
epochs, then a new model is fitted on all of them for so many.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from benchmarks.models.published_splits import PublishedSplit, load_relations, load_split
from benchmarks.offline.results import record
from training.baselines.embedding_fit import EmbeddingSettings, FittedEmbeddings
from training.baselines.frozen_graph import FrozenGraphSettings, fit_frozen_graph
from training.baselines.lightgcn import LightGcnSettings, fit_lightgcn
from training.baselines.mf import fit_mf
from training.evaluation.result import Epoch
from training.ranking_metrics import per_user, rank_all

SETTINGS: dict[str, dict[str, Any]] = {
    "amazon-baby mf bpr": {
        "batch_size": 8192,
        "learning_rate": 0.003,
        "regularization": 0.1,
        "evaluate_every": 4,
        "patience": 2,
        "max_epochs": 24,
    },
    "amazon-baby lightgcn bpr": {
        "batch_size": 8192,
        "learning_rate": 0.01,
        "regularization": 0.003,
        "evaluate_every": 8,
        "patience": 2,
        "max_epochs": 40,
    },
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "amazon-baby mf bpr": {"recall@20": 0.0575, "ndcg@20": 0.0249, "source": "FREEDOM (arXiv:2211.06924)"},
    "amazon-baby lightgcn bpr": {
        "recall@20": 0.0754,
        "ndcg@20": 0.0328,
        "source": "FREEDOM (arXiv:2211.06924)",
    },
    "amazon-baby frozen-graph bpr": {
        "recall@20": 0.0992,
        "ndcg@20": 0.0424,
        "source": "FREEDOM (arXiv:2211.06924)",
    },
    "gowalla lightgcn bpr": {"recall@20": 0.1820, "ndcg@20": 0.1540, "source": "LightGCN (arXiv:2002.02126)"},
}
"""Figures of the same model and loss; the frozen graph's are those of FREEDOM with its loss on raw features."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=("amazon-baby", "gowalla"))
    parser.add_argument("model", choices=("mf", "lightgcn", "frozen-graph"))
    parser.add_argument("loss", choices=("bpr", "softmax", "slatk"))
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON; fields other than SETTINGS has them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoints", type=Path, help="Folder from which an interrupted fit is taken up again")
    parser.add_argument(
        "--validation-only", action="store_true", help="Leave the test split alone; nothing is recorded"
    )
    parser.add_argument("--out", type=Path, help="Append the figures to this file")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    name = f"{given.dataset} {given.model} {given.loss}"
    values = {"loss": given.loss, **SETTINGS.get(name, {}), **given.settings}
    split = load_split(given.dataset)
    for seed in given.seeds:
        fitting = Fitting(given.dataset, given.model, {**values, "seed": seed}, given.checkpoints)
        figures = fitting.measure(split, judge=not given.validation_only)
        out = None if given.validation_only else given.out
        record("learned-baselines", {**figures, "published": PUBLISHED.get(name)}, out)


@dataclass(frozen=True)
class Fitting:
    """One model, loss and seed on one dataset."""

    dataset: str
    model: str
    values: dict[str, Any]
    """Settings, seed and loss among them."""
    checkpoints: Path | None

    def measure(self, split: PublishedSplit, *, judge: bool) -> dict[str, Any]:
        """Fit with early stopping and, to judge, rank the test split with what was chosen."""
        wall, cpu = time.perf_counter(), time.process_time()
        train, validation = split.train, split.validation
        if not validation.nnz:
            train, validation = hold_out(split.train, share=0.1)
        fitted = self.fit(train, "chosen", validation=validation)
        looks = [one for one in fitted.curve if one.validation_recall_at_20 is not None]
        figures: dict[str, Any] = {
            "dataset": self.dataset,
            "model": self.model,
            "loss": self.values["loss"],
            "seed": self.values["seed"],
            "dim": fitted.items.shape[1],
            "settings": self.values,
            "epochs": fitted.epochs,
            "epochs_run": len(fitted.curve),
            "curve": {one.epoch: round(one.validation_recall_at_20 or 0.0, 5) for one in looks},
            "validation_recall@20": round(max(one.validation_recall_at_20 or 0.0 for one in looks), 5),
            "epoch_wall_s": float(np.median([one.seconds for one in fitted.curve])),
        }
        if judge:
            if not split.validation.nnz:
                fitted = self.fit(split.train, "whole", epochs=fitted.epochs)
            users = np.flatnonzero(np.diff(split.test.indptr))
            found = per_user(rank_all(fitted, users, split.train, k=20), split.test, [20])
            figures |= {f"test_{metric}": round(float(value.mean()), 5) for metric, value in found.items()}
        return {
            **figures,
            "total_wall_s": round(time.perf_counter() - wall, 1),
            "total_cpu_s": round(time.process_time() - cpu, 1),
            "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }

    def fit(self, train: sp.csr_matrix, part: str, **how: Any) -> FittedEmbeddings:
        """One fit, saying what each look at validation found; taken up again where a checkpoint of it lies."""
        wall, cpu = time.perf_counter(), time.process_time()

        def say(done: int, most: int, curve: Sequence[Epoch]) -> None:
            recall = curve[-1].validation_recall_at_20
            spent = f"{time.perf_counter() - wall:.0f} s, {time.process_time() - cpu:.0f} s of CPU"
            print(f"{done}/{most} loss {curve[-1].loss:.4f}, {spent}, recall {recall}", file=sys.stderr, flush=True)

        if self.checkpoints is not None:
            told = json.dumps([self.dataset, self.model, self.values], sort_keys=True)
            how["checkpoint"] = self.checkpoints / f"{part}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"
        if self.model == "mf":
            return fit_mf(train, EmbeddingSettings(**self.values), on_epoch=say, **how)
        if self.model == "lightgcn":
            return fit_lightgcn(train, LightGcnSettings(**self.values), on_epoch=say, **how)
        settings = FrozenGraphSettings(**self.values)
        return fit_frozen_graph(train, load_relations(self.dataset), settings, on_epoch=say, **how)


def hold_out(train: sp.csr_matrix, *, share: float) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Keep a share of each user's interactions apart, rounded down, by a fixed seed."""
    rng = np.random.default_rng(0)
    coo = train.tocoo()
    order = np.lexsort((rng.random(train.nnz), coo.row))
    place = np.arange(train.nnz) - train.indptr[coo.row[order]]
    apart = np.zeros(train.nnz, bool)
    apart[order] = place < np.floor(share * np.diff(train.indptr))[coo.row[order]]
    kept, held = (
        sp.csr_matrix((coo.data[part], (coo.row[part], coo.col[part])), train.shape) for part in (~apart, apart)
    )
    kept.sort_indices()
    return kept, held


if __name__ == "__main__":
    main()
