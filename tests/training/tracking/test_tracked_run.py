"""What a fit can rely on, with every tracker: failures are warnings, a resumed fit goes on in its run."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from service.errors import InputError
from training.dataset import TRAIN, VALIDATION, Dataset
from training.evaluation.result import Epoch
from training.fit import Curve, fit_gat
from training.fit_settings import FitSettings
from training.linear import LinearSettings, linear_graph
from training.tracking.no_tracker import NoTracker
from training.tracking.settings import TrackingSettings, open_tracker
from training.tracking.tracked_run import GIVE_UP, TrackedRun, describe, epoch_hook, epochs_of, track
from training.tracking.tracker import RunDescription, Tracker, TrackingError, redact

RUN = RunDescription(name="gat-0", params={"dim": 64}, tags={"dataset": "amazon-baby"})


class Notebook(NoTracker):
    """A tracker that remembers its calls and fails when told to: no network, so what a run asks for can be counted."""

    where = "a notebook"

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.broken = False

    def _note(self, *call: object) -> None:
        if self.broken:
            raise TrackingError("the notebook is closed", where=self.where)
        self.calls.append(call)

    def open(self, run: RunDescription) -> str:
        self._note("open")
        return "page-1"

    def reopen(self, run_id: str) -> None:
        self._note("reopen", run_id)

    def log_epochs(self, run_id: str, epochs: tuple[Epoch, ...]) -> None:
        self._note("epochs", *(epoch.epoch for epoch in epochs))

    def log_metrics(self, run_id: str, metrics: object) -> None:
        self._note("metrics", metrics)

    def close(self, run_id: str, end: str) -> None:
        self._note(end)


@pytest.fixture(params=["none", "mlflow", "vertex"])
def settings(request: pytest.FixtureRequest, vertex_server) -> TrackingSettings:
    where = {"project": "shop", "endpoint": vertex_server.url} if request.param == "vertex" else {}
    return TrackingSettings(to=request.param, timeout_seconds=2, **where)


def test_every_tracker_takes_a_whole_run_and_goes_on_with_one(
    settings: TrackingSettings, curve: tuple[Epoch, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "result.json").write_text("{}")
    first: Tracker = open_tracker(settings, tmp_path)
    TrackedRun(first, tmp_path, RUN).epochs(curve[:1])
    with track(settings, tmp_path, RUN) as run:
        run.epochs(curve)
        run.finish({"recall@20": 0.1}, [tmp_path / "result.json"])
    record = (tmp_path / "tracking" / "gat-0.json").read_text()
    assert '"epochs": 3' in record
    assert '"ended": true' in record
    assert caplog.records == []


def test_a_fit_whose_tracker_is_refused_ends_as_without_one(
    dataset: Dataset, vertex_server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The service denies every call; the fit's figures are those of an untracked fit, and a warning says why."""
    vertex_server.refuse = (403, "permission aiplatform.contexts.create denied")
    train, validation = (dataset.interactions.within([split]) for split in (TRAIN, VALIDATION))
    fit = FitSettings(width=15, max_epochs=4, batch_size=50, negatives=60, head_dim=4, heads=2, history_length=10)
    linear = linear_graph(train.matrix(), dict(dataset.relations), LinearSettings(ridge=10.0))
    settings = TrackingSettings(to="vertex", project="shop", endpoint=vertex_server.url, timeout_seconds=2)
    with track(settings, tmp_path, describe("gat-0", fit)) as run:
        _, curve = fit_gat(dataset, train, fit, linear, validation=validation, on_epoch=epoch_hook(run))
    _, untracked = fit_gat(dataset, train, fit, linear, validation=validation)
    assert curve.recall_at_20 == untracked.recall_at_20
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert all("denied" in text for text in warnings)
    # Starting, GIVE_UP in all while epochs go by, and one last attempt when the run is closed.
    assert len(warnings) == GIVE_UP + 1
    assert "left alone" in warnings[GIVE_UP - 1]


def test_what_was_missed_is_sent_when_the_tracker_is_back(curve: tuple[Epoch, ...], tmp_path: Path) -> None:
    notebook = Notebook()
    run = TrackedRun(notebook, tmp_path, RUN)
    run.epochs(curve[:1])
    notebook.broken = True
    run.epochs(curve[:2])
    notebook.broken = False
    run.epochs(curve)
    assert notebook.calls == [("open",), ("epochs", 1), ("epochs", 2, 3)]


