"""Where a model is good: popular, rare and cold items; shoppers with few and with many purchases."""

from __future__ import annotations

from training.report import plots
from training.report.markup import Html, estimated, figure, section, table
from training.report.run_results import Judged, RunResults, styles
from training.report.wording import metric_name, slice_name

KINDS = {
    "items": (
        "Items by popularity",
        "Head: the most popular 20 % of the items that were sold in training; mid: the next 30 %; tail: the rest; "
        "cold: items nobody had in training. Of each shopper only the held-out items of that kind are asked for, "
        "ranked among all items.",
    ),
    "users": (
        "Shoppers by activity",
        "Shoppers by the number of items they have in training.",
    ),
    "candidates": (
        "Among cold or warm items alone",
        "Cold: only items that nobody had in training are ranked, so nothing but content can tell them apart. "
        "Warm: only the others.",
    ),
}
ORDER = ("head", "mid", "tail", "cold", "warm")


def slice_names(run: RunResults, kind: str) -> list[str]:
    """Slices of one kind that any model was judged on, in the order they are read."""
    names = {name for model in run.models for result in model.results for name in result.slices}
    parts = sorted(name.partition("/")[2] for name in names if name.startswith(f"{kind}/"))
    return [f"{kind}/{part}" for part in sorted(parts, key=_place)]


def slices_section(run: RunResults) -> Html:
    """A plot and a table for each kind of slice; one line where nothing was sliced."""
    figures = [_figure(run, kind, names) for kind in KINDS if (names := slice_names(run, kind))]
    shown = [one for one in figures if one is not None]
    if not shown:
        return section("slices", "Cold, rare and popular", "This run was not judged by kinds of items or shoppers.")
    lead = "An average hides who is served well. Groups differ for every model: compare models within a group."
    return section("slices", "Cold, rare and popular", lead, *shown)


def _figure(run: RunResults, kind: str, names: list[str]) -> Html | None:
    told = [model for model in run.models if any(model.slice(name, run.metric) for name in names)]
    if not told:
        return None
    title, meaning = KINDS[kind]
    metric = metric_name(run.metric)
    chosen = run.chosen(told)
    style = styles(chosen)
    series = [plots.Series(m.title, style[m.name], [m.slice(name, run.metric) for name in names]) for m in chosen]
    best = "; ".join(f"{slice_name(name)}: {leader}" for name in names if (leader := _leader(run, told, name)))
    alt = f"{metric} of {len(chosen)} models in {len(names)} groups with 95 % intervals. Best by group: {best}."
    plot = plots.grouped(f"slices-{kind}", alt, [slice_name(name) for name in names], series, metric)
    rows = [(m.title, *(estimated(m.slice(name, run.metric)) for name in names)) for m in told]
    numbers = table(f"{metric} by group, all models", ("model", *map(slice_name, names)), rows)
    few = "" if len(chosen) == len(told) else f" The plot shows {len(chosen)} of {len(told)} models, the table all."
    return figure(title, plot, f"{meaning} Best: {best}.{few}", numbers)


def _leader(run: RunResults, told: list[Judged], name: str) -> str:
    figures = [(estimate.mean, model) for model in told if (estimate := model.slice(name, run.metric))]
    if not figures:
        return ""
    mean, model = max(figures, key=lambda pair: pair[0])
    return f"{model.title} ({mean:.4f})" if mean > 0 else "none finds any"


def _place(part: str) -> tuple[int, int, str]:
    digits = part.split("-")[0].rstrip("+")
    return (ORDER.index(part) if part in ORDER else len(ORDER), int(digits) if digits.isdecimal() else 0, part)
