"""Learn whom to show what from the log of another policy: a softmax over actions, fitted on logged propensities.

    π(a|x) = softmax_a(x · W_a + b_a)           W (actions, d), b (actions,), linear so that the fit is exact

An objective is the mean of terms over the n rows of the log; w = π(a|x) / p as in `estimators`:

    clicks     r log π(a|x)                naive: learns what was shown and clicked, so what was shown most
    ips        w r
    clipped    min(w, c) r
    snips      the linearised Σ w r / Σ w
    dr         Σ_a π q + w (r - q)         q: a logistic model of the reward, cross-fitted over two halves
    model      Σ_a π q                     the reward model alone, no propensities

What is maximised by L-BFGS is mean - λ sqrt(var / n) - l2 |W|² / n: counterfactual risk minimisation, with `clipped`
POEM (Swaminathan, Joachims 2015, arXiv:1502.02362), with `snips` Norm-POEM (the same, NeurIPS 2015). λ has no meaning
for `clicks` and `model`, which hold no weights. All but `clicks` are not concave: they start from the policy that
`clicks` ends with, since at W = 0 the first step may lead onto a plateau of one action for everyone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import track
from safetensors.numpy import save_file
from torch import Tensor

from service.errors import DataError
from training.extended.estimators import Floats, Logged, clipped_ips, diagnose, ips, snips, value

Objective = Literal["clicks", "ips", "clipped", "snips", "dr", "model"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


class OffPolicySettings(BaseModel):
    """How a policy is learned from a log."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    objective: Objective = "dr"
    """What is maximised: clicks, ips, clipped, snips, dr or model."""
    l2: list[float] = Field([0.01, 0.1], min_length=1)
    """Weight penalties to choose from, by the lower end of the clipped estimate on rows that are kept aside."""
    cap: float = Field(30.0, gt=0)
    """Largest weight that `clipped`, and the choice among penalties, count."""
    variance_penalty: float = Field(1.0, ge=0)
    """λ: standard errors taken off the mean of ips, clipped, snips and dr."""
    kept_aside: float = Field(0.3, gt=0, lt=1)
    """Share of the log that chooses the penalty and is not learned from."""
    max_iterations: int = Field(60, ge=1)
    """Most L-BFGS steps a fit."""
    seed: int = 0
    """Seeds which rows are kept aside and which half a reward model learns from."""


@dataclass(frozen=True)
class SoftmaxPolicy:
    """π(a|x); see the module's docstring."""

    weight: npt.NDArray[np.float32]
    """(actions, d)."""
    bias: npt.NDArray[np.float32]
    """(actions,)."""

    def logits(self, context: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Scores; larger is better: (n, d) -> (n, actions)."""
        scores: npt.NDArray[np.float32] = context @ self.weight.T + self.bias
        return scores

    def probabilities(self, context: npt.NDArray[np.float32]) -> Floats:
        """(n, d) -> (n, actions), rows sum to 1."""
        logits = self.logits(context).astype(np.float64)
        grown = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(grown / grown.sum(1, keepdims=True))

    def weights(self, log: Logged) -> Floats:
        """w = π(a|x) / p of the logged actions: (n,)."""
        return np.asarray(self.probabilities(log.context)[np.arange(len(log)), log.action] / log.propensity)


def reward_model(log: Logged, l2: float, iterations: int) -> SoftmaxPolicy:
    """A logistic model of a reward in [0, 1] by action; its `logits` are log-odds."""
    context, action = torch.from_numpy(log.context), torch.from_numpy(log.action)
    reward = torch.from_numpy(log.reward.astype(np.float32))

    def loss(weight: Tensor, bias: Tensor) -> Tensor:
        logit = (context * weight.index_select(0, action)).sum(1) + bias.index_select(0, action)
        penalty = l2 / len(log) * (weight.square().sum() + bias.square().sum())
        return F.binary_cross_entropy_with_logits(logit, reward) + penalty

    return _minimise(loss, _nothing(log), iterations)


def cross_fitted(log: Logged, l2: float, iterations: int, seed: int) -> npt.NDArray[np.float32]:
    """q (n, actions): each half of the rows is modelled by what the other half taught, so q does not know its r."""
    halves = np.array_split(np.random.default_rng([seed, 1]).permutation(len(log)), 2)
    q = np.zeros((len(log), log.actions), np.float32)
    for half, other in (halves, halves[::-1]):
        q[half] = _sigmoid(reward_model(log.rows(other), l2, iterations).logits(log.context[half]))
    return q


def fit_policy(log: Logged, settings: OffPolicySettings, l2: float) -> SoftmaxPolicy:
    """Maximise the objective on the whole of `log`."""
    context, action = torch.from_numpy(log.context), torch.from_numpy(log.action)[:, None]
    reward, inverse = (torch.from_numpy(a.astype(np.float32)) for a in (log.reward, 1 / log.propensity))
    start = _nothing(log)
    if settings.objective != "clicks":
        start = fit_policy(log, settings.model_copy(update={"objective": "clicks"}), l2)
    q = None
    if settings.objective in ("dr", "model"):
        q = torch.from_numpy(cross_fitted(log, l2, settings.max_iterations, settings.seed))

    def loss(weight: Tensor, bias: Tensor) -> Tensor:
        log_pi = F.log_softmax(context @ weight.T + bias, 1)
        terms = _terms(settings, log_pi, inverse, reward, action, q)
        gain = terms.mean()
        if settings.objective not in ("clicks", "model") and settings.variance_penalty:
            gain = gain - settings.variance_penalty * (terms.var(correction=0) / len(terms) + 1e-12).sqrt()
        return l2 / len(terms) * weight.square().sum() - gain

    return _minimise(loss, start, settings.max_iterations)


def _terms(
    settings: OffPolicySettings, log_pi: Tensor, inverse: Tensor, reward: Tensor, action: Tensor, q: Tensor | None
) -> Tensor:
    """(n,) as the module's table has them: log π (n, actions), 1 / p and reward (n,), action (n, 1), q (n, actions)."""
    chosen = log_pi.gather(1, action)[:, 0]
    if settings.objective == "clicks":
        return reward * chosen
    weight = chosen.exp() * inverse
    if q is not None:
        expected = (log_pi.exp() * q).sum(1)
        return expected if settings.objective == "model" else expected + weight * (reward - q.gather(1, action)[:, 0])
    if settings.objective == "snips":
        total = weight.mean().clamp(min=1e-12)
        ratio = (weight * reward).mean() / total
        return ratio + weight / total * (reward - ratio)
    return (weight.clamp(max=settings.cap) if settings.objective == "clipped" else weight) * reward


def _sigmoid(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-logits)))


