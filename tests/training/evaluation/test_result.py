"""Results keep every figure through their files, and a broken file is named."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from service.errors import DataError
from training.evaluation.result import (
    METRICS,
    Epoch,
    Estimate,
    ModelResult,
    PerUser,
    load_per_user,
    load_results,
    save_result,
)


def a_result(model: str = "gat+linear", seed: int = 0) -> ModelResult:
    estimate = Estimate(mean=0.1, low=0.05, high=0.15)
    return ModelResult(
        model=model,
        title="GAT and a linear model",
        dataset="planted",
        protocol="A",
        seed=seed,
        users=3,
        metrics=dict.fromkeys(METRICS, estimate),
        slices={"items/head": {"recall@20": estimate}},
        beyond={"coverage@20": 0.5},
        fit_seconds=1.5,
        rank_seconds=0.25,
        peak_rss_mib=100.0,
        parameters=12,
        curve=(Epoch(epoch=1, loss=0.5, seconds=1.0), Epoch(epoch=2, validation_recall_at_20=0.1, seconds=1.0)),
        settings={"ridge": 300.0, "layers": [2, 1]},
    )


def arrays() -> PerUser:
    users = np.array([1, 4, 9], np.int32)
    return PerUser(users, {name: np.linspace(0, 1, 3, dtype=np.float32) for name in METRICS})


def test_a_result_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    saved = [a_result("popularity"), a_result(seed=1), a_result()]
    for result in saved:
        save_result(tmp_path, result, arrays())
    found = load_results(tmp_path)
    assert found == [saved[2], saved[1], saved[0]]
    back = load_per_user(tmp_path, found[0])
    np.testing.assert_array_equal(back.users, arrays().users)
    assert set(back.values) == set(METRICS)
    for name in METRICS:
        np.testing.assert_array_equal(back.values[name], arrays().values[name])
    assert sorted(p.name for p in (tmp_path / "results").iterdir()) == [
        f"{name}.{kind}" for name in ("gat+linear-0", "gat+linear-1", "popularity-0") for kind in ("json", "npz")
    ]


def test_a_run_without_results_has_none(tmp_path: Path) -> None:
    assert load_results(tmp_path) == []


def test_a_foreign_file_is_named(tmp_path: Path) -> None:
    path = save_result(tmp_path, a_result(), arrays())
    path.write_text(path.read_text().replace('"users"', '"people"'))
    with pytest.raises(DataError, match=r"gat\+linear-0\.json"):
        load_results(tmp_path)


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValidationError):
        Estimate(mean=float("nan"), low=0.0, high=1.0)


def test_a_model_name_cannot_leave_the_folder() -> None:
    with pytest.raises(ValidationError):
        a_result("../elsewhere")
