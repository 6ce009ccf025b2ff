"""The stages `fit` and `refit` of `plotpointe-train`; see `evaluate_stage.py` and `export_stage.py` for the others.

fit       on the training split; the validation split chooses epochs and decay; the re-ranker learns from interactions
          that its first stage has not seen
evaluate  the same settings fitted on training and validation, judged once on the test split beside the baselines
refit     the same settings fitted on every interaction: what is published
export    ONNX models of the refit, each held against torch

Where only the training split may be fitted on (`--protocol-train-only`, the protocol of the papers), evaluate and
refit take the tables that fit has left.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import Progress, TaskID
from safetensors.torch import load_file, save_file

from service.neighborhood import SECONDS_A_DAY, Relation
from training.attention import save_network
from training.co_purchase import co_purchase_graph
from training.dataset import (
    CO_PURCHASE,
    RELATIONS,
    STORED,
    TEST,
    TRAIN,
    VALIDATION,
    Dataset,
    Interactions,
    load_dataset,
)
from training.evaluation.protocols import inner_split
from training.fit import Curve, OnEpoch, fit_members
from training.fit_reranker import FirstStage, Lesson, RerankCurve, RerankSettings, fit_reranker
from training.fit_settings import FitSettings
from training.gat import Gat
from training.linear import LinearSettings, linear_graph
from training.reranker import Reranker
from training.run import dataset_of
from training.stage import Stage, open_stage, require
from training.tables import Tables, choose_decay, load_tables, save_relation, save_tables
from training.threads import torch_threads
from training.tracking.provenance import data_fingerprint
from training.tracking.settings import TrackingSettings
from training.tracking.tracked_run import TrackedRun, describe, epoch_hook, track

VERSION = 5


class ProtocolSettings(BaseModel):
    """What may be fitted on, and what the re-ranker learns from."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    train_only: bool = False
    """Fit on the training split alone, to the end: the protocol of the papers. Else a model is judged fitted on
    training and validation, and published fitted on everything."""
    labels: Literal["validation", "inner"] = "validation"
    """What the re-ranker learns from: the validation split, or interactions of the training split that are hidden from
    a first stage of its own."""
    inner_share: float = Field(0.2, gt=0, lt=1)
    """Share of each shopper's training items that is hidden, with inner labels."""
    earlier_days: int = Field(0, ge=0)
    """With validation labels: so many training days label too, each for a first stage fitted on the days before it."""


