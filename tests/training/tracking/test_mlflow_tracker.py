"""MLflow on SQLite, with MLflow's own client to read what was kept."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sqlalchemy.exc import SADeprecationWarning

from training.evaluation.result import Epoch
from training.tracking.mlflow_tracker import MlflowTracker
from training.tracking.tracker import RunDescription, TrackingError

RUN = RunDescription(name="gat-0", params={"dim": 64, "note": "x" * 9000}, tags={"dataset": "amazon-baby"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database for the module: making its tables takes two seconds."""
    return tmp_path_factory.mktemp("run")


@pytest.fixture
def reader(folder: Path) -> Iterator[MlflowClient]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SADeprecationWarning)
        yield MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")


def tracker(folder: Path, uri: str = "") -> MlflowTracker:
    return MlflowTracker(uri, "ladder", folder, timeout_seconds=2)


def test_a_run_is_kept_with_params_series_figures_and_files(
    folder: Path, curve: tuple[Epoch, ...], reader: MlflowClient, tmp_path: Path
) -> None:
    t = tracker(folder)
    run_id = t.open(RUN)
    t.log_epochs(run_id, curve)
    t.log_metrics(run_id, {"recall@20": 0.11})
    (tmp_path / "result.json").write_text("{}")
    t.log_file(run_id, tmp_path / "result.json")
    t.close(run_id, "finished")

    run = reader.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "gat-0"
    assert run.data.params["dim"] == "64"
    assert run.data.tags["dataset"] == "amazon-baby"
    assert run.data.metrics["recall_at_20"] == 0.11
    series = reader.get_metric_history(run_id, "validation_recall_at_20")
    assert [(point.step, point.value) for point in series] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    kept = folder / "mlflow-artifacts" / run_id / "artifacts" / "result.json"
    assert kept.read_text() == "{}"


def test_a_run_is_taken_up_by_another_process(folder: Path, curve: tuple[Epoch, ...], reader: MlflowClient) -> None:
    run_id = tracker(folder).open(RUN)
    tracker(folder).log_epochs(run_id, curve[:2])
    again = tracker(folder)
    again.reopen(run_id)
    again.log_epochs(run_id, curve[2:])
    again.close(run_id, "failed")
    assert [point.step for point in reader.get_metric_history(run_id, "loss")] == [1, 2, 3]
    assert reader.get_run(run_id).info.status == "FAILED"


def test_a_run_that_is_not_there_is_an_error(folder: Path, curve: tuple[Epoch, ...]) -> None:
    with pytest.raises(TrackingError, match="could not log epochs"):
        tracker(folder).log_epochs("0" * 32, curve)


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to be looked at as one by its header" * 20)
    with pytest.raises(TrackingError, match=r"mlflow\.db"):
        tracker(tmp_path).open(RUN)


def test_a_server_that_is_not_there_is_an_error_without_its_password(tmp_path: Path) -> None:
    t = tracker(tmp_path, "http://shop:s3cret@127.0.0.1:9/")
    with pytest.raises(TrackingError) as raised:
        t.open(RUN)
    assert "s3cret" not in str(raised.value)
    assert "127.0.0.1:9" in str(raised.value)
