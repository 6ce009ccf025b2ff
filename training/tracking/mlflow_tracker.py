"""Runs in MLflow: SQLite beside the run's other files by default, or any MLflow tracking URI.

mlflow is imported when the first tracker is made: it takes over a second, and fits without tracking need none of it.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import InputError
from training.evaluation.result import Epoch
from training.tracking.tracker import End, RunDescription, TrackingError, epoch_metrics, metric_name, redact

if TYPE_CHECKING:
    from mlflow import MlflowClient

LONGEST_PARAM = 6000
"""Characters of a parameter that MLflow takes."""


class MlflowTracker:
    """Runs of one MLflow experiment. `folder` holds the database and the artifacts where `uri` is empty."""

    def __init__(self, uri: str, experiment: str, folder: Path, *, timeout_seconds: float) -> None:
        self._uri = uri or f"sqlite:///{folder.resolve() / 'mlflow.db'}"
        self.where = redact(self._uri)
        self._experiment = experiment
        self._artifacts = None if uri else (folder.resolve() / "mlflow-artifacts").as_uri()
        folder.mkdir(parents=True, exist_ok=True)
        # Before the import, which reads them. The server of an HTTP URI gets one retry; a fit does not wait for more.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, round(timeout_seconds))))
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        try:
            import mlflow  # noqa: F401
        except ModuleNotFoundError as error:
            todo = "pip install 'plotpointe[tracking]'"
            raise InputError("MLflow is not installed", where="--track-to mlflow", todo=todo) from error
        with self._mapped("connect"):
            self._client: MlflowClient = _client(self._uri)

    def open(self, run: RunDescription) -> str:
        """Start a run, with the experiment where it is missing."""
        with self._mapped("start a run"):
            params = {name: str(value)[:LONGEST_PARAM] for name, value in run.params.items()}
            tags = run.tags | {"mlflow.runName": run.name}
            started = self._client.create_run(self._experiment_id(), tags=tags, run_name=run.name)
            run_id: str = started.info.run_id
            from mlflow.entities import Param

            self._client.log_batch(run_id, params=[Param(name, value) for name, value in params.items()])
            return run_id

    def reopen(self, run_id: str) -> None:
        """Set a run that was left to running again."""
        with self._mapped("take up a run"):
            self._client.update_run(run_id, status="RUNNING")

    def log_epochs(self, run_id: str, epochs: Sequence[Epoch]) -> None:
        """One batch; the epoch is MLflow's step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [
            Metric(name, value, now, epoch.epoch) for epoch in epochs for name, value in epoch_metrics(epoch).items()
        ]
        with self._mapped("log epochs"):
            self._client.log_batch(run_id, metrics=points)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Final figures, at step 0."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        with self._mapped("log metrics"):
            points = [Metric(metric_name(name), float(value), now, 0) for name, value in metrics.items()]
            self._client.log_batch(run_id, metrics=points)

    def log_file(self, run_id: str, path: Path) -> None:
        """Copy or upload a file to the run's artifacts."""
        with self._mapped("keep a file"):
            self._client.log_artifact(run_id, str(path))

    def close(self, run_id: str, end: End) -> None:
        """Set the run's status and end time."""
        with self._mapped("end a run"):
            self._client.set_terminated(run_id, "FINISHED" if end == "finished" else "FAILED")

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(self._experiment, artifact_location=self._artifacts))

    @contextmanager
    def _mapped(self, doing: str) -> Iterator[None]:
        """Everything that MLflow, its database and its HTTP client raise, as TrackingError; their own warnings kept."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SADeprecationWarning, SQLAlchemyError

        try:
            with warnings.catch_warnings():
                # mlflow's tables use a loader strategy that SQLAlchemy 2.1 deprecates.
                warnings.simplefilter("ignore", SADeprecationWarning)
                yield
        except (MlflowException, SQLAlchemyError, OSError) as error:  # requests' errors are OSErrors
            first = str(error).splitlines()[0]
            raise TrackingError(
                f"MLflow could not {doing} ({type(error).__name__}: {redact(first)})",
                where=self.where,
                todo="Check --track-uri and that MLflow can be reached",
            ) from error


def _client(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri)