def test_a_tracker_given_up_gets_one_last_attempt_with_the_whole_curve(
    curve: tuple[Epoch, ...], tmp_path: Path
) -> None:
    notebook = Notebook()
    notebook.broken = True
    run = TrackedRun(notebook, tmp_path, RUN)
    for _ in range(GIVE_UP):
        run.epochs(curve[:1])
    notebook.broken = False
    run.epochs(curve[:2])
    assert notebook.calls == []
    run.finish({"recall@20": 0.1}, curve=curve)
    assert notebook.calls == [("open",), ("epochs", 1, 2, 3), ("metrics", {"recall@20": 0.1})]


def test_a_resumed_fit_sends_only_what_is_new_and_other_settings_are_another_run(
    curve: tuple[Epoch, ...], tmp_path: Path
) -> None:
    notebook = Notebook()
    TrackedRun(notebook, tmp_path, RUN).epochs(curve[:2])
    TrackedRun(notebook, tmp_path, RUN).epochs(curve)
    assert notebook.calls == [("open",), ("epochs", 1, 2), ("reopen", "page-1"), ("epochs", 3)]
    TrackedRun(notebook, tmp_path, RUN.model_copy(update={"params": {"dim": 32}})).epochs(curve[:1])
    assert notebook.calls[4:] == [("open",), ("epochs", 1)]


def test_a_run_that_ended_is_not_taken_up_again(curve: tuple[Epoch, ...], tmp_path: Path) -> None:
    notebook = Notebook()
    run = TrackedRun(notebook, tmp_path, RUN)
    run.epochs(curve)
    run.close()
    TrackedRun(notebook, tmp_path, RUN).epochs(curve)
    assert notebook.calls == [("open",), ("epochs", 1, 2, 3), ("finished",), ("open",), ("epochs", 1, 2, 3)]


def test_a_fit_that_fails_is_marked_and_one_that_is_interrupted_is_left_open(tmp_path: Path) -> None:
    settings = TrackingSettings()
    with pytest.raises(ValueError, match="no data"), track(settings, tmp_path, RUN):
        raise ValueError("no data")
    assert '"ended": true' in (tmp_path / "tracking" / "gat-0.json").read_text()
    with pytest.raises(KeyboardInterrupt), track(settings, tmp_path, RUN):
        raise KeyboardInterrupt
    assert '"ended": false' in (tmp_path / "tracking" / "gat-0.json").read_text()


def test_a_tracker_that_cannot_be_made_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = TrackingSettings(to="mlflow", uri="nonsense://shop:s3cret@somewhere")
    assert "s3cret" not in repr(settings)
    with track(settings, tmp_path, RUN) as run:
        run.epochs(())
    assert "goes on without" in caplog.text
    assert "s3cret" not in caplog.text


def test_the_hook_adapts_the_curve_of_a_fit(tmp_path: Path) -> None:
    notebook, seen = Notebook(), []
    hook = epoch_hook(TrackedRun(notebook, tmp_path, RUN), lambda done, most, curve: seen.append((done, most)))
    curve = Curve(loss=[2.0, 1.0], recall_at_20=[0.1, 0.2], seconds=[0.5, 0.25])
    hook(2, 8, curve)
    assert notebook.calls == [("open",), ("epochs", 1, 2)]
    assert seen == [(2, 8)]
    assert epochs_of(curve)[1] == Epoch(epoch=2, loss=1.0, validation_recall_at_20=0.2, seconds=0.25)
    assert [epoch.validation_recall_at_20 for epoch in epochs_of(curve, first_judged=2)] == [None, 0.2]
    assert epochs_of(curve, first_judged=None)[1].validation_recall_at_20 is None


def test_a_description_is_flat_and_tagged_with_the_code() -> None:
    described = describe("gat-0", {"fit": {"dim": 64, "shape": (1, 2)}, "seed": 0}, dataset="amazon-baby", preset=None)
    assert described.params == {"fit.dim": 64, "fit.shape": "(1, 2)", "seed": 0}
    assert described.tags.keys() == {"dataset", "code_version"}
    assert described.tags["code_version"].startswith("0.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET http://me:pw@host:1/x", "GET http://***@host:1/x"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("?access_token=abc&k=20", "?access_token=***&k=20"),
        ("sqlite:////tmp/mlflow.db", "sqlite:////tmp/mlflow.db"),
    ],
)
def test_passwords_are_left_out(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    "wrong", [{"to": "vertex"}, {"experiment": "No Spaces"}, {"bucket": "s3://runs"}, {"timeout_seconds": 0}]
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)) if "to" not in wrong else "project"):
        TrackingSettings(**wrong)


@pytest.mark.parametrize(("to", "module"), [("mlflow", "mlflow"), ("vertex", "google.cloud.aiplatform_v1")])
def test_a_tracker_that_is_not_installed_says_what_to_install(
    to: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"not installed.*pip install"):
        open_tracker(TrackingSettings(to=to, project="shop"), tmp_path)