class _Asked(BaseModel):
    """The settings that a fit is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    fit: FitSettings
    linear: LinearSettings
    rerank: RerankSettings
    protocol: ProtocolSettings


class Recipe(_Asked):
    """Everything that a fit was made with; `fit` writes it and the later stages follow it."""

    epochs: int
    decay_per_day: float
    reranker_epochs: int

    def published(self) -> tuple[int, ...]:
        """The splits that the published model is fitted on."""
        return (TRAIN,) if self.protocol.train_only else (TRAIN, VALIDATION, TEST)


class RefitSettings(BaseModel):
    """The refit follows the recipe that `fit` chose."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def run_fit(
    settings: FitSettings,
    linear: LinearSettings,
    rerank: RerankSettings,
    protocol: ProtocolSettings,
    tracking: TrackingSettings,
    work: Path,
) -> None:
    """Fit on the training split, choose on the validation split, and fit the re-ranker.

    What the first member's epochs show goes to the tracker, and the best figures at the end.
    """
    whole = _Asked(fit=settings, linear=linear, rerank=rerank, protocol=protocol)
    with open_stage(work, "fit", version=VERSION, inputs=stage_inputs(work), settings=whole) as stage:
        if stage.fresh:
            return
        dataset = load_dataset(work)
        train, validation = (dataset.interactions.within([split]) for split in (TRAIN, VALIDATION))
        described = describe(
            f"gat-{settings.seed}",
            whole.model_dump(),
            dataset=dataset_of(work),
            seed=settings.seed,
            data_fingerprint=data_fingerprint(work),
        )
        start = time.monotonic()
        with track(tracking, work, described) as run:
            tables, curve = _fitted(
                stage,
                dataset,
                train,
                settings,
                linear,
                label="fit",
                validation=validation,
                also=first_member(run, settings),
                network_to=stage.out,
            )
            run.finish({"best_validation_recall@20": max(curve.recall_at_20), "epochs": curve.best_epochs})
        stage.count(first_stage_seconds=round(time.monotonic() - start, 1))
        decay = choose_decay(tables, train, validation, settings.history_length)
        tables = tables.decaying(decay)
        if protocol.train_only:
            save_tables(stage.out, tables)
        lessons = []
        for number, (known, labels) in enumerate(_hidden(train, validation, protocol, settings.seed, decay)):
            first = tables
            if known is not train:
                # One member will do: what the re-ranker sees does not depend on how many there are.
                alone = settings.model_copy(update={"members": 1})
                label = f"fit for the re-ranker {number}"
                first, _ = _fitted(stage, dataset, known, alone, linear, label=label, epochs=curve.best_epochs)
                first = first.decaying(decay)
            of = FirstStage.of(first, stored_relations(dataset), known, length=settings.history_length)
            lessons.append(Lesson(of, labels, known))
        with _bar("re-ranker") as (progress, task), torch_threads(1):
            reranker, rerank_curve = fit_reranker(
                lessons, rerank, on_epoch=lambda done, most: progress.update(task, completed=done, total=most)
            )
        recipe = Recipe(
            **dict(whole), epochs=curve.best_epochs, decay_per_day=decay, reranker_epochs=rerank_curve.best_epochs
        )
        (stage.out / "recipe.json").write_text(recipe.model_dump_json(indent=2))
        save_file(reranker.state_dict(), stage.out / "reranker.safetensors")
        _write_curves(stage, curve, rerank_curve)


def _hidden(
    train: Interactions, validation: Interactions, protocol: ProtocolSettings, seed: int, decay: float
) -> Iterator[tuple[Interactions, Interactions]]:
    """What the first stage of each lesson is fitted on, and what labels its candidates."""
    if protocol.labels == "inner":
        yield inner_split(train, share=protocol.inner_share, seed=seed, latest=decay > 0)
        return
    yield train, validation
    day = train.timestamp // int(SECONDS_A_DAY)
    days = np.unique(day)
    for earlier in days[max(1, len(days) - protocol.earlier_days) :][::-1]:
        yield train.where(day < earlier), train.where(day == earlier)


def _write_curves(stage: Stage, curve: Curve, rerank_curve: RerankCurve) -> None:
    described = {
        "loss": curve.loss,
        "validation_recall_at_20": curve.recall_at_20,
        "seconds": curve.seconds,
        "reranker_retrieval_recall_at_20": rerank_curve.retrieval,
        "reranker_recall_at_20": rerank_curve.recall_at_20,
    }
    (stage.out / "curves.json").write_text(json.dumps(described, indent=1))
    stage.count(
        epochs=curve.best_epochs,
        epoch_seconds=float(np.mean(curve.seconds)),
        validation_recall_at_20=max(curve.recall_at_20),
        reranker_epochs=rerank_curve.best_epochs,
        reranked_recall_at_20=max(rerank_curve.retrieval, *rerank_curve.recall_at_20),
    )


def run_refit(settings: RefitSettings, work: Path) -> None:
    """Fit the recipe on every interaction, or take what `fit` has left where it may see the training split alone."""
    inputs = stage_inputs(work) | {"fit": require(work, "fit")}
    with open_stage(work, "refit", version=VERSION, inputs=inputs, settings=settings) as stage:
        if stage.fresh:
            return
        dataset, recipe = load_dataset(work), read_recipe(work)
        splits = list(recipe.published())
        save_tables(stage.out, fitted_by_recipe(stage, work, dataset, splits, recipe, "refit"))
        save_relation(stage.out, CO_PURCHASE, co_purchase_graph(dataset.interactions.within(splits).matrix()))
        described = {
            "decay_per_day": recipe.decay_per_day,
            "as_of": dataset.interactions.within(splits).as_of(),
            "history_length": recipe.fit.history_length,
            "num_candidates": recipe.rerank.num_candidates,
            "splits": splits,
        }
        (stage.out / "refit.json").write_text(json.dumps(described, indent=1))


