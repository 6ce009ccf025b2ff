"""The stages of `plotpointe-train`: fit, evaluate, refit; export is in `export_stage.py`.

fit       on the training split; the validation split chooses epochs and decay and labels the re-ranker's candidates
evaluate  the same settings fitted on training and validation, judged once on the test split beside the baselines
refit     the same settings fitted on every interaction: what is published
export    ONNX models of the refit, each held against torch
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import Progress, TaskID
from safetensors.torch import load_file, save_file

from service.neighborhood import Relation
from training.dataset import RELATIONS, TEST, TRAIN, VALIDATION, Dataset, load_dataset
from training.evaluate import EvaluateSettings, judge, page
from training.fit import Curve, FitSettings, Tables, choose_decay, fit_gat
from training.fit_reranker import FirstStage, RerankSettings, fit_reranker
from training.reranker import Reranker
from training.stage import Stage, open_stage, require
from training.threads import torch_threads

VERSION = 1


class Recipe(BaseModel):
    """Everything that a fit was made with; `fit` writes it and the later stages follow it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    fit: FitSettings
    rerank: RerankSettings
    epochs: int
    decay_per_day: float
    reranker_epochs: int


class RefitSettings(BaseModel):
    """The refit follows the recipe that `fit` chose."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class _FitStageSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    fit: FitSettings
    rerank: RerankSettings


def run_fit(settings: FitSettings, rerank: RerankSettings, work: Path) -> None:
    """Fit on the training split, choose on the validation split, and fit the re-ranker."""
    with open_stage(
        work,
        "fit",
        version=VERSION,
        inputs=_inputs(work),
        settings=_FitStageSettings(fit=settings, rerank=rerank),
    ) as stage:
        if stage.fresh:
            return
        dataset = load_dataset(work)
        train, validation = (dataset.interactions.within([split]) for split in (TRAIN, VALIDATION))
        with _bar("fit") as (progress, task):
            fit, curve = fit_gat(
                dataset,
                train,
                settings,
                validation=validation,
                checkpoint=stage.scratch / "epochs",
                on_epoch=lambda done, most, curve: _show(progress, task, done, most, curve),
            )
        decay = choose_decay(fit, validation)
        first = FirstStage.of(fit.tables(decay), _relations(dataset), train, length=settings.history_length)
        with _bar("re-ranker") as (progress, task), torch_threads(1):
            reranker, rerank_curve = fit_reranker(
                first,
                validation,
                train,
                rerank,
                on_epoch=lambda done, most: progress.update(task, completed=done, total=most),
            )
        recipe = Recipe(
            fit=settings,
            rerank=rerank,
            epochs=curve.best_epochs,
            decay_per_day=decay,
            reranker_epochs=rerank_curve.best_epochs,
        )
        (stage.out / "recipe.json").write_text(recipe.model_dump_json(indent=2))
        save_file(reranker.state_dict(), stage.out / "reranker.safetensors")
        (stage.out / "curves.json").write_text(
            json.dumps(
                {
                    "loss": curve.loss,
                    "validation_recall_at_20": curve.recall_at_20,
                    "reranker_recall_at_20": rerank_curve.recall_at_20,
                },
                indent=1,
            )
        )
        stage.count(
            epochs=curve.best_epochs,
            epoch_seconds=float(np.mean(curve.seconds)),
            validation_recall_at_20=max(curve.recall_at_20),
            reranker_epochs=rerank_curve.best_epochs,
            reranked_recall_at_20=max(rerank_curve.recall_at_20),
        )


def run_evaluate(settings: EvaluateSettings, work: Path) -> None:
    """Judge the recipe on the test split, once, beside the baselines."""
    inputs = _inputs(work) | {"fit": require(work, "fit")}
    with open_stage(work, "evaluate", version=VERSION, inputs=inputs, settings=settings) as stage:
        if stage.fresh:
            return
        dataset, recipe = load_dataset(work), read_recipe(work)
        known = dataset.interactions.within([TRAIN, VALIDATION])
        tables = _fit_by_recipe(stage, dataset, [TRAIN, VALIDATION], recipe, "fit for the test")
        first = FirstStage.of(tables, _relations(dataset), known, length=recipe.fit.history_length)
        evaluation, details = judge(
            first,
            load_reranker(work, dim=recipe.fit.dim),
            known,
            dataset.interactions.within([TEST]),
            settings,
            num_candidates=recipe.rerank.num_candidates,
        )
        (stage.out / "evaluation.json").write_text(evaluation.model_dump_json(indent=2))
        (stage.out / "metrics.json").write_text(json.dumps(details, indent=1))
        text = page(evaluation, details)
        (stage.out / "report.txt").write_text(text)
        Console(stderr=True, soft_wrap=True).print(text, highlight=False, markup=False)
        stage.count(users=evaluation.users, **{k.replace("@", "_at_"): v for k, v in evaluation.metrics.items()})


def run_refit(settings: RefitSettings, work: Path) -> None:
    """Fit the recipe on every interaction."""
    inputs = _inputs(work) | {"fit": require(work, "fit")}
    with open_stage(work, "refit", version=VERSION, inputs=inputs, settings=settings) as stage:
        if stage.fresh:
            return
        dataset, recipe = load_dataset(work), read_recipe(work)
        tables = _fit_by_recipe(stage, dataset, [TRAIN, VALIDATION, TEST], recipe, "refit")
        for name in ("item_vectors", "history_vectors", "behaviour", "popularity"):
            np.save(stage.out / f"{name}.npy", getattr(tables, name), allow_pickle=False)
        described = {
            "decay_per_day": tables.decay_per_day,
            "as_of": dataset.interactions.as_of(),
            "history_length": recipe.fit.history_length,
            "num_candidates": recipe.rerank.num_candidates,
        }
        (stage.out / "refit.json").write_text(json.dumps(described, indent=1))


def read_recipe(work: Path) -> Recipe:
    """What `fit` chose."""
    return Recipe.model_validate_json((require(work, "fit") / "recipe.json").read_bytes())


def load_reranker(work: Path, *, dim: int) -> Reranker:
    """The re-ranker that `fit` left."""
    model = Reranker(dim=dim, num_relations=len(RELATIONS))
    model.load_state_dict(load_file(require(work, "fit") / "reranker.safetensors"))
    return model.eval()


def _inputs(work: Path) -> dict[str, Path]:
    return {name: require(work, name) for name in ("ingest", "split", "lexical_embeddings", "fusion", "graphs")}


def _relations(dataset: Dataset) -> tuple[Relation, ...]:
    return tuple(dataset.relations[name] for name in RELATIONS)


def _fit_by_recipe(stage: Stage, dataset: Dataset, splits: list[int], recipe: Recipe, label: str) -> Tables:
    with _bar(label) as (progress, task):
        fit, _ = fit_gat(
            dataset,
            dataset.interactions.within(splits),
            recipe.fit,
            validation=None,
            epochs=recipe.epochs,
            checkpoint=stage.scratch / "epochs",
            on_epoch=lambda done, most, curve: _show(progress, task, done, most, curve),
        )
    return fit.tables(recipe.decay_per_day)


@contextmanager
def _bar(label: str) -> Iterator[tuple[Progress, TaskID]]:
    with Progress(console=Console(stderr=True), transient=not os.isatty(2)) as progress:
        yield progress, progress.add_task(label, total=None)


def _show(progress: Progress, task: TaskID, done: int, most: int, curve: Curve) -> None:
    progress.update(task, completed=done, total=most, description=f"epoch {done}/{most}, loss {curve.loss[-1]:.3f}")
