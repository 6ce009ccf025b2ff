"""Bootstrap over shoppers (Efron, Tibshirani 1993): many figures at once, each resampled with the same shoppers.

A draw gives each shopper a whole weight, the number of times that resampling with replacement took that shopper.
A figure's mean in a draw is then one product of weights and values, whatever the number of figures.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from training.evaluation.result import Estimate

DRAWS = 1_000
BLOCK = 4_000_000
"""Weights held at once: 32 MB as counts, and as much again as factors."""

Values = npt.NDArray[np.floating]
"""(m,) a figure of each shopper; NaN where it says nothing of that shopper."""


def resampled_means(values: Values, *, draws: int = DRAWS, seed: int = 0) -> npt.NDArray[np.float64]:
    """Means over `draws` resamples of m shoppers: (m, c) -> (draws, c); NaN where a draw met no shopper of a column."""
    m = len(values)
    told = ~np.isnan(values)
    both = np.concatenate([np.where(told, values, 0), told], axis=1, dtype=np.float64)
    rng = np.random.default_rng(seed)
    sums = np.empty((draws, both.shape[1]))
    step = max(1, BLOCK // max(m, 1))
    for start in range(0, draws, step):
        weights = [np.bincount(rng.integers(0, m, m), minlength=m) for _ in range(min(step, draws - start))]
        sums[start : start + step] = np.array(weights, np.float64) @ both
    total, count = np.split(sums, 2, axis=1)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def estimates(values: Mapping[str, Values], *, draws: int = DRAWS, seed: int = 0) -> dict[str, Estimate]:
    """Mean and 95 % percentile interval of each figure; one that says nothing of any shopper is left out."""
    told = {name: column for name, column in values.items() if not np.isnan(column).all()}
    if not told:
        return {}
    table = np.stack(list(told.values()), axis=1)
    low, high = interval95(resampled_means(table, draws=draws, seed=seed))
    found = zip(told, table.T, low, high, strict=True)
    return {name: Estimate(mean=float(np.nanmean(column)), low=a, high=b) for name, column, a, b in found}


def interval95(means: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The middle 95 % of resampled means (draws, c): low and high end (2, c)."""
    ends: npt.NDArray[np.float64] = np.nanquantile(means, [0.025, 0.975], axis=0)
    return ends
