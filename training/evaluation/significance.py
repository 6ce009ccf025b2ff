"""Is one model better than another, or lucky? Differences shopper by shopper, corrected for how many are asked.

The paired t-test is corrected by Holm's step-down method (Holm 1979); the paired bootstrap gives the interval and a
p-value without a normal assumption; Cohen's d_z (mean over standard deviation of the differences) says whether a
significant difference is a large one. On rankings these tests agree (Smucker, Allan, Carterette 2007).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from service.errors import DataError
from training.evaluation.bootstrap import interval95, resampled_means
from training.evaluation.result import PerUser, load_per_user, load_results

DRAWS = 10_000
LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """One model beside the baseline in one metric."""

    model: str
    metric: str
    difference: float
    """Mean over shoppers of model minus baseline."""
    low: float
    high: float
    """95 % paired bootstrap interval of the difference."""
    p_bootstrap: float
    """Two-sided, at least 2 / (draws + 1)."""
    p_t: float
    """Two-sided paired t-test."""
    p_holm: float
    """`p_t`, corrected over every comparison of the family."""
    effect: float
    """Cohen's d_z."""

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is below 5 %."""
        return self.p_holm < LEVEL


def compare(
    models: Mapping[str, PerUser],
    baseline: str,
    *,
    metrics: Sequence[str] = ("recall@20", "ndcg@20"),
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Comparison]:
    """Every model beside `baseline` in every metric, as one family, in the order given.

    Raises DataError where the baseline is not there, or where models were judged on different shoppers.
    """
    if baseline not in models:
        raise DataError(f"no model '{baseline}' among {', '.join(models)}", where="baseline", todo="Judge it first")
    base = models[baseline]
    names = [name for name in models if name != baseline]
    for name in names:
        if not np.array_equal(models[name].users, base.users):
            raise DataError(
                f"'{name}' and '{baseline}' were judged on different shoppers",
                where="results",
                todo="Judge both on the same split",
            )
    pairs = [(name, metric) for metric in metrics for name in names]
    if not pairs:
        return []
    columns = [models[name].values[metric].astype(np.float64) - base.values[metric] for name, metric in pairs]
    differences = np.stack(columns, axis=1)
    means = resampled_means(differences, draws=draws, seed=seed)
    low, high = interval95(means)
    other_side = 1 + np.minimum((means <= 0).sum(0), (means >= 0).sum(0))
    p_bootstrap = np.minimum(1.0, 2 * other_side / (draws + 1))
    effect, p_t = paired_t(differences)
    figures = np.stack([differences.mean(0), low, high, p_bootstrap, p_t, holm(p_t), effect], axis=1).tolist()
    return [Comparison(*pair, *row) for pair, row in zip(pairs, figures, strict=True)]


def compare_run(
    run: Path, baseline: str, *, metrics: Sequence[str] = ("recall@20", "ndcg@20"), draws: int = DRAWS
) -> list[Comparison]:
    """`compare` over every model of a run, each shopper's metrics averaged over the model's seeds."""
    seeds: dict[str, list[PerUser]] = {}
    for result in load_results(run):
        seeds.setdefault(result.model, []).append(load_per_user(run, result))
    return compare({name: mean_of_seeds(each) for name, each in seeds.items()}, baseline, metrics=metrics, draws=draws)


def mean_of_seeds(seeds: Sequence[PerUser]) -> PerUser:
    """Each shopper's metrics averaged over fits that differ in their seed. Raises DataError on different shoppers."""
    if any(not np.array_equal(one.users, seeds[0].users) for one in seeds):
        raise DataError("seeds were judged on different shoppers", where="results", todo="Judge all on the same split")
    values = {name: np.mean([one.values[name] for one in seeds], axis=0) for name in seeds[0].values}
    return PerUser(seeds[0].users, values)


def paired_t(differences: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Cohen's d_z and the two-sided p-value of each column of differences (m, c): two (c,).

    Where all shoppers differ alike the t-test says nothing: d_z is 0, and p is 1.
    """
    moved = (differences != differences[0]).any(0)
    mean, part = differences.mean(0), differences[:, moved]
    effect, p = np.zeros_like(mean), np.ones_like(mean)
    if moved.any():
        effect[moved] = mean[moved] / part.std(0, ddof=1)
        p[moved] = 2 * stats.t.sf(np.abs(effect[moved]) * np.sqrt(len(part)), len(part) - 1)
    return effect, p


def holm(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Holm's adjusted p-values (n,): the i-th smallest times n - i + 1, never below a smaller one's, at most 1."""
    order = np.argsort(p, kind="stable")
    adjusted = np.minimum(1.0, np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]))
    out = np.empty_like(adjusted)
    out[order] = adjusted
    return out


def table(comparisons: Sequence[Comparison], baseline: str) -> str:
    """The comparisons as a table that a person reads; * stands where the corrected p-value is below 5 %."""
    lines = [
        f"Differences from {baseline}, shopper by shopper; p corrected by Holm over {len(comparisons)} comparisons."
    ]
    lines.append(f"{'model':<20}{'metric':<12}{'difference':>12}{'95 % interval':>22}{'p':>12}{'d_z':>8}")
    for one in comparisons:
        interval = f"[{one.low:+.4f}, {one.high:+.4f}]"
        lines.append(
            f"{one.model:<20}{one.metric:<12}{one.difference:>+12.4f}{interval:>22}"
            f"{one.p_holm:>11.2g}{'*' if one.significant else ' '}{one.effect:>8.3f}"
        )
    return "\n".join(lines)
