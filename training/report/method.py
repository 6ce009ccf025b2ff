"""How it was measured: protocol, metrics, seeds, settings, commands, versions, machine."""

from __future__ import annotations

import json

from training.report.headline import shoppers
from training.report.markup import Html, card, details, html, listed, paragraph, section, table, visible
from training.report.run_results import Judged, RunResults
from training.report.wording import PROTOCOLS, RANKING, STATISTICS, metric_meaning, metric_name


def method_section(run: RunResults) -> Html:
    """All that is needed to measure the same again, and what was not recorded."""
    lead = "For whoever wants to check, or to measure the same again."
    settings = card(*(_settings(model) for model in (*run.models, *run.unranked)), title="Settings of every model")
    return section("method", "How it was measured", lead, _protocol(run), _machine(run), settings)


def _protocol(run: RunResults) -> Html:
    metrics = dict.fromkeys(name for model in run.models for name in model.results[0].metrics)
    explained = [f"{metric_name(name)}: {meaning}." for name in metrics if (meaning := metric_meaning(name))]
    return card(
        paragraph(f"{run.dataset}, {shoppers(run)} shoppers: {PROTOCOLS[run.protocol]}. {RANKING}"),
        listed(explained),
        paragraph(STATISTICS.format(comparisons=len(run.differences))),
        title="Protocol",
    )


def _machine(run: RunResults) -> Html:
    told, title = run.provenance, "Machine, versions, commands"
    if told is None:
        return card(paragraph("They were not recorded with this run."), title=title)
    rows = [("date", told.date), ("machine", f"{told.machine}, {told.counted_cores}"), ("Python", told.python)]
    content = [table("Machine and versions", ("what", "which"), [*rows, *told.versions.items()], texts=(0, 1))]
    if told.commands:
        lines = "\n".join(html(command) for command in told.commands)
        content.append(Html(f"<pre tabindex=0>{lines}</pre>"))
    return card(*content, title=title)


def _settings(model: Judged) -> Html:
    seeds = ", ".join(str(result.seed) for result in model.results)
    settings = sorted(model.results[0].settings.items())
    rows = [(key, visible(json.dumps(value, ensure_ascii=False))) for key, value in settings]
    if not rows:
        return details(f"{model.title} ({model.name}), seeds {seeds}", paragraph("None were recorded."))
    inside = table(f"Settings of {model.title}", ("setting", "value"), rows, texts=(0, 1))
    return details(f"{model.title} ({model.name}), seeds {seeds}", inside)
