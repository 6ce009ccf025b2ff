"""The ladder: every model by quality with its interval, and its paired difference to the strongest baseline."""

from __future__ import annotations

from training.evaluation.significance import Comparison
from training.report import plots
from training.report.markup import Html, card, details, estimated, figure, paragraph, section, signed, table
from training.report.run_results import Judged, RunResults
from training.report.wording import metric_name


def ladder_section(run: RunResults) -> Html:
    """Plots of figures and differences, and the table of both."""
    rival, second = run.against, "recall@20" if run.metric == "ndcg@20" else "ndcg@20"
    beside = _differences(run, rival) if rival and run.differences else _figure(run, second)
    lead = "The best on top. Whiskers are 95 % intervals over shoppers; squares are baselines, circles our own models."
    notes = []
    if run.unpaired:
        notes.append(paragraph(f"No paired difference, for want of each shopper's figures: {_titles(run.unpaired)}."))
    if run.unranked:
        missing = metric_name(run.metric)
        notes.append(paragraph(f"Not in the ladder, for want of {missing}: {_titles(run.unranked)}."))
    tables = card(_table(run, second), *notes, details("All metrics", _all_metrics(run)))
    return section("ladder", "The ladder of models", lead, _figure(run, run.metric), beside, tables)


def difference_text(difference: Comparison) -> str:
    """A difference and beneath it its interval."""
    interval = f"{signed(difference.low)} to {signed(difference.high)}"
    return Html(f"{signed(difference.difference)}<small>{interval}</small>")


def p_text(difference: Comparison) -> str:
    """The corrected p-value, floored where more digits would say nothing."""
    return "< 0.001" if difference.p_holm < 0.001 else f"{difference.p_holm:.3f}"


def _figure(run: RunResults, metric: str) -> Html:
    name = metric_name(metric)
    told = [(model, estimate) for model in run.models if (estimate := model.metric(metric))]
    if not told:
        return Html("")
    told.sort(key=lambda pair: -pair[1].mean)
    rows = [plots.Dot(m.title, e.mean, e.low, e.high, m.colour, m.marker) for m, e in told]
    (top, most), (bottom, least) = told[0], told[-1]
    span = f"from {bottom.title}, {least.mean:.4f}, to {top.title}, {most.mean:.4f}"
    plot = plots.dots(f"ladder-{metric}", f"{name} of {len(rows)} models with 95 % intervals, {span}.", rows, name)
    numbers = table(f"{name} with 95 % interval", ("model", name), [(m.title, estimated(e)) for m, e in told])
    return figure(name, plot, f"{top.title} leads with {most.mean:.4f}.", numbers)


def _differences(run: RunResults, rival: Judged) -> Html:
    told = [(model, run.differences[model.name]) for model in run.models if model.name in run.differences]
    rows = [plots.Dot(m.title, d.difference, d.low, d.high, m.colour, m.marker) for m, d in told]
    better = sum(difference.significant and difference.difference > 0 for _, difference in told)
    caption = (
        "Shopper by shopper under both models, which tells more than two intervals side by side. "
        f"{better} of {len(told)} are better beyond chance (Holm-corrected p below 0.05)."
    )
    name = metric_name(run.metric)
    alt = f"Paired difference in {name} to {rival.title} with 95 % intervals for {len(told)} models. {caption}"
    plot = plots.dots("differences", alt, rows, f"difference in {name}", mark=(0.0, rival.title))
    cells = [(m.title, difference_text(d), p_text(d), f"{d.effect:.3f}") for m, d in told]
    head = ("model", "difference", "p, Holm", "effect d_z")
    return figure(f"Difference to {rival.title}", plot, caption, table(f"Difference to {rival.title}", head, cells))


def _table(run: RunResults, second: str) -> Html:
    shown = [name for name in (run.metric, second) if any(model.metric(name) for model in run.models)]
    head = ["model", *map(metric_name, shown)]
    if run.differences and run.against:
        head += [f"against {run.against.title}", "p, Holm"]
    rows = []
    for model in run.models:
        row = [model.title, *(estimated(model.metric(name)) for name in shown)]
        if run.differences:
            difference = run.differences.get(model.name)
            row += [difference_text(difference), p_text(difference)] if difference else ["–", "–"]
        rows.append((*row, f"{len(model.results)}"))
    return table("Mean over seeds and 95 % interval over shoppers", (*head, "seeds"), rows)


def _all_metrics(run: RunResults) -> Html:
    names = list(dict.fromkeys(name for model in run.models for name in model.results[0].metrics))
    rows = [(model.title, *(estimated(model.metric(name)) for name in names)) for model in run.models]
    return table("Every metric", ("model", *map(metric_name, names)), rows)


def _titles(models: tuple[Judged, ...]) -> str:
    return ", ".join(model.title for model in models)
