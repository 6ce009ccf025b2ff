"""Which tracker keeps the runs, as flags."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from training.tracking.mlflow_tracker import MlflowTracker
from training.tracking.no_tracker import NoTracker
from training.tracking.tracker import Tracker
from training.tracking.vertex_clients import VertexAddress
from training.tracking.vertex_tracker import VertexTracker


class TrackingSettings(BaseModel):
    """Where runs are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    to: Literal["none", "mlflow", "vertex"] = "none"
    """`none`, `mlflow`, or `vertex` (Vertex AI Experiments)."""
    experiment: str = Field("plotpointe", pattern=r"^[a-z0-9][a-z0-9-]{0,79}$")
    """Experiment that the runs belong to: lower-case letters, digits and dashes."""
    uri: str = Field("", repr=False)
    """MLflow's tracking URI; empty for SQLite and artifacts in the run's own folder."""
    project: str = ""
    """Google Cloud project of Vertex AI Experiments."""
    location: str = "us-central1"
    """Region of Vertex AI Experiments."""
    tensorboard: str = ""
    """Id of a Vertex AI Tensorboard of that project and region, which keeps the series of epochs; empty for none."""
    bucket: str = ""
    """`gs://bucket/folder` that files of Vertex runs are uploaded to; empty to register their place and digest only."""
    endpoint: str = ""
    """Address of the Vertex AI API where it is not the region's own (`http://` for a server on this machine only)."""
    timeout_seconds: float = Field(10, gt=0, le=300)
    """Longest wait for one call to a tracker, repeats included."""

    @field_validator("bucket")
    @classmethod
    def _is_a_bucket(cls, bucket: str) -> str:
        if bucket and not bucket.startswith("gs://"):
            raise ValueError("has to start with gs://")
        return bucket.rstrip("/")

    @model_validator(mode="after")
    def _says_where(self) -> TrackingSettings:
        if self.to == "vertex" and not self.project:
            raise ValueError("Vertex AI Experiments need a project")
        return self


def open_tracker(settings: TrackingSettings, folder: Path) -> Tracker:
    """The tracker that the settings name. Raises TrackingError where it cannot be reached, InputError where the
    settings cannot be meant.
    """
    if settings.to == "mlflow":
        return MlflowTracker(settings.uri, settings.experiment, folder, timeout_seconds=settings.timeout_seconds)
    if settings.to == "vertex":
        address = VertexAddress(
            settings.project, settings.location, endpoint=settings.endpoint, timeout_seconds=settings.timeout_seconds
        )
        return VertexTracker(address, settings.experiment, tensorboard=settings.tensorboard, bucket=settings.bucket)
    return NoTracker()
