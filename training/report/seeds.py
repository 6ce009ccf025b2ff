"""How much a model's figure depends on its seed."""

from __future__ import annotations

from statistics import fmean, stdev

from training.report import plots
from training.report.markup import Html, figure, figures, section, table
from training.report.run_results import RunResults
from training.report.wording import metric_name

TITLE = "Seeds"


def seeds_section(run: RunResults) -> Html:
    """Every fit as a dot, with mean and spread; one line where each model was fitted once."""
    name = metric_name(run.metric)
    rows = [(m.title, [r.metrics[run.metric].mean for r in m.results]) for m in run.models if len(m.results) > 1]
    if not rows:
        return section("seeds", TITLE, "Each model was fitted with one seed: how much a fit is chance is not known.")
    widest = max(rows, key=lambda row: max(row[1]) - min(row[1]))
    says = f"The widest spread is that of {widest[0]}: {min(widest[1]):.4f} to {max(widest[1]):.4f}."
    plot = plots.strips("seeds", f"{name} of every fit, a dot a seed, for {len(rows)} models. {says}", rows, name)
    numbers = [
        (title, str(len(v)), figures(fmean(v)), figures(stdev(v)), figures(min(v)), figures(max(v)))
        for title, v in rows
    ]
    head = ("model", "seeds", "mean", "standard deviation", "least", "most")
    once = [m.title for m in run.models if len(m.results) == 1]
    lead = "The same model fitted again with other random numbers. The stroke is the mean."
    if once:
        lead += f" With one seed only: {', '.join(once)}."
    return section("seeds", TITLE, lead, figure(name, plot, says, table(f"{name} over seeds", head, numbers)))
