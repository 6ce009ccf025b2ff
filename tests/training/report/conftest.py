"""One small run, fitted and judged once, and its page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.training.report.small_run import write_run
from training.report.attention import FILE as ATTENTION
from training.report.page import report_page
from training.report.provenance import Provenance, save_provenance
from training.report.run_results import RunResults, read_run


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that tests only read."""
    run = write_run(tmp_path_factory.mktemp("report") / "run", seeds=2)
    attention = {
        "relations": ["text_knn", "co_purchase"],
        "gain": [0.8, 1.2],
        "sharpness": {"text_knn": [0.1, -0.2], "co_purchase": [0.3, 0.25]},
        "share_by_place": {"history": [0.4, 0.3, 0.2, 0.1]},
        "examples": [{"user": "u1", "history": ["a lamp", "a desk"], "candidate": "a chair", "shares": [0.25, 0.75]}],
    }
    (run / ATTENTION).write_text(json.dumps(attention))
    save_provenance(
        run,
        Provenance(
            date="2026-01-31",
            commands=("judge --all",),
            cores=2,
            machine="x86_64",
            python="3.11.2",
            versions={"numpy": "2"},
        ),
    )
    return run


@pytest.fixture
def folder(judged: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(judged, tmp_path / "run"))


@pytest.fixture(scope="session")
def results(judged: Path) -> RunResults:
    return read_run(judged, metric="recall@20")


@pytest.fixture(scope="session")
def page(results: RunResults) -> str:
    return report_page(results)


def keep(run: Path, *models: str) -> None:
    """Leave these models' results alone in a run folder."""
    for path in (run / "results").iterdir():
        if path.stem.rsplit("-", 1)[0] not in models:
            path.unlink()


def change(run: Path, of: str, **fields: object) -> None:
    """Write other values into every result of a model."""
    for path in (run / "results").glob(f"{of}-*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))
