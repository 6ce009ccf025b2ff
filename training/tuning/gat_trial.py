"""One fit of the GAT as a trial: on the training split, judged on the validation split; the test split is not read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.neighborhood import Relation
from training.dataset import TRAIN, VALIDATION, Dataset, load_dataset, load_relation
from training.evaluation.result import Epoch
from training.fit import fit_gat
from training.fit_settings import FitSettings
from training.linear import LinearSettings, linear_graph
from training.tracking.tracked_run import epochs_of
from training.tuning.search import Report


@dataclass(frozen=True)
class GatTrial:
    """Fits one network on a work folder's training split; goes on after the last epoch that `scratch` holds."""

    work: Path
    linear: Path
    """The linear item graph of the training split, the same for every trial: `save_linear` has made it."""

    def __call__(self, settings: Mapping[str, object], report: Report, scratch: Path) -> Sequence[Epoch]:
        """The curve of one fit."""
        return fit_trial(load_dataset(self.work), load_relation(self.linear), settings, report, scratch)


def fit_trial(
    dataset: Dataset, linear: Relation, settings: Mapping[str, object], report: Report, scratch: Path
) -> Sequence[Epoch]:
    """Fit on the training split of `dataset` with `linear`, its linear item graph; the curve."""
    train, validation = (dataset.interactions.within([split]) for split in (TRAIN, VALIDATION))
    chosen = FitSettings.model_validate(settings)
    first_judged = min(chosen.judge_every, chosen.max_epochs)
    _, curve = fit_gat(
        dataset,
        train,
        chosen,
        linear,
        validation=validation,
        checkpoint=scratch,
        on_epoch=lambda done, most, curve: report(epochs_of(curve, first_judged=first_judged)),
    )
    return epochs_of(curve, first_judged=first_judged)


def save_linear(work: Path, settings: LinearSettings, path: Path) -> None:
    """Write the linear item graph of the work folder's training split."""
    dataset = load_dataset(work)
    graph = linear_graph(dataset.interactions.within([TRAIN]).matrix(), dict(dataset.relations), settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez(file, neighbors=graph.neighbors, weights=graph.weights)