def read_recipe(work: Path) -> Recipe:
    """What `fit` chose."""
    return Recipe.model_validate_json((require(work, "fit") / "recipe.json").read_bytes())


def load_reranker(work: Path) -> Reranker:
    """The re-ranker that `fit` left."""
    model = Reranker(num_relations=len(RELATIONS))
    model.load_state_dict(load_file(require(work, "fit") / "reranker.safetensors"))
    return model.eval()


def stage_inputs(work: Path) -> dict[str, Path]:
    """The stages that a fit reads."""
    return {name: require(work, name) for name in ("ingest", "split", "lexical_embeddings", "fusion", "graphs")}


def stored_relations(dataset: Dataset) -> tuple[Relation, ...]:
    """The relations by content, in the order of STORED."""
    return tuple(dataset.relations[name] for name in STORED)


def fitted_by_recipe(
    stage: Stage, work: Path, dataset: Dataset, splits: list[int], recipe: Recipe, label: str
) -> Tables:
    """The model of some splits: fitted anew by the recipe, or what `fit` has left of the training split."""
    if splits == [TRAIN] and recipe.protocol.train_only:
        return load_tables(require(work, "fit"), recipe.decay_per_day)
    known = dataset.interactions.within(splits)
    tables, _ = _fitted(stage, dataset, known, recipe.fit, recipe.linear, label=label, epochs=recipe.epochs)
    return tables.decaying(recipe.decay_per_day)


def _fitted(
    stage: Stage,
    dataset: Dataset,
    known: Interactions,
    settings: FitSettings,
    linear: LinearSettings,
    *,
    label: str,
    validation: Interactions | None = None,
    epochs: int | None = None,
    also: OnEpoch = lambda done, most, curve: None,
    network_to: Path | None = None,
) -> tuple[Tables, Curve]:
    def on_epoch(done: int, most: int, curve: Curve) -> None:
        _show(progress, task, done, most, curve)
        also(done, most, curve)

    def on_member(member: int, network: Gat) -> None:
        if member == 0 and network_to is not None:
            save_network(network_to, network, list(settings.gains()))

    with _bar(label) as (progress, task):
        progress.update(task, description="linear graph")
        graph = linear_graph(known.matrix(), dataset.relations, linear)
        return fit_members(
            dataset,
            known,
            settings,
            graph,
            validation=validation,
            epochs=epochs,
            checkpoint=stage.scratch / label.replace(" ", "-"),
            on_epoch=on_epoch,
            on_member=on_member,
        )


def first_member(run: TrackedRun, settings: FitSettings) -> OnEpoch:
    """Sends the epochs of the first member to a tracker: the others have no judge, and run for as many at most."""
    send = epoch_hook(run, first_judged=settings.judge_every)
    furthest = 0

    def on_epoch(done: int, most: int, curve: Curve) -> None:
        nonlocal furthest
        if done > furthest:
            furthest = done
            send(done, most, curve)

    return on_epoch


@contextmanager
def _bar(label: str) -> Iterator[tuple[Progress, TaskID]]:
    with Progress(console=Console(stderr=True), transient=not os.isatty(2)) as progress:
        yield progress, progress.add_task(label, total=None)


def _show(progress: Progress, task: TaskID, done: int, most: int, curve: Curve) -> None:
    progress.update(task, completed=done, total=most, description=f"epoch {done}/{most}, loss {curve.loss[-1]:.3f}")
