"""Beyond accuracy: what lists are like besides their hits, against quality."""

from __future__ import annotations

from training.report import plots
from training.report.markup import Html, figure, figures, section, table
from training.report.run_results import RunResults
from training.report.wording import BEYOND, metric_name

TITLE = "Beyond accuracy"


def beyond_section(run: RunResults) -> Html:
    """A scatter plot a measure; one line where none was taken."""
    taken = {name for model in run.models for name in model.results[0].beyond}
    names = [name for kind in BEYOND for name in sorted(taken) if name.partition("@")[0] == kind]
    shown = [card for name in names if (card := _figure(run, name)) is not None]
    if not shown:
        return section("beyond", TITLE, "Coverage, evenness, variety and popularity of the lists were not measured.")
    better = metric_name(run.metric)
    lead = f"The same lists as a shop window. Up is better {better}; what is better sideways is for the shop to say."
    return section("beyond", TITLE, lead, *shown)


def _figure(run: RunResults, name: str) -> Html | None:
    kind, _, k = name.partition("@")
    title, axis, meaning = BEYOND[kind]
    told = [
        (m, value, e.mean) for m in run.models if (value := m.beyond(name)) is not None and (e := m.metric(run.metric))
    ]
    if not told:
        return None
    points = [plots.Point(m.title, value, quality, m.colour, m.marker) for m, value, quality in told]
    least, most = min(told, key=lambda one: one[1]), max(told, key=lambda one: one[1])
    says = f"From {least[1]:.3g} ({least[0].title}) to {most[1]:.3g} ({most[0].title})."
    metric = metric_name(run.metric)
    plot = plots.scatter(
        f"beyond-{kind}", f"{metric} against {axis} for {len(told)} models. {says}", points, axis, metric
    )
    rows = [(m.title, figures(value), figures(quality)) for m, value, quality in told]
    numbers = table(f"{title}, lists of {k}", ("model", axis, metric), rows)
    return figure(title, plot, f"{meaning} {says if len(told) > 1 else ''}".strip(), numbers)
