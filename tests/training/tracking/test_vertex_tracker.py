"""Vertex AI Experiments through Google's own clients, against a server on loopback."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from google.api_core.exceptions import Forbidden, ServiceUnavailable

from service.errors import InputError
from training.evaluation.result import Epoch
from training.tracking.tracker import RunDescription, TrackingError
from training.tracking.vertex_clients import VertexAddress, resource_id
from training.tracking.vertex_tracker import LONGEST_RUN_ID, VertexTracker

RUN = RunDescription(name="gat+linear-0", params={"dim": 64, "rate": 0.5, "none": None}, tags={"dataset": "baby"})
Curve = tuple[Epoch, ...]


def tracker(server, **options: str) -> VertexTracker:
    address = VertexAddress("shop", "us-central1", endpoint=server.url, timeout_seconds=3)
    return VertexTracker(address, "ladder", **options)


def run_of(server) -> dict:
    (run,) = server.of_kind("system.ExperimentRun")
    return run


def test_a_run_is_kept_below_its_experiment(vertex_server, curve: Curve, tmp_path: Path) -> None:
    t = tracker(vertex_server)
    run_id = t.open(RUN)
    t.log_epochs(run_id, curve)
    t.log_metrics(run_id, {"recall@20": 0.11})
    (tmp_path / "result.json").write_text("{}")
    t.log_file(run_id, tmp_path / "result.json")
    t.log_file(run_id, tmp_path / "result.json")  # a repeated call changes nothing
    t.close(run_id, "finished")

    run = run_of(vertex_server)
    assert run["metadata"] == {
        "_params": {"dim": 64, "rate": 0.5, "dataset": "baby"},
        "_metrics": {
            "epoch": 3,
            "loss": 1 / 3,
            "validation_recall_at_20": 0.3,
            "epoch_seconds": 0.5,
            "recall_at_20": 0.11,
        },
        "_state": "COMPLETE",
    }
    (experiment,) = vertex_server.of_kind("system.Experiment")
    assert vertex_server.members[experiment["name"]] == {run["name"]}
    (artifact,) = vertex_server.of_kind("system.Artifact")
    assert vertex_server.members[run["name"]] == {artifact["name"]}
    assert artifact["uri"] == (tmp_path / "result.json").as_uri()
    assert artifact["metadata"]["bytes"] == 2
    assert not any("Authorization" in headers for headers in vertex_server.headers_seen)


def test_googles_own_sdk_reads_the_run(vertex_server, curve: Curve) -> None:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import aiplatform

    t = tracker(vertex_server)
    run_id = t.open(RUN)
    t.log_metrics(run_id, {"recall@20": 0.11})
    aiplatform.init(
        project="shop",
        location="us-central1",
        credentials=AnonymousCredentials(),
        api_endpoint=vertex_server.url,
        api_transport="rest",
    )
    read = aiplatform.ExperimentRun(run_id.removeprefix("ladder-"), experiment="ladder")
    assert read.get_params() == {"dim": 64, "rate": 0.5, "dataset": "baby"}
    assert read.get_metrics() == {"recall_at_20": 0.11}
    assert read.get_state() == "RUNNING"


def test_a_tensorboard_keeps_the_series_of_epochs_over_a_restart(vertex_server, curve: Curve) -> None:
    t = tracker(vertex_server, tensorboard="77")
    run_id = t.open(RUN)
    t.log_epochs(run_id, curve[:1])
    again = tracker(vertex_server, tensorboard="77")
    again.reopen(run_id)
    again.log_epochs(run_id, curve[1:])
    names = {r["name"]: r["displayName"] for k, r in vertex_server.resources.items() if "/timeSeries/" in k}
    series = {names[name]: points for name, points in vertex_server.points.items()}
    assert series["validation_recall_at_20"] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert series.keys() == {"loss", "validation_recall_at_20", "epoch_seconds"}
    (tied,) = vertex_server.of_kind("google.VertexTensorboardRun")
    assert tied["name"].endswith(f"{run_id}-tb-run")
    assert tied["metadata"]["resourceName"] in vertex_server.resources


def test_files_are_uploaded_to_the_bucket(vertex_server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", vertex_server.url)
    t = tracker(vertex_server, bucket="gs://shop-runs/plotpointe")
    run_id = t.open(RUN)
    (tmp_path / "report.html").write_text("<p>ladder</p>")
    t.log_file(run_id, tmp_path / "report.html")
    target = f"gs://shop-runs/plotpointe/{run_id}/report.html"
    assert vertex_server.uploads == {target: b"<p>ladder</p>"}
    assert vertex_server.of_kind("system.Artifact")[0]["uri"] == target


def test_a_server_that_is_unavailable_once_is_asked_again(vertex_server, curve: Curve) -> None:
    t = tracker(vertex_server)
    vertex_server.failures = [(503, "try later")]
    run_id = t.open(RUN)
    vertex_server.failures = [(503, "try later"), (429, "slow down")]
    t.log_epochs(run_id, curve)
    assert run_of(vertex_server)["metadata"]["_metrics"]["epoch"] == 3


def test_a_server_that_stays_unavailable_costs_no_more_than_the_timeout(vertex_server) -> None:
    address = VertexAddress("shop", "us-central1", endpoint=vertex_server.url, timeout_seconds=0.5)
    vertex_server.refuse = (503, "down")
    with pytest.raises(TrackingError, match="could not start a run") as raised:
        VertexTracker(address, "ladder").open(RUN)
    assert 1 <= len(vertex_server.requests) <= 5
    assert isinstance(raised.value.__cause__.__cause__, ServiceUnavailable)


def test_a_server_that_does_not_answer_costs_no_more_than_the_timeout(vertex_server) -> None:
    vertex_server.answers.clear()
    start = time.monotonic()
    with pytest.raises(TrackingError, match="could not start a run"):
        VertexTracker(VertexAddress("shop", "us-central1", endpoint=vertex_server.url, timeout_seconds=0.3), "x").open(
            RUN
        )
    assert time.monotonic() - start < 5  # not the minutes that Google's clients wait by themselves


def test_a_refusal_is_not_asked_again(vertex_server) -> None:
    vertex_server.refuse = (403, "aiplatform.metadataStores.get denied")
    with pytest.raises(TrackingError, match=r"denied.*roles/aiplatform.user") as raised:
        tracker(vertex_server).open(RUN)
    assert isinstance(raised.value.__cause__, Forbidden)
    assert len(vertex_server.requests) == 1


def test_an_attempt_that_failed_half_way_leaves_no_second_run(vertex_server) -> None:
    t = tracker(vertex_server)
    found: list[str] = []

    def stop_before_children(method: str, path: str, query: object, body: bytes) -> tuple[int, object]:
        if path.endswith(":addContextChildren") and not found:
            found.append(path)
            return 403, {"error": {"code": 403, "message": "denied"}}
        return answer(method, path, query, body)

    answer = vertex_server.answer
    vertex_server.answer = stop_before_children
    with pytest.raises(TrackingError):
        t.open(RUN)
    run_id = t.open(RUN)
    assert run_of(vertex_server)["name"].endswith(run_id)


def test_an_update_after_someone_elses_is_made_on_what_is_there(vertex_server, curve: Curve) -> None:
    t = tracker(vertex_server)
    run_id = t.open(RUN)
    other = tracker(vertex_server)
    other.log_metrics(run_id, {"recall@20": 0.11})
    with pytest.raises(TrackingError, match="etag"):
        t.log_epochs(run_id, curve)
    t.log_epochs(run_id, curve)
    metrics = run_of(vertex_server)["metadata"]["_metrics"]
    assert (metrics["recall_at_20"], metrics["epoch"]) == (0.11, 3)


def test_an_experiments_name_that_is_something_else_is_refused(vertex_server) -> None:
    t = tracker(vertex_server)
    run_id = t.open(RUN)
    clash = VertexTracker(VertexAddress("shop", "us-central1", endpoint=vertex_server.url), run_id)
    with pytest.raises(TrackingError, match=r"is a system\.ExperimentRun"):
        clash.open(RUN)


def test_credentials_do_not_travel_in_the_clear() -> None:
    with pytest.raises(InputError, match="http://"):
        VertexAddress("shop", "us-central1", endpoint="http://vertex.example")
    assert VertexAddress("shop", "europe-west4").host == "europe-west4-aiplatform.googleapis.com"


@pytest.mark.parametrize(("name", "expected"), [("gat+linear-0", "gat-linear-0"), ("A b", "a-b"), ("+", "run")])
def test_ids_are_what_vertex_takes(name: str, expected: str) -> None:
    assert resource_id(name) == expected


def test_a_long_name_fits(vertex_server) -> None:
    run_id = tracker(vertex_server).open(RUN.model_copy(update={"name": "x" * 300}))
    assert len(run_id) <= LONGEST_RUN_ID
