"""Intervals hold what they should, as often as they should."""

import numpy as np
import pytest

from training.evaluation import bootstrap
from training.evaluation.bootstrap import estimates, resampled_means


def test_every_column_is_resampled_with_the_same_shoppers() -> None:
    values = np.random.default_rng(0).normal(size=(40, 2))
    means = resampled_means(np.c_[values, values.sum(1)], draws=50, seed=3)
    np.testing.assert_allclose(means[:, 0] + means[:, 1], means[:, 2], atol=1e-12)


def test_a_draw_is_the_mean_of_shoppers_drawn_with_replacement() -> None:
    values = np.random.default_rng(0).normal(size=(30, 1))
    rng = np.random.default_rng(5)
    expected = [values[rng.integers(0, 30, 30)].mean() for _ in range(20)]
    np.testing.assert_allclose(resampled_means(values, draws=20, seed=5)[:, 0], expected)


def test_blocks_of_draws_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((30, 2))
    whole = resampled_means(values, draws=25)
    monkeypatch.setattr(bootstrap, "BLOCK", 30 * 4)
    np.testing.assert_allclose(resampled_means(values, draws=25), whole)


def test_shoppers_of_whom_nothing_is_told_do_not_count() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(60)
    part = np.where(np.arange(60) < 20, values, np.nan)
    found = estimates({"whole": values, "part": part, "none": np.full(60, np.nan)}, draws=400)
    assert set(found) == {"whole", "part"}
    assert found["part"].mean == pytest.approx(values[:20].mean())
    assert found["part"].low < found["part"].mean < found["part"].high
    assert found["part"].high - found["part"].low > found["whole"].high - found["whole"].low


def test_one_shopper_alone_still_gets_an_interval() -> None:
    only = np.full(50, np.nan)
    only[7] = 0.25
    found = estimates({"one": only}, draws=200)["one"]
    assert (found.mean, found.low, found.high) == (0.25, 0.25, 0.25)


def test_no_figures_no_estimates() -> None:
    assert estimates({}) == {}


def test_the_interval_holds_the_mean_and_narrows_with_more_shoppers() -> None:
    rng = np.random.default_rng(0)
    few, many = (estimates({"x": rng.random(n)})["x"] for n in (50, 5000))
    assert few.low < few.mean < few.high
    assert few.high - few.low > many.high - many.low


def test_ninety_five_of_a_hundred_intervals_hold_the_truth() -> None:
    """200 samples of 150 shoppers whose metric is as skewed as a recall: mostly 0. The truth is .15."""
    rng = np.random.default_rng(1)
    samples = rng.binomial(2, 0.15, (150, 200)) / 2
    low, high = np.quantile(resampled_means(samples, draws=400), [0.025, 0.975], axis=0)
    covered = ((low <= 0.15) & (high >= 0.15)).mean()
    assert 0.9 <= covered <= 0.99
