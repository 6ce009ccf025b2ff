"""`plotpointe-train tune`: search the settings of the GAT's fit, by the validation split, in one work folder.

<work>/tune/best.json           FitSettings, whole: what `plotpointe-train fit --settings` takes
<work>/tune/leaderboard.json    every trial, best first
"""

from __future__ import annotations

import fcntl
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from service.errors import InputError, StageBusyError
from training.files import write_whole
from training.fit_settings import FitSettings
from training.linear import LinearSettings
from training.tracking.provenance import data_fingerprint
from training.tracking.settings import TrackingSettings
from training.tracking.tracked_run import TrackedRun, describe, tracker_or_none
from training.tuning.gat_space import GAT_SPACE
from training.tuning.gat_trial import GatTrial, save_linear
from training.tuning.records import Trial
from training.tuning.search import TuneSettings, best_trial, search
from training.tuning.space import read_space

log = logging.getLogger(__name__)


def run_tune(
    settings: TuneSettings, fit: FitSettings, linear: LinearSettings, tracking: TrackingSettings, work: Path
) -> None:
    """Search around `fit`, or go on with the search of the work folder; the best settings are left as best.json.

    One network of the members is searched: settings that are best for one are taken for all. `linear` stays as it is.
    Raises InputError where trials would be compared at an epoch that is not judged.
    """
    if settings.reduction > 1 and settings.first_rung % fit.judge_every:
        raise InputError(
            f"{settings.first_rung} is no multiple of {fit.judge_every}",
            where="--first-rung",
            todo="Compare trials at epochs that are judged (--fit-judge-every)",
        )
    folder = work / "tune"
    fingerprint = data_fingerprint(work)
    space = GAT_SPACE if settings.space is None else read_space(settings.space)
    with _only_one(folder):
        tracker = tracker_or_none(tracking, folder)

        def open_run(trial: Trial) -> TrackedRun:
            described = describe(
                f"tune-{trial.number}",
                trial.settings,
                dataset=work.resolve().name,
                seed=fit.seed,
                data_fingerprint=fingerprint,
                trial=trial.number,
            )
            return TrackedRun(tracker, folder, described)

        graph = folder.resolve() / "linear.npz"
        save_linear(work, linear, graph)
        trials = search(
            GatTrial(work.resolve(), graph),
            fit,
            space,
            settings,
            folder,
            data=f"{fingerprint} {linear.model_dump_json()}",
            open_run=open_run,
        )
        write_outcome(folder, trials)
        for trial in trials:  # checkpoints of fits: of no use once the search is over
            if trial.over:
                shutil.rmtree(folder / "trials" / str(trial.number), ignore_errors=True)


def write_outcome(folder: Path, trials: Sequence[Trial]) -> None:
    """Leave best.json, best.options and leaderboard.json, and show the best five."""
    chosen = FitSettings.model_validate(best_trial(trials).settings)
    judged = [(best, trial) for trial in trials if (best := trial.best) is not None]
    judged.sort(key=lambda pair: pair[0].validation_recall_at_20 or 0.0, reverse=True)
    board = [
        {
            "trial": trial.number,
            "validation_recall_at_20": best.validation_recall_at_20,
            "epoch": best.epoch,
            "epochs": len(trial.curve),
            "state": trial.state,
            "settings": trial.settings,
        }
        for best, trial in judged
    ]
    write_whole(folder / "leaderboard.json", json.dumps(board, indent=1))
    write_whole(folder / "best.json", chosen.model_dump_json(indent=1))
    write_whole(folder / "best.options", "".join(f"{line}\n" for line in options_of(chosen)))
    lines = [f"{row['validation_recall_at_20']:.4f}  trial {row['trial']} ({row['state']})" for row in board[:5]]
    failed = sum(t.state == "failed" for t in trials)
    lines.append(f"{len(trials)} trials, {failed} failed; the best settings are in {folder / 'best.json'}")
    Console(stderr=True, soft_wrap=True).print("\n".join(lines), highlight=False, markup=False)


def options_of(settings: FitSettings) -> list[str]:
    """Settings as options of a run, but for the seed, which a run has for itself: `fit-model.width=127`."""
    given = settings.model_dump(mode="json", exclude={"seed"})
    return [f"fit-model.{field.replace('_', '-')}={value}" for field, value in given.items()]


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StageBusyError(
                "another process searches in this work folder", where=str(folder), todo="Wait for it to end"
            ) from error
        yield
