"""What the report is made of: every model of a run over its seeds, the best first, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import fmean

from service.errors import DataError
from training.evaluation.result import Estimate, ModelResult, load_results
from training.evaluation.significance import Comparison
from training.report.attention import Attention, read_attention
from training.report.markup import visible
from training.report.paired import paired_differences
from training.report.provenance import Provenance, read_provenance
from training.report.svg import SERIES

BASELINES = frozenset({
    "popularity", "item-knn", "rp3beta", "ials", "ease", "sparse-ease", "mf-bpr", "mf-softmax", "mf-slatk",
    "lightgcn-bpr", "lightgcn-softmax", "lightgcn-slatk", "frozen-graph", "sasrec",
})  # fmt: skip
"""Models that others have published; every other name is the project's own."""


@dataclass(frozen=True)
class Judged:
    """One model with the results of all its seeds."""

    results: tuple[ModelResult, ...]
    """At least one, by seed."""

    @property
    def name(self) -> str:
        """Name in files and code."""
        return self.results[0].model

    @property
    def title(self) -> str:
        """Name for people: plain text, but hostile."""
        return visible(self.results[0].title, most=60)

    @property
    def is_baseline(self) -> bool:
        """Whether it is a published model to beat."""
        return self.name in BASELINES

    @property
    def colour(self) -> str:
        """One for what is ours, one for baselines."""
        return SERIES[1] if self.is_baseline else SERIES[0]

    @property
    def marker(self) -> str:
        """As `colour`, for eyes that see it differently."""
        return "s" if self.is_baseline else "o"

    def metric(self, name: str) -> Estimate | None:
        """Mean over the seeds, with the mean of their intervals; None where a seed lacks it."""
        return _over([result.metrics.get(name) for result in self.results])

    def slice(self, name: str, metric: str) -> Estimate | None:
        """The same within a slice."""
        return _over([result.slices.get(name, {}).get(metric) for result in self.results])

    def beyond(self, name: str) -> float | None:
        """Mean over the seeds; None where a seed lacks it."""
        values = [result.beyond[name] for result in self.results if name in result.beyond]
        return fmean(values) if len(values) == len(self.results) else None

    def cost(self, of: Callable[[ModelResult], float]) -> float:
        """Mean over the seeds of seconds, memory or parameters."""
        return fmean(of(result) for result in self.results)


@dataclass(frozen=True)
class RunResults:
    """A run as the report shows it."""

    dataset: str
    protocol: str
    metric: str
    """What models are ordered by."""
    models: tuple[Judged, ...]
    """The best first; all have the metric."""
    unranked: tuple[Judged, ...] = ()
    """Models whose results lack the metric."""
    against: Judged | None = None
    """What differences are taken to; None where nothing is there to compare."""
    differences: dict[str, Comparison] = field(default_factory=dict)
    """Model -> its paired difference to `against`."""
    unpaired: tuple[Judged, ...] = ()
    """Models without one although there is something to compare with."""
    attention: Attention | None = None
    provenance: Provenance | None = None

    @property
    def best(self) -> Judged:
        """The model with the highest figure."""
        return self.models[0]

    @property
    def own(self) -> Judged | None:
        """The best model of the project's own."""
        return next((model for model in self.models if not model.is_baseline), None)

    @property
    def strongest_baseline(self) -> Judged | None:
        """The best of the published models."""
        return next((model for model in self.models if model.is_baseline), None)

    def figure(self, model: Judged) -> Estimate:
        """What `model` is ordered by; each of `models` has it."""
        found = model.metric(self.metric)
        if found is None:
            raise KeyError(f"{model.name} has no {self.metric}")
        return found

    def named(self, name: str) -> Judged | None:
        """The model of a name."""
        return next((model for model in self.models if model.name == name), None)

    def chosen(self, among: Iterable[Judged]) -> list[Judged]:
        """Those that fit into one plot, in their order: the best of all, the best of ours, the strongest baseline, what
        is served, popularity, then others, ours first.
        """
        there = list(among)
        first = [self.best, self.own, self.against, self.named("served"), self.named("popularity")]
        others = sorted(there, key=lambda model: model.is_baseline)
        picked = {model.name: model for model in (*first, *others) if model is not None and model in there}
        kept = list(picked)[: len(SERIES)]
        return [model for model in there if model.name in kept]


def styles(models: Iterable[Judged]) -> dict[str, int]:
    """Model -> place in SERIES and MARKERS, at most as many as there are; first places are those of other plots."""
    ours, theirs = [0, 2, 3, 4, 5, 1], [1, 5, 4, 3, 2, 0]
    out: dict[str, int] = {}
    for model in models:
        free = [place for place in (theirs if model.is_baseline else ours) if place not in out.values()]
        out[model.name] = free[0]
    return out


def read_run(run: Path, *, metric: str, against: str = "") -> RunResults:
    """Read a run folder. Raises DataError where nothing is there to report, or results that cannot stand together."""
    results = load_results(run)
    if not results:
        todo = "Judge at least one model into that folder first"
        raise DataError("no model's results are there", where=str(run / "results"), todo=todo)
    first = results[0]
    judged_on = {f"{result.dataset} under protocol {result.protocol}" for result in results}
    if len(judged_on) > 1:
        todo = "Keep one data set under one protocol in a run folder"
        raise DataError(f"results of {' and of '.join(sorted(judged_on))}", where=str(run / "results"), todo=todo)
    models = [Judged(tuple(seeds)) for _, seeds in groupby(results, key=lambda result: result.model)]
    figures = {model.name: figure.mean for model in models if (figure := model.metric(metric))}
    ranked = sorted((m for m in models if m.name in figures), key=lambda m: (-figures[m.name], m.name))
    if not ranked:
        known = ", ".join(sorted({name for result in results for name in result.metrics}))
        raise DataError(f"no model was judged by {metric}", where=str(run / "results"), todo=f"Take one of: {known}")
    rival = _rival(ranked, against)
    seeds = {model.name: model.results for model in ranked}
    differences, unpaired = paired_differences(run, seeds, rival.name, metric) if rival else ({}, [])
    return RunResults(
        dataset=first.dataset,
        protocol=first.protocol,
        metric=metric,
        models=tuple(ranked),
        unranked=tuple(model for model in models if model not in ranked),
        against=rival,
        differences=differences,
        unpaired=tuple(model for model in ranked if model.name in unpaired),
        attention=read_attention(run),
        provenance=read_provenance(run),
    )


def _rival(ranked: list[Judged], against: str) -> Judged | None:
    """What to compare with, the model asked for or the strongest baseline; None where there is nothing to compare."""
    if against:
        found = next((model for model in ranked if model.name == against), None)
        if found is None:
            todo = f"Take one of: {', '.join(model.name for model in ranked)}"
            raise DataError(f"no model '{against}' was judged", where="--against", todo=todo)
        return found if len(ranked) > 1 else None
    if len(ranked) == 1:
        return None
    return next((model for model in ranked if model.is_baseline), None)


def _over(estimates: list[Estimate | None]) -> Estimate | None:
    told = [estimate for estimate in estimates if estimate is not None]
    if not told or len(told) < len(estimates):
        return None
    return Estimate(mean=fmean(e.mean for e in told), low=fmean(e.low for e in told), high=fmean(e.high for e in told))
