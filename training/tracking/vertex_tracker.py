"""Runs in Vertex AI Experiments, in the shape that Google's SDK and console read.

An experiment is a `system.Experiment` context, a run a `system.ExperimentRun` context below it, whose metadata hold
`_params`, `_metrics` and `_state`. Files are artifacts of the run. Series of epochs need a Tensorboard; without one the
run's metrics show the last epoch, and the whole curve is in the result file.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.bundle.files import sha256_file
from service.errors import InputError
from training.evaluation.result import Epoch
from training.tracking.tracker import End, RunDescription, TrackingError, epoch_metrics, metric_name
from training.tracking.vertex_clients import VertexAddress, resource_id

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1.types import Context

EXPERIMENT, RUN, TENSORBOARD_RUN = "system.Experiment", "system.ExperimentRun", "google.VertexTensorboardRun"
SCHEMA_VERSION = "0.0.1"
STATES: Mapping[End, str] = {"finished": "COMPLETE", "failed": "FAILED"}
LONGEST_RUN_ID = 128 - len("-tb-run")
"""Characters of `<experiment>-<run>`, as Google's SDK bounds it."""


class VertexTracker:
    """Runs of one experiment."""

    def __init__(self, address: VertexAddress, experiment: str, *, tensorboard: str = "", bucket: str = "") -> None:
        try:
            import google.cloud.aiplatform_v1  # noqa: F401
        except ModuleNotFoundError as error:
            todo = "pip install 'plotpointe[gcp]'"
            raise InputError("Google's client is not installed", where="--track-to vertex", todo=todo) from error
        self.where = f"{address.host}/{address.parent} experiment {experiment}"
        self._at = address
        self._experiment = experiment
        self._tensorboard = f"{address.parent}/tensorboards/{tensorboard}" if tensorboard else ""
        self._bucket = bucket
        self._store = f"{address.parent}/metadataStores/default"
        self._contexts: dict[str, Context] = {}
        self._series: dict[str, dict[str, str]] = {}
        self._starting: dict[str, str] = {}

    def open(self, run: RunDescription) -> str:
        """Start a run, with the metadata store and the experiment where they are missing."""
        room = LONGEST_RUN_ID - len(self._experiment) - 10
        # The same id where an attempt is repeated, so that one that failed half-way leaves no second run behind.
        name = self._starting.setdefault(run.name, f"{resource_id(run.name)[:room]}-{uuid.uuid4().hex[:8]}")
        run_id = f"{self._experiment}-{name}"
        params: dict[str, Any] = {k: v for k, v in run.params.items() if v is not None} | dict(run.tags)
        with self._at.mapped("start a run"):
            self._ensure_store()
            self._create(self._experiment, EXPERIMENT, self._experiment, {"experiment_deleted": False})
            self._create(run_id, RUN, name, {"_params": params, "_metrics": {}, "_state": "RUNNING"})
            self._at.metadata.add_context_children(
                context=self._name(self._experiment), child_contexts=[self._name(run_id)], **self._at.bounded
            )
            if self._tensorboard:
                self._open_series(run_id, name)
        del self._starting[run.name]
        return run_id

    def reopen(self, run_id: str) -> None:
        """Set a run that was left to running again."""
        with self._at.mapped("take up a run"):
            self._update(run_id, "_state", "RUNNING")

    def log_epochs(self, run_id: str, epochs: Sequence[Epoch]) -> None:
        """The last epoch as the run's metrics, and every epoch as points of the Tensorboard's series."""
        with self._at.mapped("log epochs"):
            if self._tensorboard:
                self._write_series(run_id, epochs)
            self._update(run_id, "_metrics", {"epoch": epochs[-1].epoch} | epoch_metrics(epochs[-1]))

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Final figures beside the last epoch's."""
        with self._at.mapped("log metrics"):
            self._update(run_id, "_metrics", {metric_name(name): float(value) for name, value in metrics.items()})

    def log_file(self, run_id: str, path: Path) -> None:
        """Upload the file where a bucket is named, and register place and digest as an artifact of the run."""
        from google.cloud.aiplatform_v1.types import Artifact

        target = f"{self._bucket}/{run_id}/{path.name}" if self._bucket else path.resolve().as_uri()
        with self._at.mapped("keep a file"):
            if self._bucket:
                self._at.upload(path, target)
            artifact = Artifact(
                display_name=path.name,
                uri=target,
                schema_title="system.Artifact",
                schema_version=SCHEMA_VERSION,
                state=Artifact.State.LIVE,
                metadata={"sha256": sha256_file(path), "bytes": path.stat().st_size},
            )
            self._attach(run_id, artifact, f"{run_id}-{resource_id(path.name)}"[:128])

    def close(self, run_id: str, end: End) -> None:
        """Set the run's state."""
        with self._at.mapped("end a run"):
            self._update(run_id, "_state", STATES[end])

    def _name(self, context_id: str) -> str:
        return f"{self._store}/contexts/{context_id}"

    def _ensure_store(self) -> None:
        from google.api_core.exceptions import Conflict, NotFound
        from google.cloud.aiplatform_v1.types import MetadataStore

        try:
            self._at.metadata.get_metadata_store(name=self._store, **self._at.bounded)
        except NotFound:  # a project's first run
            try:
                self._at.metadata.create_metadata_store(
                    parent=self._at.parent,
                    metadata_store=MetadataStore(),
                    metadata_store_id="default",
                    **self._at.bounded,
                ).result(timeout=self._at.timeout_seconds)  # type: ignore[no-untyped-call]
            except Conflict:
                return

    def _create(self, context_id: str, schema: str, display_name: str, metadata: dict[str, Any]) -> None:
        """A context, unless it is there (REST has 409 Conflict for that): a call that was repeated may have made it."""
        from google.api_core.exceptions import Conflict
        from google.cloud.aiplatform_v1.types import Context

        context = Context(
            display_name=display_name, schema_title=schema, schema_version=SCHEMA_VERSION, metadata=metadata
        )
        try:
            made = self._at.metadata.create_context(
                parent=self._store, context=context, context_id=context_id, **self._at.bounded
            )
        except Conflict:
            made = self._at.metadata.get_context(name=self._name(context_id), **self._at.bounded)
            if made.schema_title != schema:
                raise TrackingError(
                    f"{context_id!r} is a {made.schema_title}, not a {schema}",
                    where=self.where,
                    todo="Choose another --track-experiment",
                ) from None
        self._contexts[context_id] = made

    def _update(self, run_id: str, part: str, value: object) -> None:
        """Set the run's state, or merge figures into its metrics. After a failure the run is read anew (its etag)."""
        context = self._contexts.pop(run_id, None)
        if context is None:
            context = self._at.metadata.get_context(name=self._name(run_id), **self._at.bounded)
        held: Any = dict(context.metadata)
        held[part] = dict(held.get(part, {})) | value if isinstance(value, dict) else value
        context.metadata = held
        self._contexts[run_id] = self._at.metadata.update_context(context=context, **self._at.bounded)

    def _attach(self, run_id: str, artifact: Any, artifact_id: str) -> None:
        from google.api_core.exceptions import Conflict

        try:
            self._at.metadata.create_artifact(
                parent=self._store, artifact=artifact, artifact_id=artifact_id, **self._at.bounded
            )
        except Conflict:
            artifact.name = f"{self._store}/artifacts/{artifact_id}"
            self._at.metadata.update_artifact(artifact=artifact, **self._at.bounded)
        self._at.metadata.add_context_artifacts_and_executions(
            context=self._name(run_id), artifacts=[f"{self._store}/artifacts/{artifact_id}"], **self._at.bounded
        )

    def _open_series(self, run_id: str, name: str) -> None:
        """A Tensorboard run of the same name, tied to the run by the artifact that Google's SDK looks for."""
        from google.api_core.exceptions import Conflict
        from google.cloud.aiplatform_v1.types import Artifact, TensorboardExperiment, TensorboardRun

        boards, bounded = self._at.tensorboards, self._at.bounded
        experiment = f"{self._tensorboard}/experiments/{self._experiment}"
        labels = {"vertex_tensorboard_experiment_source": "vertex_experiment"}
        with contextlib.suppress(Conflict):
            boards.create_tensorboard_experiment(
                parent=self._tensorboard,
                tensorboard_experiment=TensorboardExperiment(display_name=self._experiment, labels=labels),
                tensorboard_experiment_id=self._experiment,
                **bounded,
            )
        with contextlib.suppress(Conflict):
            boards.create_tensorboard_run(
                parent=experiment,
                tensorboard_run=TensorboardRun(display_name=name),
                tensorboard_run_id=name,
                **bounded,
            )
        resource = f"{experiment}/runs/{name}"
        artifact = Artifact(
            uri=f"https://{self._at.location}-aiplatform.googleapis.com/v1/{resource}",
            schema_title=TENSORBOARD_RUN,
            schema_version=SCHEMA_VERSION,
            state=Artifact.State.LIVE,
            metadata={"resourceName": resource, "vertex_experiment_tracking": True},
        )
        self._attach(run_id, artifact, f"{run_id}-tb-run")

    def _write_series(self, run_id: str, epochs: Sequence[Epoch]) -> None:
        from google.cloud.aiplatform_v1.types import Scalar, TensorboardTimeSeries, TimeSeriesData, TimeSeriesDataPoint

        name = run_id.removeprefix(f"{self._experiment}-")
        run = f"{self._tensorboard}/experiments/{self._experiment}/runs/{name}"
        boards, bounded = self._at.tensorboards, self._at.bounded
        if run_id not in self._series:
            listed = boards.list_tensorboard_time_series(parent=run, **bounded)
            self._series[run_id] = {series.display_name: series.name for series in listed}
        known = self._series[run_id]
        scalar = TensorboardTimeSeries.ValueType.SCALAR
        data: dict[str, list[TimeSeriesDataPoint]] = {}
        for epoch in epochs:
            for metric, value in epoch_metrics(epoch).items():
                point = TimeSeriesDataPoint(step=epoch.epoch, scalar=Scalar(value=value), wall_time=_now())
                data.setdefault(metric, []).append(point)
        for metric in data.keys() - known.keys():
            series = TensorboardTimeSeries(display_name=metric, value_type=scalar)
            made = boards.create_tensorboard_time_series(parent=run, tensorboard_time_series=series, **bounded)
            known[metric] = made.name
        boards.write_tensorboard_run_data(
            tensorboard_run=run,
            time_series_data=[
                TimeSeriesData(
                    tensorboard_time_series_id=known[metric].rsplit("/", 1)[1], value_type=scalar, values=points
                )
                for metric, points in data.items()
            ],
            **bounded,
        )


def _now() -> dict[str, int]:
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    return {"seconds": seconds, "nanos": nanoseconds}
