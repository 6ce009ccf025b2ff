"""Published figures beside ours."""

from __future__ import annotations

from training.report import plots
from training.report.markup import Html, figure, figures, section, table
from training.report.published import PUBLISHED, Published
from training.report.run_results import RunResults
from training.report.svg import INK
from training.report.wording import metric_name

TITLE = "Beside published figures"


def comparable(run: RunResults) -> list[tuple[Published, float]]:
    """Published figures of the run's metric on its data set, best first; none but under the papers' protocol."""
    if run.protocol != "A":
        return []
    told = [(one, value) for one in PUBLISHED.get(run.dataset, ()) if (value := one.metric(run.metric)) is not None]
    return sorted(told, key=lambda pair: -pair[1])


def published_section(run: RunResults) -> Html:
    """A plot and tables of what was measured here and what papers report; one line where nothing is comparable."""
    name, theirs = metric_name(run.metric), comparable(run)
    if run.protocol != "A":
        why = "Papers judge by random splits (protocol A). This run does not, so their figures are not set beside it."
        return section("published", TITLE, why)
    if not theirs:
        return section("published", TITLE, f"No published {name} on this split of {run.dataset} is on record.")
    measured = [(m.title, run.figure(m), m.colour, m.marker) for m in run.models]
    dots = [plots.Dot(title, e.mean, e.low, e.high, colour, marker) for title, e, colour, marker in measured]
    dots += [plots.Dot(one.model, value, None, None, INK, "D") for one, value in theirs]
    dots.sort(key=lambda dot: (-dot.mean, dot.name))
    (best, value), ours = theirs[0], measured[0]
    says = f"Best here: {ours[0]}, {ours[1].mean:.4f}. Best published: {best.model}, {value:.4f}."
    plot = plots.dots("published", f"{name} measured here with intervals, and of papers. {says}", dots, name)
    rows = [(dot.name, figures(dot.mean), "paper" if dot.marker == "D" else "measured here") for dot in dots]
    shown = figure(
        name,
        plot,
        f"{says} Diamonds are papers; circles (ours) and squares (baselines) were measured here.",
        table(f"{name} here and in papers", ("model", name, "source"), rows, texts=(0, 2)),
    )
    sources = [(one.model, figures(one.recall_at_20), figures(one.ndcg_at_20), one.source) for one, _ in theirs]
    head = ("model", "Recall@20", "NDCG@20", "source")
    beside = Html(f"<div class=card>{table(f'Published on {run.dataset}', head, sources, texts=(0, 3))}</div>")
    lead = (
        "Same data, same split, same metric. Papers seldom give intervals, so a difference inside the whiskers is none."
    )
    return section("published", TITLE, lead, shown, beside)
