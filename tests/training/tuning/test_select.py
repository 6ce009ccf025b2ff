"""The winner is chosen by validation figures alone."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from service.errors import InputError
from training import cli
from training.evaluation.result import Epoch, Estimate, ModelResult, PerUser, save_result
from training.tuning.select import Selection, SelectSettings, page, paired_interval, run_select, select


def result(model: str, seed: int, validation: float | None, *, test: float = 0.1, **changed: object) -> ModelResult:
    curve = () if validation is None else (0.0, validation, validation - 0.01)
    described = {
        "model": model,
        "title": model.title(),
        "dataset": "planted",
        "protocol": "A",
        "seed": seed,
        "users": 2,
        "metrics": {"recall@20": Estimate(mean=test, low=test, high=test)},
        "fit_seconds": 1.0,
        "rank_seconds": 0.1,
        "peak_rss_mib": 100.0,
        "parameters": 10,
        "curve": tuple(
            Epoch(epoch=n, loss=1.0, validation_recall_at_20=recall, seconds=0.1) for n, recall in enumerate(curve, 1)
        ),
        "settings": {"seed": seed, "width": 63},
    }
    return ModelResult.model_validate(described | changed)


RESULTS = [result("gat", seed, 0.11 + 0.001 * seed, test=0.05) for seed in (0, 1, 2)] + [
    result("lightgcn-bpr", seed, 0.09 + 0.001 * seed + 0.0001 * (seed == 1), test=0.5) for seed in (0, 1, 2, 3)
]


def test_the_best_on_validation_wins_whatever_the_test_says() -> None:
    selection = select([*RESULTS, result("ease", 0, None, test=0.9)], SelectSettings())
    assert selection.winner == "gat"
    assert selection.seeds == (0, 1, 2)
    assert [c.mean for c in selection.candidates] == pytest.approx([0.111, 0.091 + 0.0001 / 3])
    assert selection.clear
    assert selection.settings == {"seed": 0, "width": 63}
    assert selection.without_figure == ("ease",)


@pytest.mark.parametrize("metric", ["recall@20", "ndcg@20", "candidate_recall@200"])
def test_a_test_figure_is_refused(metric: str) -> None:
    with pytest.raises(InputError, match=f"--metric: '{metric}' is a figure of the test split"):
        select(RESULTS, SelectSettings(metric=metric))


def test_a_validation_figure_that_is_not_kept_is_refused() -> None:
    with pytest.raises(InputError, match="do not hold"):
        select(RESULTS, SelectSettings(metric="validation_ndcg@20"))


def test_a_model_that_is_not_learned_by_epochs_is_chosen_by_its_validation_metric() -> None:
    figure = Estimate(mean=0.12, low=0.11, high=0.13)
    ease = result("ease", 0, None, metrics={"validation_recall@20": figure}, settings={"ridge": 300.0})
    selection = select([*RESULTS, ease], SelectSettings())  # judged with one seed: it has no randomness
    assert selection.winner == "ease"
    assert selection.candidates[0].values == (0.12, 0.12, 0.12)
    assert selection.settings == {"ridge": 300.0}
    assert select([ease], SelectSettings()).winner == "ease"


def test_a_lead_that_seeds_explain_is_not_clear() -> None:
    near = [result("near", seed, recall) for seed, recall in enumerate((0.105, 0.115, 0.112))]
    selection = select([*RESULTS, *near], SelectSettings(models="gat,near"))
    assert [c.model for c in selection.candidates] == ["gat", "near"]
    assert not selection.clear
    assert "not by more than seeds explain" in page(selection)


def test_one_seed_has_no_interval() -> None:
    selection = select([RESULTS[0], RESULTS[3]], SelectSettings())
    assert [c.behind for c in selection.candidates] == [None, None]
    assert not selection.clear


def test_the_interval_is_students_t_of_the_differences() -> None:
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(0)
    better, other = rng.normal(1, 1, 6), rng.normal(0, 1, 6)
    found = paired_interval(better, other)
    expected = ttest_rel(better, other).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_equal_models_are_told_apart_by_name() -> None:
    twins = [result(name, seed, 0.1) for name in ("b", "a") for seed in (0, 1)]
    assert select(twins, SelectSettings()).winner == "a"


@pytest.mark.parametrize(
    ("results", "settings", "says"),
    [
        ([], SelectSettings(), "no model has a validation figure"),
        (RESULTS, SelectSettings(models="gatt"), "no result of gatt"),
        ([result("a", 0, 0.1), result("b", 1, 0.1)], SelectSettings(), "share no seed"),
        ([result("a", 0, 0.1), result("b", 0, 0.1, dataset="other")], SelectSettings(), "several datasets"),
    ],
)
def test_nothing_to_choose_from_is_an_error(results: list[ModelResult], settings: SelectSettings, says: str) -> None:
    with pytest.raises(InputError, match=says):
        select(results, settings)


def test_the_command_leaves_the_selection_in_the_run(tmp_path: Path) -> None:
    for each in RESULTS:
        save_result(tmp_path, each, PerUser(np.arange(2, dtype=np.int32), {"recall@20": np.zeros(2, np.float32)}))
    app = cli.new_app("test")
    app.callback()(lambda: None)
    flags = {"run": (Path, ..., "Run folder.")}
    cli.add_command(app, "select", run_select, text="Choose.", settings={"": SelectSettings}, flags=flags)
    done = CliRunner().invoke(app, ["select", "--run", str(tmp_path), "--models", "gat,lightgcn-bpr"])
    assert done.exit_code == 0, done.output
    assert Selection.model_validate_json((tmp_path / "selected.json").read_bytes()).winner == "gat"
    assert "gat is chosen, clearly." in done.output
