"""A run that a fit can rely on: what a tracker fails at is a warning, and a fit taken up again goes on in its run.

with track(settings, folder, describe("gat-0", fit_settings, dataset="amazon-baby", seed=0)) as run:
    fit_gat(..., on_epoch=epoch_hook(run, show_progress))
    run.finish({"validation_recall@20": .1103}, [result_path])
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from training.evaluation.result import Epoch
from training.files import write_whole
from training.tracking.provenance import code_version
from training.tracking.settings import TrackingSettings, open_tracker
from training.tracking.tracker import RunDescription, Tracker, TrackingError

log = logging.getLogger(__name__)

GIVE_UP = 3
"""Failures in a row after which a tracker is left alone until the end: an hour's fit does not wait at every epoch."""


class RunRecord(BaseModel):
    """What `<folder>/tracking/<run>.json` says, so that a later process goes on in the same run."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    run_id: str
    tracker: str
    digest: str
    """sha256 of the run's description: other settings are another run."""
    epochs: int
    """Epochs that the tracker has."""
    ended: bool


class Curve(Protocol):
    """What fit loops hand to `on_epoch`: one value an epoch."""

    loss: list[float]
    recall_at_20: list[float]
    seconds: list[float]


class TrackedRun:
    """One run of a tracker. No method raises TrackingError."""

    def __init__(self, tracker: Tracker, folder: Path, description: RunDescription) -> None:
        self._tracker = tracker
        self._description = description
        self._path = folder / "tracking" / f"{description.name}.json"
        self._digest = hashlib.sha256(f"{tracker.where}\n{description.model_dump_json()}".encode()).hexdigest()
        self._record = _read(self._path, self._digest)
        self._opened = False
        self._failures = 0

    def epochs(self, curve: Sequence[Epoch]) -> None:
        """The curve so far, whole: what the tracker lacks of it is sent, also what it missed while it failed."""
        if self._failures < GIVE_UP:
            self._attempt(lambda: self._send(curve))

    def finish(self, metrics: Mapping[str, float], files: Sequence[Path] = (), curve: Sequence[Epoch] = ()) -> None:
        """Final figures and files; `curve` sends what is still missing. One last attempt where the tracker failed."""

        def send() -> None:
            self._send(curve)
            run_id = self._open()
            if metrics:
                self._tracker.log_metrics(run_id, metrics)
            for path in files:
                self._tracker.log_file(run_id, path)

        self._attempt(send)

    def close(self, *, failed: bool = False) -> None:
        """The run is over; a run that is not closed is taken up again."""

        def end() -> None:
            self._tracker.close(self._open(), "failed" if failed else "finished")
            self._keep(ended=True)

        self._attempt(end)

    def _send(self, curve: Sequence[Epoch]) -> None:
        run_id = self._open()
        if len(curve) > self._sent:
            self._tracker.log_epochs(run_id, curve[self._sent :])
            self._keep(epochs=len(curve))

    @property
    def _sent(self) -> int:
        return self._record.epochs if self._record else 0

    def _open(self) -> str:
        if self._record is None:
            run_id = self._tracker.open(self._description)
            self._record = RunRecord(
                run_id=run_id, tracker=self._tracker.where, digest=self._digest, epochs=0, ended=False
            )
            self._keep()
        elif not self._opened:
            self._tracker.reopen(self._record.run_id)
        self._opened = True
        return self._record.run_id

    def _attempt(self, call: Callable[[], None]) -> None:
        try:
            call()
        except TrackingError as error:
            self._failures += 1
            then = "left alone until the fit ends" if self._failures == GIVE_UP else "the fit goes on"
            log.warning("tracking: run %s: %s; %s", self._description.name, error, then)
        else:
            self._failures = 0

    def _keep(self, **changed: object) -> None:
        assert self._record is not None
        self._record = self._record.model_copy(update=changed)
        write_whole(self._path, self._record.model_dump_json(indent=1))


@contextmanager
def track(settings: TrackingSettings, folder: Path, description: RunDescription) -> Iterator[TrackedRun]:
    """A run that ends with the block: failed where the block raises, left open where it is interrupted."""
    run = TrackedRun(tracker_or_none(settings, folder), folder, description)
    run.epochs(())  # a run that cannot be started is told of before an hour's fit, not after it
    try:
        yield run
    except Exception:
        run.close(failed=True)
        raise
    run.close()


def describe(name: str, settings: Mapping[str, object] | BaseModel, **tags: object) -> RunDescription:
    """A run's description: settings flat by dots, tags as text, the code's version added."""
    given = settings.model_dump(mode="json") if isinstance(settings, BaseModel) else settings
    known = {"code_version": code_version()} | {key: str(value) for key, value in tags.items() if value is not None}
    return RunDescription(name=name, params=dict(_flat(given)), tags=known)


def epoch_hook(
    run: TrackedRun, *others: Callable[[int, int, Curve], None], first_judged: int | None = 1
) -> Callable[[int, int, Curve], None]:
    """`on_epoch(done, most, curve)` of fit loops that sends the curve to `run`, then calls `others`.

    `first_judged` is the first epoch with a look at the validation split; None where a fit has none.
    """

    def on_epoch(done: int, most: int, curve: Curve) -> None:
        run.epochs(epochs_of(curve, first_judged=first_judged))
        for other in others:
            other(done, most, curve)

    return on_epoch


def epochs_of(curve: Curve, *, first_judged: int | None = 1) -> tuple[Epoch, ...]:
    """A fit's curve as results keep it; what it holds as recall before the first look at validation is left out."""
    rows = zip(curve.loss, curve.recall_at_20, curve.seconds, strict=True)
    return tuple(
        Epoch(
            epoch=number,
            loss=loss,
            validation_recall_at_20=recall if first_judged is not None and number >= first_judged else None,
            seconds=seconds,
        )
        for number, (loss, recall, seconds) in enumerate(rows, start=1)
    )


def tracker_or_none(settings: TrackingSettings, folder: Path) -> Tracker:
    """The tracker that the settings name; where it cannot be had, a warning and one that keeps nothing."""
    from training.tracking.no_tracker import NoTracker

    try:
        return open_tracker(settings, folder)
    except TrackingError as error:
        log.warning("tracking: %s; the fit goes on without", error)
        return NoTracker()


def _flat(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str | int | float | bool | None]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, str | int | float | bool) or value is None:
            yield f"{prefix}{key}", value
        else:
            yield f"{prefix}{key}", str(value)


def _read(path: Path, digest: str) -> RunRecord | None:
    """The record of a run with the same description that has not ended."""
    try:
        record = RunRecord.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return record if record.digest == digest and not record.ended else None