def _nothing(log: Logged) -> SoftmaxPolicy:
    return SoftmaxPolicy(np.zeros((log.actions, log.context.shape[1]), np.float32), np.zeros(log.actions, np.float32))


def _minimise(loss: Callable[[Tensor, Tensor], Tensor], start: SoftmaxPolicy, iterations: int) -> SoftmaxPolicy:
    weight, bias = (torch.from_numpy(part.copy()).requires_grad_() for part in (start.weight, start.bias))
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=iterations, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        at = loss(weight, bias)
        at.backward()  # type: ignore[no-untyped-call]
        return at

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return SoftmaxPolicy(weight.detach().numpy(), bias.detach().numpy())


def learn_policy(log: Logged, settings: OffPolicySettings, *, progress: bool = False) -> tuple[SoftmaxPolicy, Logged]:
    """The policy of the best penalty, and the rows kept aside, which chose it by a pessimistic clipped estimate."""
    order = np.random.default_rng(settings.seed).permutation(len(log))
    aside = max(1, round(len(log) * settings.kept_aside))
    if aside >= len(log):
        raise DataError(f"{len(log)} rows are too few to learn from", where="log", todo="Log more decisions")
    judged, learned = log.rows(order[:aside]), log.rows(order[aside:])
    found = []
    for l2 in track(settings.l2, "penalties", console=Console(stderr=True), disable=not progress, transient=True):
        policy = fit_policy(learned, settings, l2)
        estimate = value(clipped_ips(policy.weights(judged), judged.reward, settings.cap))
        found.append((estimate.low, policy))
    return max(found, key=lambda one: one[0])[1], judged


def read_log(path: Path) -> Logged:
    """A Parquet log: columns `action` (integers from 0), `propensity`, `reward`; every other column is context."""
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"cannot be read as Parquet ({error})", where=str(path), todo="Check the path") from error
    missing = [name for name in ("action", "propensity", "reward") if name not in frame.columns]
    features = [name for name in frame.columns if name not in ("action", "propensity", "reward")]
    wrong = [name for name in frame.columns if not frame[name].dtype.is_numeric() or frame[name].null_count()]
    if missing or wrong or not features:
        what = f"no column {missing[0]!r}" if missing else f"column {wrong[0]!r} is not all numbers" if wrong else ""
        raise DataError(what or "no context column", where=str(path), todo="See `--help` for the columns of a log")
    action = frame["action"].to_numpy().astype(np.int64)
    return Logged(
        frame.select(features).to_numpy().astype(np.float32),
        action,
        frame["propensity"].to_numpy().astype(np.float64),
        frame["reward"].to_numpy().astype(np.float64),
        int(action.max(initial=-1)) + 1,
    )


def run_off_policy(settings: OffPolicySettings, *, log: Path, out: Path) -> None:
    """Learn from the Parquet log and write the folder `out`: policy.safetensors (weight, bias) and report.json."""
    logged = read_log(log)
    policy, judged = learn_policy(logged, settings, progress=True)
    weight = policy.weights(judged)
    report = {
        "objective": settings.objective,
        "logging policy": asdict(value(judged.reward)),
        "learned, ips": asdict(value(ips(weight, judged.reward))),
        "learned, snips": asdict(value(snips(weight, judged.reward))),
        "diagnostics": asdict(diagnose(weight, judged.propensity)),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, write in (
        ("policy.safetensors", lambda path: save_file({"weight": policy.weight, "bias": policy.bias}, path)),
        ("report.json", lambda path: path.write_text(json.dumps(report, indent=2) + "\n")),
    ):
        partial = out / f".{name}.partial"
        write(partial)
        os.replace(partial, out / name)
