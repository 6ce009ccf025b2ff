"""Measures of clicks beside scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from training.extended.click_metrics import calibration_error, graded_ndcg, grouped_auc, log_loss


@settings(derandomize=True, max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 9), st.booleans())
def test_they_agree_with_scikit_learn(seed: int, slates: int, items: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    score = rng.random((slates, items))
    if tied:
        score = np.round(score, 1)
    click = (rng.random((slates, items)) < 0.5).astype(np.float64)
    click[0, :2] = (0, 1)
    assert log_loss(score, click) == pytest.approx(
        metrics.log_loss(click.ravel(), np.clip(score.ravel(), 1e-7, 1 - 1e-7), labels=[0, 1])
    )
    mixed = [i for i in range(slates) if 0 < click[i].sum() < items]
    assert grouped_auc(score, click) == pytest.approx(
        np.mean([metrics.roc_auc_score(click[i], score[i]) for i in mixed])
    )
    gain = rng.random((slates, items))
    distinct = rng.permuted(np.tile(np.arange(items), (slates, 1)), axis=1)
    for k in (1, 3, 20):
        expected = [metrics.ndcg_score(gain[i : i + 1], distinct[i : i + 1], k=k) for i in range(slates)]
        np.testing.assert_allclose(graded_ndcg(distinct, gain, k=k), expected)


def test_calibration_error_is_the_distance_between_told_and_seen() -> None:
    rng = np.random.default_rng(0)
    told = rng.random(200_000)
    seen = (rng.random(200_000) < told).astype(np.float64)
    assert calibration_error(told, seen) < 0.005
    assert calibration_error(np.minimum(told + 0.1, 1.0), told) == pytest.approx(0.095, abs=0.005)
    assert calibration_error(told, told) == 0.0
    assert calibration_error(np.full(1000, 0.25), (np.arange(1000) % 4 == 0).astype(np.float64)) < 0.02
