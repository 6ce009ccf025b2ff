"""Runs say which code and which data made them."""

import re
from pathlib import Path

import polars as pl
import pytest

from offline_jobs.weights import combined_sha256
from service.bundle.files import sha256_file
from service.errors import StageError
from training.fit_settings import FitSettings
from training.stage import open_stage
from training.tracking.provenance import code_version, data_fingerprint


def test_the_code_version_names_the_commit_of_a_checkout() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\+[0-9a-f]{7,}(-dirty)?)?", code_version())


def test_the_data_fingerprint_is_that_of_a_bundle_made_of_the_same_data(tmp_path: Path) -> None:
    with open_stage(tmp_path, "ingest", version=1, inputs={}, settings=FitSettings()) as stage:
        pl.DataFrame({"item_id": ["a"]}).write_parquet(stage.out / "items.parquet")
        (stage.out / "report.txt").write_text("not data")
    items = tmp_path / "ingest" / "items.parquet"
    assert data_fingerprint(tmp_path) == combined_sha256({"items.parquet": sha256_file(items)})


def test_data_that_was_not_ingested_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(StageError):
        data_fingerprint(tmp_path)
