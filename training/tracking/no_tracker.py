"""No tracking: the default, so that a fit needs neither MLflow nor a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from training.evaluation.result import Epoch
from training.tracking.tracker import End, RunDescription


class NoTracker:
    """Takes everything and keeps nothing."""

    where = "nowhere"

    def open(self, run: RunDescription) -> str:
        """Nothing starts; the name stands for the run."""
        return run.name

    def reopen(self, run_id: str) -> None:
        """Nothing goes on."""

    def log_epochs(self, run_id: str, epochs: Sequence[Epoch]) -> None:
        """Nothing is kept."""

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Nothing is kept."""

    def log_file(self, run_id: str, path: Path) -> None:
        """Nothing is kept."""

    def close(self, run_id: str, end: End) -> None:
        """Nothing ends."""
