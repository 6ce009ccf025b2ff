"""The winner among judged models: by their validation figures, over the same seeds, with a paired interval.

What a result holds under `metrics` is of the split it was judged on, the test split: choosing by that would make the
winner's figure a promise that nobody checked. So a model is chosen by `validation_recall@20` alone: the best epoch of
its curve, or a metric of that name for a model that is not learned by epochs.

The winner goes on as any model does: `fit` with its settings, `evaluate` once on the test split, `export`, and
`plotpointe-jobs publish`, whose gate compares the bundle with the active one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from scipy import stats

from service.errors import InputError
from training.evaluation.result import Estimate, ModelResult, load_results
from training.files import write_whole

log = logging.getLogger(__name__)

METRIC = "validation_recall@20"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SelectSettings(_Frozen):
    """Among which models one is chosen, and by what."""

    metric: str = METRIC
    """Figure by which models are compared; only a figure of the validation split is taken."""
    models: str = Field("", pattern=r"^([a-z0-9+._-]+(,[a-z0-9+._-]+)*)?$")
    """Models to choose from, by commas; empty for every one that has a validation figure."""


class Candidate(_Frozen):
    """One model's validation figures over the seeds that all have."""

    model: str
    mean: float
    values: tuple[float, ...]
    """One a seed."""
    behind: Estimate | None
    """By how much the winner is ahead: mean of the seeds' differences and its 95 % interval (Student's t); None for the
    winner, and where one seed tells nothing of the spread."""


class Selection(_Frozen):
    """What was chosen and why."""

    winner: str
    metric: str
    seeds: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    """Best first."""
    settings: dict[str, object]
    """What the winner was fitted with, at the first of the seeds."""
    without_figure: tuple[str, ...]
    """Models that were not judged on validation and so could not be chosen."""

    @property
    def clear(self) -> bool:
        """Whether the winner is ahead of every other by more than seeds explain."""
        rest = self.candidates[1:]
        return all(c.behind is not None and c.behind.low > 0 for c in rest)


def run_select(settings: SelectSettings, run: Path) -> None:
    """Choose among the results of a run folder; leaves `<run>/selected.json` and shows the comparison."""
    selection = select(load_results(run), settings)
    write_whole(run / "selected.json", selection.model_dump_json(indent=1))
    Console(stderr=True, soft_wrap=True).print(page(selection), highlight=False, markup=False)


def select(results: Sequence[ModelResult], settings: SelectSettings) -> Selection:
    """The winner. Raises InputError for a figure of the test split, and where there is nothing to choose from."""
    _refuse_test_figures(settings.metric)
    wanted = [name for name in settings.models.split(",") if name]
    if unknown := sorted(set(wanted) - {result.model for result in results}):
        raise InputError(
            f"no result of {', '.join(unknown)}",
            where="--models",
            todo=f"There are {', '.join(sorted({result.model for result in results})) or 'none'}",
        )
    considered = [result for result in results if not wanted or result.model in wanted]
    if len({(result.dataset, result.protocol) for result in considered}) > 1:
        raise InputError("results of several datasets or protocols", where="the run folder", todo="Keep one a folder")
    figures: dict[str, dict[int, float]] = {}
    for result in considered:
        if (figure := validation_figure(result)) is not None:
            figures.setdefault(result.model, {})[result.seed] = figure
    without = tuple(sorted({result.model for result in considered} - figures.keys()))
    if not figures:
        raise InputError(
            "no model has a validation figure", where="the run folder", todo="Fit with a validation split first"
        )
    # A model that does not learn by epochs gives the same for every seed, and is judged with one.
    learned = {result.model for result in considered if result.curve}
    fixed = {model for model, by_seed in figures.items() if len(by_seed) == 1 and model not in learned}
    by_seeds = [set(by_seed) for model, by_seed in figures.items() if model not in fixed]
    seeds = tuple(sorted(set.intersection(*by_seeds) if by_seeds else {0}))
    if not seeds:
        raise InputError("the models share no seed", where="the run folder", todo="Fit every model with the same seeds")
    values = {
        model: np.array([next(iter(by_seed.values())) if model in fixed else by_seed[seed] for seed in seeds])
        for model, by_seed in figures.items()
    }
    # Equal means: the name decides, so that the same results always give the same winner.
    order = sorted(values, key=lambda model: (-values[model].mean(), model))
    winner = order[0]
    chosen = min(
        (result for result in considered if result.model == winner), key=lambda result: result.seed not in seeds
    )
    return Selection(
        winner=winner,
        metric=settings.metric,
        seeds=seeds,
        candidates=tuple(
            Candidate(
                model=model,
                mean=float(values[model].mean()),
                values=tuple(float(value) for value in values[model]),
                behind=None if model == winner else paired_interval(values[winner], values[model]),
            )
            for model in order
        ),
        settings=chosen.settings,
        without_figure=without,
    )


def validation_figure(result: ModelResult) -> float | None:
    """The validation recall@20 of a result; None where it was not judged on validation."""
    if METRIC in result.metrics:
        return result.metrics[METRIC].mean
    judged = [epoch.validation_recall_at_20 for epoch in result.curve if epoch.validation_recall_at_20 is not None]
    return max(judged, default=None)


def paired_interval(better: np.ndarray, other: np.ndarray) -> Estimate | None:
    """Mean of the differences (s,) - (s,) seed by seed and its 95 % interval; None for a single seed."""
    differences = better - other
    if len(differences) < 2:
        return None
    half = float(stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences))
    mean = float(differences.mean())
    return Estimate(mean=mean, low=mean - half, high=mean + half)


def page(selection: Selection) -> str:
    """The comparison as a person reads it."""
    lines = [f"By {selection.metric}, seeds {', '.join(map(str, selection.seeds))}:"]
    for candidate in selection.candidates:
        behind = candidate.behind
        text = "" if behind is None else f"   behind by {behind.mean:.4f} [{behind.low:.4f}, {behind.high:.4f}]"
        lines.append(f"  {candidate.model:<18} {candidate.mean:.4f}{text}")
    if selection.without_figure:
        lines.append(f"Not judged on validation, so not to be chosen: {', '.join(selection.without_figure)}")
    verdict = "clearly" if selection.clear else "though not by more than seeds explain"
    lines.append(f"{selection.winner} is chosen" + (f", {verdict}." if len(selection.candidates) > 1 else "."))
    return "\n".join(lines)


def _refuse_test_figures(metric: str) -> None:
    if metric == METRIC:
        return
    what = (
        "is a figure of the validation split that results do not hold"
        if metric.startswith("validation")
        else ("is a figure of the test split, by which nothing is chosen")
    )
    raise InputError(f"{metric!r} {what}", where="--metric", todo=f"Choose by {METRIC}")
