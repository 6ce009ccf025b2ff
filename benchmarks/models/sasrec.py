"""SASRec on a work folder's split: what order, age, loss and likeness are worth, and the test beside simple models.

python benchmarks/models/sasrec.py ablate WORK --variant both --variant order    one JSON line a variant
python benchmarks/models/sasrec.py judge WORK RUN --model ease --model sasrec    the test split, once
python benchmarks/models/sasrec.py sports --variant order                        Amazon Sports' validation
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import torch
import typer
from published_splits import NUM_ITEMS, data_root

from training.baselines import ease, item_knn, popularity
from training.dataset import TEST, TRAIN, VALIDATION, Interactions, load_interactions
from training.evaluation.judge import Fitted, judge_model
from training.evaluation.result import load_results, result_path, save_result
from training.evaluation.significance import compare_run, table
from training.extended.sasrec_fit import SasRecSettings, fit_sasrec
from training.ranking_metrics import per_user, rank_all, to_find

DAY = 86_400
VARIANTS: Mapping[str, Mapping[str, object]] = {
    "both": {},
    "order": {"clock": "order"},
    "age": {"clock": "age"},
    "none": {"clock": "none"},
    "shuffled": {"clock": "order"},
    "inner": {"temperature": 0.0},
    "paper": {"clock": "order", "temperature": 0.0, "loss": "bce"},
    "bce": {"loss": "bce"},
    "one-block": {"blocks": 1},
    "wide": {"dim": 128},
    "cooler": {"temperature": 0.1},
    "half-dropped": {"dropout": 0.5},
}

app = typer.Typer(add_completion=False)


def shuffled(interactions: Interactions) -> Interactions:
    """Without time: each epoch, and the ranking too, sees a shopper's events in an order that is drawn."""
    return dataclasses.replace(interactions, timestamp=np.zeros_like(interactions.timestamp))


@app.command()
def ablate(work: Path, variant: Annotated[list[str], typer.Option()], epochs: int = 12, seed: int = 0) -> None:
    """Fit variants on the training split and print their best validation recall@20."""
    data = load_interactions(work)
    for name in variant:
        train, validation = data.within([TRAIN]), data.within([VALIDATION])
        if name == "shuffled":
            train = shuffled(train)
        _show(name, train, validation, {**VARIANTS[name], "max_epochs": epochs, "seed": seed})


@app.command()
def judge(work: Path, run: Path, model: Annotated[list[str], typer.Option()], epochs: int = 11, seeds: int = 2) -> None:
    """Fit popularity, item-knn, ease or sasrec on training and validation, and judge it on the test, once.

    Validation chose `epochs`; what `run` has is not judged again. Then all of `run` is compared with EASE, shopper by
    shopper.
    """
    data = load_interactions(work)
    known, held_out = data.within([TRAIN, VALIDATION]), data.within([TEST])
    matrix = known.matrix()
    fits: Mapping[str, Callable[[int], Fitted]] = {
        "popularity": lambda seed: Fitted(popularity(np.asarray(matrix.sum(0)).ravel().astype(np.float32))),
        "item-knn": lambda seed: Fitted(item_knn(matrix)),
        "ease": lambda seed: Fitted(ease(matrix, ridge=100.0)),
        "sasrec": lambda seed: _sasrec(known, int(held_out.timestamp.min()), epochs, seed),
    }
    for name in model:
        for seed in range(seeds if name == "sasrec" else 1):
            if result_path(run, name, seed).exists():
                continue
            fitted = fits[name](seed)
            result, each = judge_model(
                name, name, fitted, matrix, held_out.matrix(), dataset="fashion-week", protocol="B", seed=seed
            )
            save_result(run, result, each)
    for result in load_results(run):
        cells = (f"{metric} {e.mean:.4f} [{e.low:.4f}, {e.high:.4f}]" for metric, e in result.metrics.items())
        print(f"{result.model:<12}{result.seed:<3}{result.users} shoppers: " + ", ".join(cells), flush=True)
    if result_path(run, "ease", 0).exists():
        print(table(compare_run(run, "ease"), "ease"))


def _sasrec(known: Interactions, now: int, epochs: int, seed: int) -> Fitted:
    settings = SasRecSettings(seed=seed)
    fit, curve = fit_sasrec(known, settings, validation=None, epochs=epochs)
    size = sum(parameter.numel() for parameter in fit.model.parameters())
    return Fitted(fit.scores(now), size, settings=settings.model_dump(), seconds=sum(curve.seconds))


@app.command()
def sports(variant: Annotated[list[str], typer.Option()], epochs: int = 12) -> None:
    """Amazon Sports: `pos`, an event's place in its shopper's sequence, stands for time; the validation judges."""
    frame = pl.read_csv(data_root() / "amazon-sports" / "sports.inter.gz", separator="\t")
    user, item, label, place = (frame[c].to_numpy() for c in ("userID", "itemID", "x_label", "pos"))
    data = Interactions(
        user.astype(np.int32),
        item.astype(np.int32),
        place.astype(np.int64) * DAY,
        label.astype(np.int8),
        int(user.max()) + 1,
        NUM_ITEMS["amazon-sports"],
    )
    train, validation = data.within([TRAIN]), data.within([VALIDATION])
    relevant, users = to_find(train.matrix(), validation.matrix())
    for name, scores in (("ease", ease(train.matrix(), ridge=300.0)), ("item-knn", item_knn(train.matrix()))):
        found = per_user(rank_all(scores, users, train.matrix(), k=20), relevant, [20])
        print(json.dumps({"model": name, "validation_recall_at_20": round(found["recall@20"].mean(), 4)}), flush=True)
    for name in variant:
        past = shuffled(train) if name == "shuffled" else train
        _show(name, past, validation, {**VARIANTS[name], "max_epochs": epochs})


def _show(name: str, train: Interactions, validation: Interactions, settings: Mapping[str, object]) -> None:
    start = time.monotonic()
    _, curve = fit_sasrec(train, SasRecSettings.model_validate(settings), validation=validation)
    row = {
        "variant": name,
        "validation_recall_at_20": round(max(curve.recall_at_20), 4),
        "epochs": curve.best_epochs,
        "curve": [round(value, 4) for value in curve.recall_at_20],
        "seconds": round(time.monotonic() - start),
    }
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    app()
