"""Tests of significance against their definitions and against scipy."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from service.errors import DataError
from training.evaluation.result import METRICS, Estimate, ModelResult, PerUser, save_result
from training.evaluation.significance import Comparison, compare, compare_run, holm, mean_of_seeds, table

USERS = np.arange(0, 300, 3, dtype=np.int32)


def metrics_of(values: np.ndarray) -> PerUser:
    return PerUser(USERS[: len(values)], {name: values.astype(np.float32) for name in METRICS})


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_the_step_down_procedure_rejects(given_p: list[float]) -> None:
    """Holm 1979: go from the smallest p on, and stop at the first above level / (how many are left)."""
    p = np.array(given_p)
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= 1).all()
    for level in (0.01, 0.05, 0.2):
        rejected = np.zeros(len(p), bool)
        for step, i in enumerate(np.argsort(p, kind="stable")):
            if (len(p) - step) * p[i] > level:
                break
            rejected[i] = True
        np.testing.assert_array_equal(adjusted <= level, rejected)


def test_holm_of_a_known_family() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


def test_the_t_test_is_scipys_and_the_effect_is_its_definition() -> None:
    rng = np.random.default_rng(0)
    base, better = rng.random(100), rng.random(100) + 0.1
    [found] = compare({"base": metrics_of(base), "better": metrics_of(better)}, "base", metrics=["ndcg@10"], draws=500)
    difference = better.astype(np.float32).astype(np.float64) - base.astype(np.float32)
    assert found.p_t == pytest.approx(
        stats.ttest_rel(better.astype(np.float32), base.astype(np.float32)).pvalue, rel=1e-4
    )
    assert found.effect == pytest.approx(difference.mean() / difference.std(ddof=1))
    assert found.difference == pytest.approx(difference.mean())
    assert found.low < found.difference < found.high
    assert found.p_holm == found.p_t


def test_a_planted_difference_is_found_and_chance_is_not() -> None:
    rng = np.random.default_rng(4)
    base, noise = rng.random(100), rng.normal(size=100)
    models = {
        "base": metrics_of(base),
        "better": metrics_of(base + 0.05 + 0.05 * rng.normal(size=100)),
        "same": metrics_of(base + 0.05 * (noise - noise.mean())),
        "itself": metrics_of(base),
    }
    better, same, itself = compare(models, "base", metrics=["recall@20"], draws=2000)
    assert better.significant
    assert better.low > 0
    assert better.p_bootstrap == pytest.approx(2 / 2001)
    assert not same.significant
    assert same.low < 0 < same.high
    assert (itself.difference, itself.effect, itself.p_t, itself.p_bootstrap) == (0.0, 0.0, 1.0, 1.0)


def test_correction_keeps_chance_out_of_a_large_family() -> None:
    """40 models that are no better, 30 times over: some raw p fall below 5 %, families with a false find stay few."""
    rng = np.random.default_rng(2)
    raw, families = 0, 0
    for _ in range(30):
        base = rng.random(60)
        models = {f"m{i}": metrics_of(base + rng.normal(size=60)) for i in range(40)}
        found = compare({"base": metrics_of(base)} | models, "base", metrics=["recall@20"], draws=20)
        raw += sum(one.p_t < 0.05 for one in found)
        families += any(one.significant for one in found)
    assert raw > 30
    assert families <= 4


def test_a_run_is_compared_over_the_mean_of_its_seeds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base, other = rng.random((2, 50)), rng.random((2, 50))
    for model, seeds in (("base", base), ("other", other)):
        for seed, values in enumerate(seeds):
            estimate = Estimate(mean=0, low=0, high=0)
            result = ModelResult(
                model=model, title=model, dataset="planted", protocol="A", seed=seed, users=50,
                metrics=dict.fromkeys(METRICS, estimate), fit_seconds=0, rank_seconds=0, peak_rss_mib=0, parameters=0,
            )  # fmt: skip
            save_result(tmp_path, result, metrics_of(values))
    found = compare_run(tmp_path, "base", draws=100)
    assert [(one.model, one.metric) for one in found] == [("other", "recall@20"), ("other", "ndcg@20")]
    assert found[0].difference == pytest.approx((other.mean(0) - base.mean(0)).mean(), abs=1e-6)


def test_what_cannot_be_paired_is_refused() -> None:
    one, few = metrics_of(np.ones(10)), metrics_of(np.ones(9))
    with pytest.raises(DataError, match="different shoppers"):
        compare({"a": one, "b": few}, "a")
    with pytest.raises(DataError, match="different shoppers"):
        mean_of_seeds([one, few])
    with pytest.raises(DataError, match="no model 'c' among a"):
        compare({"a": one}, "c")
    assert compare({"a": one}, "a") == []


def test_the_table_marks_what_is_significant() -> None:
    sure = Comparison("gat", "recall@20", 0.01, 0.005, 0.015, 0.001, 1e-5, 2e-5, 0.3)
    unsure = Comparison("mf", "recall@20", -0.001, -0.005, 0.003, 0.4, 0.5, 0.5, -0.01)
    first, second = table([sure, unsure], "ease").splitlines()[-2:]
    assert "2e-05*" in first
    assert "+0.0100" in first
    assert "*" not in second
