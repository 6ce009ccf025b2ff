"""What quality costs: time to fit, time to rank, memory, numbers."""

from __future__ import annotations

from collections.abc import Callable

from training.evaluation.result import ModelResult
from training.report import plots
from training.report.markup import Html, card, duration, figure, figures, paragraph, section, table
from training.report.run_results import RunResults
from training.report.wording import metric_name

FLOOR = 0.001
"""Seconds below which a logarithmic axis does not go."""


def cost_section(run: RunResults) -> Html:
    """Time and memory beside quality, with the line of those that nothing beats in both."""
    lead = (
        "Left and up is better. The dashed line joins the models that no other beats in both; whatever lies below it "
        "costs more for less. Times are of the machine named below, and say little about another."
    )
    return section(
        "cost",
        "Time and memory beside quality",
        lead,
        _figure(run, "Time to fit", "seconds to fit", "cost-time", lambda r: max(r.fit_seconds, FLOOR)),
        _memory(run),
        card(_table(run)),
    )


def _memory(run: RunResults) -> Html:
    """The plot; or that it would say nothing, where the models were fitted and judged in one process."""
    told = {model.cost(lambda r: r.peak_rss_mib) for model in run.models}
    if len(told) == 1 and len(run.models) > 1:
        shared = f"all {len(run.models)} models were fitted or judged in one process"
        return card(paragraph(f"Memory is not compared: {shared}, whose peak was {told.pop():,.0f} MiB."))
    return _figure(run, "Memory", "peak memory, MiB", "cost-memory", lambda r: max(r.peak_rss_mib, 1.0))


def _figure(run: RunResults, title: str, axis: str, name: str, of: Callable[[ModelResult], float]) -> Html:
    metric = metric_name(run.metric)
    points = [
        plots.Point(m.title, m.cost(of), e.mean, m.colour, m.marker) for m in run.models if (e := m.metric(run.metric))
    ]
    best = plots.pareto(points)
    says = f"On the line: {', '.join(point.name for point in best)}."
    alt = f"{metric} against {axis} for {len(points)} models, axis logarithmic. {says}"
    plot = plots.scatter(name, alt, points, axis, metric, logarithmic=True, frontier=True)
    rows = [(point.name, f"{point.x:,.3f}", figures(point.y)) for point in points]
    return figure(title, plot, says, table(title, ("model", axis, metric), rows))


def _table(run: RunResults) -> Html:
    rows = [
        (
            model.title,
            duration(model.cost(lambda r: r.fit_seconds)),
            f"{model.cost(lambda r: 1e3 * r.rank_seconds / r.users):.2f} ms",
            f"{model.cost(lambda r: r.peak_rss_mib):,.0f}",
            f"{model.cost(lambda r: r.parameters):,.0f}",
        )
        for model in run.models
    ]
    head = ("model", "time to fit", "time to rank a shopper", "peak memory, MiB", "numbers learned")
    return table("What each model costs, mean over seeds", head, rows)
