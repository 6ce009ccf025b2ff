"""Ray Tune runs the trials of a search, a bounded number at a time, and the validation split says which are stopped.

Ray gives processes and their supervision. What is known of the trials is in the records, so that a search that was
killed is taken up by the same call: finished trials are not run again, unfinished ones go on from their own
checkpoints, and a larger number of trials makes the same search longer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import Progress

from service.errors import StageError
from training.evaluation.result import Epoch
from training.tracking.tracked_run import TrackedRun
from training.tuning.halving import Halving
from training.tuning.ray_session import bound_memory, ray_session
from training.tuning.records import Records, Trial
from training.tuning.space import Space, check_space, point

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)

Settings = TypeVar("Settings", bound=BaseModel)
Report = Callable[[Sequence[Epoch]], None]
OpenRun = Callable[[Trial], TrackedRun]


class TrialFunction(Protocol):
    """One fit. Travels to another process: a function of a module, a dataclass, or a closure over plain values."""

    def __call__(self, settings: Mapping[str, object], report: Report, scratch: Path) -> Sequence[Epoch]:
        """Fit with `settings`, `report` the curve so far after each epoch, return it whole.

        `scratch` is the trial's own folder; it is there again, with what was left in it, when the trial is taken up.
        """


class TuneSettings(BaseModel):
    """How a search goes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    trials: int = Field(24, ge=1)
    """Points of the space that are tried, the given settings first; raise it to search on."""
    concurrency: int = Field(2, ge=1)
    """Trials at a time, each a process with one thread. With 1 the same seed ends with the same trials stopped."""
    memory_mib: int = Field(4096, ge=64)
    """Memory that one trial may allocate; a trial that wants more fails, the others go on."""
    first_rung: int = Field(4, ge=1)
    """Epochs that every trial is given."""
    reduction: int = Field(3, ge=1)
    """After first_rung epochs, and each time after this many times more, the best 1 of so many go on; 1 stops none."""
    space: Path | None = None
    """JSON file of the search space; without it the one that the model comes with."""
    seed: int = Field(0, ge=0)
    """Seeds the points that are tried."""


class Identity(BaseModel):
    """What makes a search this search: its trials are comparable with no other's."""

    model_config = ConfigDict(frozen=True)
    data: str
    base: dict[str, object]
    space: dict[str, dict[str, object]]
    seed: int
    first_rung: int
    reduction: int


def search(
    trial: TrialFunction,
    base: Settings,
    space: Space,
    settings: TuneSettings,
    folder: Path,
    *,
    data: str,
    open_run: OpenRun,
) -> list[Trial]:
    """Run or take up a search in `folder` over the data with fingerprint `data`; returns its trials by number.

    Raises InputError where the space is not one of `base`'s, or the folder holds another search.
    """
    check_space(space, base)
    records = Records(folder)
    records.claim(
        Identity(
            data=data,
            base=base.model_dump(mode="json"),
            space={field: axis.model_dump(mode="json") for field, axis in sorted(space.items())},
            seed=settings.seed,
            first_rung=settings.first_rung,
            reduction=settings.reduction,
        )
    )
    left = []
    for number in range(settings.trials):
        known = records.read(number)
        if known is None:
            chosen = point(space, base, number, seed=settings.seed).model_dump(mode="json")
            known = Trial(number=number, settings=chosen)
        if not known.over:
            left.append(known.model_copy(update={"state": "running", "error": ""}))
    if left:
        _run(trial, left, records, settings, open_run)
    return [t for t in records.read_all() if t.number < settings.trials]


def best_trial(trials: Sequence[Trial]) -> Trial:
    """The trial with the best validation recall@20 of any epoch, the first of equals. StageError where all failed."""
    judged = [(best.validation_recall_at_20 or 0.0, trial) for trial in trials if (best := trial.best) is not None]
    if not judged:
        errors = [trial.error for trial in trials if trial.error]
        raise StageError(
            f"every trial failed{f': {errors[0]}' if errors else ''}",
            where="the search",
            todo="Try the settings it starts from by `plotpointe-train fit` first",
        )
    return max(judged, key=lambda pair: pair[0])[1]


def _run(
    trial: TrialFunction, left: Sequence[Trial], records: Records, settings: TuneSettings, open_run: OpenRun
) -> None:
    numbers = [t.number for t in left]
    chosen = {t.number: t.settings for t in left}
    scratch = {number: records.scratch(number).resolve() for number in numbers}
    memory_mib = settings.memory_mib

    def run(config: dict[str, Any]) -> None:
        from ray import tune

        def report(curve: Sequence[Epoch]) -> None:
            tune.report({"curve": [epoch.model_dump() for epoch in curve], "whole": False})

        number = config["trial"]
        bound_memory(memory_mib)
        scratch[number].mkdir(parents=True, exist_ok=True)
        try:
            curve = trial(chosen[number], report, scratch[number])
        except Exception as error:
            tune.report({"error": f"{type(error).__name__}: {error}"})
            raise
        tune.report({"curve": [epoch.model_dump() for epoch in curve], "whole": True})

    with (
        ray_session(settings.concurrency) as ray_folder,
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        from ray import tune

        from training.tuning.supervisor import Supervisor

        logging.getLogger("ray.tune").setLevel(logging.ERROR)
        task = progress.add_task("search", total=settings.trials, completed=settings.trials - len(left))
        watch = Supervisor(
            left,
            records,
            Halving(settings.first_rung, settings.reduction),
            open_run,
            on_change=lambda text, over: progress.update(task, description=text, advance=int(over)),
        )
        tuner = tune.Tuner(
            tune.with_resources(run, {"cpu": 1}),
            param_space={"trial": tune.grid_search(numbers)},
            tune_config=tune.TuneConfig(scheduler=watch, max_concurrent_trials=settings.concurrency, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=str(ray_folder / "tune"), name="search", verbose=0),
        )
        tuner.fit()
