"""The seam between fits and the places that keep runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

from service.errors import PlotPointeError
from training.evaluation.result import Epoch

End = Literal["finished", "failed"]
"""How a run ended."""

TAGS = ("dataset", "preset", "seed", "code_version", "data_fingerprint")
"""What every run is tagged with, so that runs of one dataset and one state of the code are found together."""

_PASSWORD = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_TOKEN = re.compile(r"(?i)((?:bearer|basic)\s+|(?:token|password|secret|key)=)[^\s&'\"]+")


class TrackingError(PlotPointeError):
    """A tracker cannot keep what it was given; a fit goes on without it."""

    reason = "TRACKING_FAILED"


class RunDescription(BaseModel):
    """What is known of a run before it starts."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """Name for people, and of the run's record in its folder: `gat-0`."""
    params: dict[str, str | int | float | bool | None]
    """Settings, flat."""
    tags: dict[str, str]
    """The values of TAGS that are known, and whatever else the run is to be found by."""


class Tracker(Protocol):
    """Keeps runs. Each call raises TrackingError where it fails, within the seconds that the settings allow."""

    where: str
    """Where a person looks at the runs, without passwords."""

    def open(self, run: RunDescription) -> str:
        """Start a run; returns its id, with which a later process takes it up again."""

    def reopen(self, run_id: str) -> None:
        """Go on with a run that an earlier process left."""

    def log_epochs(self, run_id: str, epochs: Sequence[Epoch]) -> None:
        """Add points to the series of loss, validation recall@20 and seconds."""

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Final figures; a name that was there is overwritten."""

    def log_file(self, run_id: str, path: Path) -> None:
        """Keep a file with the run."""

    def close(self, run_id: str, end: End) -> None:
        """The run is over."""


def epoch_metrics(epoch: Epoch) -> dict[str, float]:
    """An epoch's known figures by the names that trackers show."""
    figures = {
        "loss": epoch.loss,
        "validation_recall_at_20": epoch.validation_recall_at_20,
        "epoch_seconds": epoch.seconds,
    }
    return {name: value for name, value in figures.items() if value is not None}


def metric_name(name: str) -> str:
    """`recall@20` as trackers take it: `recall_at_20`."""
    return re.sub(r"[^A-Za-z0-9_./-]", "_", name.replace("@", "_at_"))


def redact(text: str) -> str:
    """`text` without what stands for a password in it: the user part of URLs, bearer tokens, `key=...`."""
    return _TOKEN.sub(r"\1***", _PASSWORD.sub("***", text))
