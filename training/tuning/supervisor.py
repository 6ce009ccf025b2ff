"""Listens to Ray's trials: writes the records, tells the tracker, and stops what falls behind.

It is a scheduler because that is where Ray asks whether a trial goes on. Imported when a search runs, since Ray is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from training.evaluation.result import Epoch
from training.tracking.tracked_run import TrackedRun
from training.tuning.halving import Halving
from training.tuning.records import Records, State, Trial


class Supervisor(FIFOScheduler):
    """One search's trials by number."""

    def __init__(
        self,
        trials: Sequence[Trial],
        records: Records,
        halving: Halving,
        open_run: Callable[[Trial], TrackedRun],
        on_change: Callable[[str, bool], None],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._trials = {trial.number: trial for trial in trials}
        self._runs: dict[int, TrackedRun] = {}
        self._records = records
        self._halving = halving
        self._open_run = open_run
        self._on_change = on_change

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles its scheduler into a snapshot that no one reads; the records are the search's memory."""
        return {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """A trial waits for its turn."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """A trial's curve has grown: keep it, and say whether the trial goes on."""
        number = trial.config["trial"]
        if "error" in result:  # it raises next
            self._keep(number, error=result["error"])
            return TrialScheduler.CONTINUE
        curve = tuple(Epoch(**epoch) for epoch in result["curve"])
        others = self._records.read_all()
        stopped = not result["whole"] and self._halving.stops(curve, number, others)
        self._keep(number, curve=curve, state="stopped" if stopped else "running")
        self._run(number).epochs(curve)
        if stopped:
            self._end(number, "stopped")
        return TrialScheduler.STOP if stopped else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A trial has returned."""
        number = trial.config["trial"]
        if self._trials[number].state == "running":
            self._end(number, "finished")

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A trial has raised, or its process has died."""
        number = trial.config["trial"]
        self._keep(number, error=self._trials[number].error or "its process died")
        self._end(number, "failed")

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """A trial that waited is taken back; it stays unfinished."""

    def _end(self, number: int, state: State) -> None:
        self._keep(number, state=state)
        trial = self._trials[number]
        run = self._run(number)
        if trial.best is not None:
            run.finish({"best_validation_recall@20": trial.best.validation_recall_at_20 or 0.0}, curve=trial.curve)
        run.close(failed=state == "failed")
        found = "" if trial.best is None else f", validation recall@20 {trial.best.validation_recall_at_20:.4f}"
        self._on_change(f"trial {number} {state}{found}", True)

    def _keep(self, number: int, **changed: object) -> None:
        self._trials[number] = self._trials[number].model_copy(update=changed)
        self._records.write(self._trials[number])

    def _run(self, number: int) -> TrackedRun:
        if number not in self._runs:
            self._runs[number] = self._open_run(self._trials[number])
        return self._runs[number]
