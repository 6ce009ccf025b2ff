"""Every model on a published split, side by side: quality with intervals, slices, lists, time and memory.

    .venv/bin/python -m benchmarks.models.ladder amazon-baby --run var/ladder-baby --seeds 5
    .venv/bin/python -m benchmarks.models.ladder amazon-baby --run var/ladder-baby --models ease item-knn
    .venv/bin/python -m benchmarks.models.ladder amazon-baby --run var/ladder-baby --fits var/baby-0 var/baby-1

Each model has a process of its own, takes the settings that validation chose (`linear_baselines.py`,
`learned_baselines.py`) and is judged on the test split with only training items masked. What the run folder holds
already is skipped. `--fits` takes over what `plotpointe-train fit` has judged, both stages of it, instead of fitting
anything. The table ends with paired differences from the baseline of `--beside`.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp

from benchmarks.models.gat_rungs import NETWORKS, gat_rungs
from benchmarks.models.learned_baselines import SETTINGS
from benchmarks.models.linear_baselines import CONTENDERS
from benchmarks.models.published_splits import load_split
from training.baselines import EmbeddingSettings, LightGcnSettings, fit_lightgcn, fit_mf
from training.evaluation.judge import Fitted
from training.evaluation.ladder import Rung, Split, run_ladder
from training.evaluation.result import ModelResult, PerUser, load_per_user, load_results, save_result
from training.evaluation.significance import compare_run, table
from training.files import write_whole
from training.presets import PRESETS
from training.report.attention import FILE as ATTENTION
from training.report.provenance import provenance_here, save_provenance
from training.run import work_of
from training.stage import require

LINEAR = {
    "popularity": "Popularity",
    "item-knn": "ItemKNN",
    "rp3beta": "RP3beta",
    "ials": "iALS",
    "ease": "EASE",
    "sparse-ease": "sparse EASE (FSAI)",
}
FITTED = {"retrieval": "Retrieval alone", "served": "Served"}
LEARNED = {
    f"{model}-{loss}": f"{title}, {named}"
    for model, title in (("mf", "MF"), ("lightgcn", "LightGCN"))
    for loss, named in (("bpr", "BPR"), ("softmax", "sampled softmax"), ("slatk", "SL@K"))
}


def fit_linear(train: sp.csr_matrix, validation: sp.csr_matrix | None, seed: int, *, name: str) -> Fitted:
    """A model in closed form or by counting; `parameters` is how many weights it may keep."""
    contender = CONTENDERS[name]
    settings = dict(contender.chosen) | ({"seed": seed} if name == "ials" else {})
    users, items = train.shape
    kept = {
        "popularity": items,
        "ials": (users + items) * int(settings.get("factors", 0)),
        "ease": items * items,
    }.get(name, items * int(settings.get("neighbors", 0)))
    return Fitted(contender.fit(train, **settings), parameters=kept, settings=settings)


def fit_learned(
    train: sp.csr_matrix, validation: sp.csr_matrix | None, seed: int, *, model: str, loss: str, dataset: str
) -> Fitted:
    """Vectors by gradient descent; validation chooses the epoch."""
    values = {"loss": loss, **SETTINGS.get(f"{dataset} {model} {loss}", {}), "seed": seed}
    if model == "mf":
        found = fit_mf(train, EmbeddingSettings(**values), validation=validation)
    else:
        found = fit_lightgcn(train, LightGcnSettings(**values), validation=validation)
    return Fitted(found, parameters=found.users.size + found.items.size, curve=found.curve, settings=values)


def rungs(dataset: str) -> list[Rung]:
    """Every model, simple ones first; the graph-attention models where there are nearest items by text and image."""
    linear = [Rung(name, title, partial(fit_linear, name=name), name == "ials") for name, title in LINEAR.items()]
    learned = []
    for name, title in LEARNED.items():
        model, loss = name.rsplit("-", 1)
        learned.append(Rung(name, title, partial(fit_learned, model=model, loss=loss, dataset=dataset)))
    return linear + learned + (gat_rungs(dataset) if dataset in PRESETS else [])


def take_over(fit: Path, run: Path) -> None:
    """Put a fit's two stages among the results of `run`, its shoppers numbered as the published split numbers them.

    What the first of several fits attends to comes along.
    """
    evaluated = require(work_of(fit), "evaluate")
    ids = pl.read_parquet(require(work_of(fit), "ingest") / "users.parquet", columns=["user_id"])["user_id"]
    number = ids.cast(pl.Int64).to_numpy()
    attention = evaluated / ATTENTION
    if attention.exists() and not (run / ATTENTION).exists():
        write_whole(run / ATTENTION, attention.read_text())
    for result in load_results(evaluated):
        if result.model in FITTED:
            each = load_per_user(evaluated, result)
            order = np.argsort(number[each.users])
            values = {name: column[order] for name, column in each.values.items()}
            titled = result.model_copy(update={"title": FITTED[result.model]})
            save_result(run, titled, PerUser(number[each.users][order].astype(np.int32), values))


def line(one: ModelResult) -> str:
    """One model as a line of the table."""
    cells = (one.metrics[name] for name in ("recall@20", "ndcg@20"))
    quality = "".join(f"{c.mean:>9.4f} [{c.low:.4f}, {c.high:.4f}]" for c in cells)
    tail = one.slices["items/tail"]["recall@20"].mean
    return (
        f"{one.model:<20}{one.seed:>5}{quality}{tail:>9.4f}{one.beyond['coverage@20']:>10.3f}"
        f"{one.fit_seconds:>9.1f}{one.peak_rss_mib:>8.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=("amazon-baby", "amazon-clothing"))
    parser.add_argument("--run", type=Path, required=True, help="folder that keeps the results")
    known = [*LINEAR, *LEARNED, "linear", *NETWORKS, "served"]
    parser.add_argument("--models", nargs="+", choices=known, help="some of them alone")
    parser.add_argument("--fits", nargs="+", type=Path, default=[], help="run folders of `plotpointe-train fit`")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--beside", default="ease", help="the model that differences are taken from")
    given = parser.parse_args()
    published = load_split(given.dataset)
    split = Split(given.dataset, "A", published.train, published.test, published.validation)
    for fit in given.fits:
        take_over(fit, given.run)
    named = given.models if given.models is not None or not given.fits else ()
    chosen = [rung for rung in rungs(given.dataset) if named is None or rung.model in named]
    results = run_ladder(chosen, split, given.run, seeds=range(given.seeds))
    save_provenance(given.run, provenance_here((f"python -m benchmarks.models.ladder {shlex.join(sys.argv[1:])}",)))
    print(f"{'model':<20}{'seed':>5}{'recall@20':>26}{'NDCG@20':>26}{'tail':>9}{'coverage':>10}{'fit s':>9}{'MiB':>8}")
    print("\n".join(line(one) for one in sorted(results, key=lambda one: one.metrics["recall@20"].mean)))
    if any(one.model == given.beside for one in results):
        print("\n" + table(compare_run(given.run, given.beside), given.beside))


if __name__ == "__main__":
    main()
