"""The stage `evaluate` of `plotpointe-train`: the recipe judged once, beside simple models.

evaluation.json   what the manifest tells
results/          a ModelResult for each model, and its shoppers' metrics
attention.json, provenance.json, report.txt
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
from rich.console import Console

from training.attention import SAMPLE, attention_of
from training.dataset import TEST, TRAIN, VALIDATION, load_dataset
from training.evaluate import About, EvaluateSettings, judge, page
from training.evaluation.result import save_result
from training.fit import Curve
from training.fit_reranker import FirstStage, rerank
from training.ranking_metrics import to_find
from training.report.provenance import provenance_here, save_provenance
from training.run import dataset_of
from training.stage import open_stage, read_record, require
from training.stages import (
    VERSION,
    ProtocolSettings,
    Recipe,
    fitted_by_recipe,
    load_reranker,
    read_recipe,
    stage_inputs,
    stored_relations,
)
from training.tracking.tracked_run import epochs_of


def run_evaluate(settings: EvaluateSettings, work: Path) -> None:
    """Judge the recipe on the test split, once, beside the baselines; on validation where there is no test."""
    inputs = stage_inputs(work) | {"fit": require(work, "fit")}
    with open_stage(work, "evaluate", version=VERSION, inputs=inputs, settings=settings) as stage:
        if stage.fresh:
            return
        dataset, recipe = load_dataset(work), read_recipe(work)
        held_out = dataset.interactions.within([TEST])
        judged = TEST if len(held_out) else VALIDATION
        splits = [TRAIN] if recipe.protocol.train_only or judged == VALIDATION else [TRAIN, VALIDATION]
        known = dataset.interactions.within(splits)
        tables = fitted_by_recipe(stage, work, dataset, splits, recipe, "fit for the test")
        first = FirstStage.of(tables, stored_relations(dataset), known, length=recipe.fit.history_length)
        reranker = load_reranker(work)
        evaluation, judged_models = judge(
            first,
            reranker,
            known,
            dataset.interactions.within([judged]),
            settings,
            num_candidates=recipe.rerank.num_candidates,
            protocol=protocol_of(splits, judged, recipe.protocol),
            about=_about(work, recipe),
        )
        (stage.out / "evaluation.json").write_text(evaluation.model_dump_json(indent=2))
        for result, per_user in judged_models:
            save_result(stage.out, result, per_user)
        save_provenance(stage.out, provenance_here(("plotpointe-train evaluate",)))
        _, users = to_find(known.matrix(), dataset.interactions.within([judged]).matrix())
        if len(users):
            best = rerank(reranker, first, first.retrieve(users[:SAMPLE], k=recipe.rerank.num_candidates))
            ids, titles = _names(work)
            attention = attention_of(require(work, "fit"), reranker, first, best, ids, titles)
            (stage.out / "attention.json").write_text(attention.model_dump_json(indent=1))
        text = page(evaluation, [result for result, _ in judged_models])
        (stage.out / "report.txt").write_text(text)
        Console(stderr=True, soft_wrap=True).print(text, highlight=False, markup=False)
        stage.count(users=evaluation.users, **{k.replace("@", "_at_"): v for k, v in evaluation.metrics.items()})


def _about(work: Path, recipe: Recipe) -> About:
    fitted = require(work, "fit")
    curves = json.loads((fitted / "curves.json").read_text())
    curve = Curve(loss=curves["loss"], recall_at_20=curves["validation_recall_at_20"], seconds=curves["seconds"])
    record, split = read_record(fitted), read_record(require(work, "split"))
    by_time = split is not None and split.settings.get("kind") == "global-time"
    return About(
        dataset=dataset_of(work),
        protocol="B" if by_time else "A",
        curve=epochs_of(curve, first_judged=recipe.fit.judge_every),
        settings=recipe.model_dump(mode="json"),
        first_seconds=0.0 if record is None else record.counts.get("first_stage_seconds", 0.0),
        fit_seconds=0.0 if record is None else record.wall_seconds,
    )


def _names(work: Path) -> tuple[list[str], list[str]]:
    """User ids by row, and titles by item row; an item without a title goes by its id."""
    ingest = require(work, "ingest")
    items = pl.read_parquet(ingest / "items.parquet", columns=["item_id", "title"])
    users = pl.read_parquet(ingest / "users.parquet", columns=["user_id"])["user_id"]
    return users.to_list(), items["title"].fill_null(items["item_id"]).to_list()


def protocol_of(splits: list[int], judged: int, protocol: ProtocolSettings) -> str:
    """How a model was judged, in words."""
    names = {TRAIN: "training", VALIDATION: "validation", TEST: "test"}
    fitted = " and ".join(names[split] for split in splits)
    once = "judged once on the test split" if judged == TEST else "judged on the validation split: there is no test"
    if judged == VALIDATION and protocol.labels == "validation":
        once += ", and the re-ranker has learned from the same labels: its figures flatter"
    return (
        f"full ranking of all items for warm shoppers; items of {fitted} masked; fitted on {fitted}, "
        f"settings chosen on validation, {once}"
    )
