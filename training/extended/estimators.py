"""What a policy would have earned, from the log of another one: estimators over logged propensities.

A row is one decision: a context x, the action a that the logging policy μ drew with probability p = μ(a|x), and the
reward r. With the target policy π, w = π(a|x) / p, and a reward model q(x, a) with v(x) = Σ_a π(a|x) q(x, a):

    ips         mean(w r)                               unbiased where p > 0 wherever π > 0 (Horvitz, Thompson 1952)
    clipped     mean(min(w, c) r)                       bias -E[(w - min(w, c)) r]: never above the truth for r >= 0
    snips       Σ w r / Σ w                             consistent, inside the range of r, moves with r + const
                                                        (Swaminathan, Joachims 2015, NeurIPS)
    dr          mean(v + w (r - q))                     unbiased where either p or q is right
                                                        (Dudík, Langford, Li 2011, arXiv:1103.4601)
    switch_dr   mean(v + [w <= c] w (r - q))            the model alone where the weight is large: bias
                                                        E[[w > c] w (q - r)] (Wang et al. 2017, arXiv:1612.01205)

Arrays are aligned by row, float64 (n,).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.errors import DataError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Logged:
    """A log of decisions. Raises DataError for what no estimator could use."""

    context: npt.NDArray[np.float32]
    """(n, d) features of whom the decision was for."""
    action: npt.NDArray[np.int64]
    """(n,) what was shown, from 0 to actions - 1."""
    propensity: Floats
    """(n,) the probability with which the logging policy drew it, in (0, 1]."""
    reward: Floats
    """(n,) what came of it, e.g. 1 for a click."""
    actions: int
    """How many actions there are."""

    def __post_init__(self) -> None:
        n = len(self.action)
        if not n:
            raise DataError("the log has no rows", where="action", todo="Log at least one decision")
        for name in ("context", "propensity", "reward"):
            column = getattr(self, name)
            if len(column) != n:
                raise DataError(f"{len(column)} rows beside {n} actions", where=name, todo="Log every field of a row")
            _refuse(~np.isfinite(column).reshape(n, -1).all(1), name, column, "is not a finite number", "Leave it out")
        _refuse(
            (self.action < 0) | (self.action >= self.actions),
            "action",
            self.action,
            f"is not one of {self.actions} actions",
            "Number actions from 0",
        )
        _refuse(
            (self.propensity <= 0) | (self.propensity > 1),
            "propensity",
            self.propensity,
            "is no probability in (0, 1]",
            "Log the probability with which the action was drawn; what could not be drawn cannot be learned from",
        )

    def __len__(self) -> int:
        return len(self.action)

    def rows(self, index: npt.NDArray[np.int64]) -> Logged:
        """Some rows by number, in that order."""
        return Logged(self.context[index], self.action[index], self.propensity[index], self.reward[index], self.actions)


def _refuse(wrong: npt.NDArray[np.bool_], name: str, column: npt.NDArray[np.generic], what: str, todo: str) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"{column[row]} {what}", where=f"row {row}: {name}", todo=todo)


@dataclass(frozen=True)
class Value:
    """An estimated mean reward and its 95 % interval (normal approximation over rows)."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Diagnostics:
    """Whether a log can say anything about a policy."""

    rows: int
    effective_rows: float
    """(Σw)² / Σw²: so many rows drawn from the policy itself would tell as much (Kish 1965)."""
    max_weight: float
    mean_weight: float
    """1 in expectation where the log covers the policy; below 1 by the share of the policy that it never shows."""
    least_propensity: float


def ips(weight: Floats, reward: Floats) -> Floats:
    """Terms (n,) whose mean is the estimate."""
    return weight * reward


def clipped_ips(weight: Floats, reward: Floats, cap: float) -> Floats:
    """Terms (n,): as `ips`, no weight above `cap`."""
    return np.minimum(weight, cap) * reward


def snips(weight: Floats, reward: Floats) -> Floats:
    """Terms (n,) whose mean is the ratio Σwr / Σw and whose spread is that of its linearisation (delta method)."""
    total = weight.mean()
    if total <= 0:
        return np.zeros_like(weight)
    ratio = float((weight * reward).mean() / total)
    return np.asarray(ratio + weight / total * (reward - ratio))


def dr(weight: Floats, reward: Floats, modelled: Floats, expected: Floats) -> Floats:
    """Terms (n,): `modelled` is q of the logged action, `expected` is v, the policy's mean of q."""
    return expected + weight * (reward - modelled)


def switch_dr(weight: Floats, reward: Floats, modelled: Floats, expected: Floats, cap: float) -> Floats:
    """Terms (n,): as `dr`, without the correction where the weight is above `cap`."""
    return expected + np.where(weight <= cap, weight, 0.0) * (reward - modelled)


def value(terms: Floats) -> Value:
    """Mean and interval of an estimator's terms."""
    mean = float(terms.mean())
    half = 1.96 * float(terms.std(ddof=1)) / math.sqrt(len(terms)) if len(terms) > 1 else math.inf
    return Value(mean, mean - half, mean + half)


def diagnose(weight: Floats, propensity: Floats) -> Diagnostics:
    """Effective rows, largest and mean weight, least propensity."""
    squares = float((weight**2).sum())
    return Diagnostics(
        rows=len(weight),
        effective_rows=float(weight.sum()) ** 2 / squares if squares > 0 else 0.0,
        max_weight=float(weight.max()),
        mean_weight=float(weight.mean()),
        least_propensity=float(propensity.min()),
    )
