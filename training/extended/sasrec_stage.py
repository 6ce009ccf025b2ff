"""The stage `sasrec` of a work folder: validation chooses the epochs, both splits fit again, the test judges once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from safetensors.torch import save_file

from training.dataset import TEST, TRAIN, VALIDATION, Interactions, load_interactions
from training.evaluation.judge import Fitted, judge_model
from training.evaluation.result import Epoch, Protocol, save_result
from training.extended.sasrec_fit import SasRecFit, SasRecSettings, fit_sasrec
from training.fit import Curve
from training.stage import open_stage, read_record, require

VERSION = 1
WEIGHTS = "model.safetensors"


def run_sasrec(settings: SasRecSettings, work: Path, dataset: str) -> None:
    """Fit SASRec and judge it on the work folder's split, as `<work>/results/sasrec-<seed>.json` then says.

    The weights that were judged lie in `<work>/sasrec-<seed>/model.safetensors`. A fit that was stopped goes on where
    it was. Raises StageError where the work folder has no split, DataError where nobody can be judged.
    """
    split = require(work, "split")
    name = f"sasrec-{settings.seed}"
    with open_stage(work, name, version=VERSION, inputs={"split": split}, settings=settings) as stage:
        if stage.fresh:
            return
        data = load_interactions(work)
        _, chosen = _fit(data, [TRAIN], settings, stage.scratch / "choose", validation=data.within([VALIDATION]))
        fit, refit = _fit(data, [TRAIN, VALIDATION], settings, stage.scratch / "refit", epochs=chosen.best_epochs)
        held_out = data.within([TEST])
        record = read_record(split)
        protocol: Protocol = "B" if record is not None and record.settings["kind"] == "global-time" else "A"
        result, per_user = judge_model(
            "sasrec",
            "SASRec",
            Fitted(
                fit.scores(int(held_out.timestamp.min(initial=fit.train.as_of()))),
                parameters=sum(parameter.numel() for parameter in fit.model.parameters()),
                curve=_epochs(chosen),
                settings=settings.model_dump(),
                seconds=sum(chosen.seconds) + sum(refit.seconds),
            ),
            fit.train.matrix(),
            held_out.matrix(),
            dataset=dataset,
            protocol=protocol,
            seed=settings.seed,
        )
        save_file(fit.model.state_dict(), stage.out / WEIGHTS)
        save_result(work, result, per_user)
        stage.count(epochs=chosen.best_epochs, validation_recall_at_20=max(chosen.recall_at_20), users=result.users)


def _fit(
    data: Interactions,
    splits: Sequence[int],
    settings: SasRecSettings,
    checkpoint: Path,
    *,
    validation: Interactions | None = None,
    epochs: int | None = None,
) -> tuple[SasRecFit, Curve]:
    with Progress(console=Console(stderr=True), transient=not os.isatty(2)) as progress:
        task = progress.add_task("sasrec", total=None)
        return fit_sasrec(
            data.within(splits),
            settings,
            validation=validation,
            epochs=epochs,
            checkpoint=checkpoint,
            on_epoch=lambda done, most, curve: progress.update(
                task, completed=done, total=most, description=f"epoch {done}/{most}, loss {curve.loss[-1]:.3f}"
            ),
        )


def _epochs(curve: Curve) -> tuple[Epoch, ...]:
    figures = enumerate(zip(curve.loss, curve.recall_at_20, curve.seconds, strict=True), 1)
    return tuple(
        Epoch(epoch=number, loss=loss, validation_recall_at_20=recall, seconds=seconds)
        for number, (loss, recall, seconds) in figures
    )
