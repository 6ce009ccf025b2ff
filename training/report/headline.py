"""The headline in words: what won, by how much, on what, and what was not measured."""

from __future__ import annotations

from training.report.ladder import p_text
from training.report.markup import Html, card, html, listed, paragraph, percent, signed
from training.report.published_section import comparable
from training.report.run_results import Judged, RunResults
from training.report.slices_section import slice_names
from training.report.wording import BEYOND, NOT_SHOWN, PROTOCOLS, metric_name


def headline(run: RunResults) -> Html:
    """The page's tiles and first card."""
    claim, *rest = claims(run)
    says = card(
        Html(f"<p class=claim>{html(claim)}</p>"),
        *(paragraph(text) for text in rest),
        paragraph("What this page cannot say:"),
        listed(not_measured(run)),
    )
    return Html(f"{_tiles(run)}<div class=grid>{says}</div>")


def claims(run: RunResults) -> list[str]:
    """What won first, then by how much, what is served, what papers reach, and on what data it was measured."""
    return [*_won(run), *_margin(run), *_served(run), *_papers(run), _judged(run)]


def not_measured(run: RunResults) -> list[str]:
    """What a reader might look for and will not find."""
    names = {name for model in run.models for result in model.results for name in (*result.metrics, *result.beyond)}
    groups = {kind: slice_names(run, kind) for kind in ("items", "users", "candidates")}
    absent = [
        (len(run.models) > 1 and run.against is None, "How far a simple baseline comes: none was judged."),
        (bool(run.unpaired), "Whether every difference is beyond chance: some models lack each shopper's figures."),
        (most_seeds(run) == 1, "How much a fit depends on its seed: one seed a model."),
        ("items/cold" not in groups["items"] and not groups["candidates"], "How good models are on cold items."),
        ("items/tail" not in groups["items"], "How good models are on popular and on rare items, each apart."),
        (not groups["users"], "How good models are for shoppers with few and with many purchases, each apart."),
        (not any(name.startswith(tuple(BEYOND)) for name in names), "Coverage, evenness and variety of the lists."),
        (not any(name.startswith("candidate_") for name in names), "What retrieval alone misses."),
        (run.attention is None, "What the model attends to."),
        (run.provenance is None, "On which machine, when and with which versions this was measured."),
        (True, NOT_SHOWN[run.protocol]),
        (True, "What shoppers do when they see these lists: held-out purchases are a stand-in for that."),
    ]
    return [text for holds, text in absent if holds]


def shoppers(run: RunResults) -> str:
    """How many were judged; a range where models differ."""
    users = [result.users for model in run.models for result in model.results]
    return f"{min(users):,}" if min(users) == max(users) else f"{min(users):,} to {max(users):,}"


def most_seeds(run: RunResults) -> int:
    """Seeds of the model that was fitted most often."""
    return max(len(model.results) for model in run.models)


def _won(run: RunResults) -> list[str]:
    best, name = run.best, metric_name(run.metric)
    figure = run.figure(best)
    if run.metric.startswith("recall"):
        k = run.metric.partition("@")[2]
        means = f"of what a shopper went on to choose, {percent(figure.mean)} is among its first {k} recommendations"
    else:
        means = f"{name} {figure.mean:.4f}"
    interval = f"{name} {figure.mean:.4f}, 95 % interval {figure.low:.4f} to {figure.high:.4f}."
    if len(run.models) == 1:
        return [
            f"{best.title}: {means}.",
            f"{interval} No other model was judged, so nothing says whether that is much.",
        ]
    return [f"{best.title} is best of {len(run.models)} models: {means}.", interval]


def _margin(run: RunResults) -> list[str]:
    """The best of ours beside the strongest baseline; without either, the best beside the next."""
    rival = run.against
    if rival is None:
        none = "No baseline was judged: what a simple model reaches here is not known."
        return [none] if len(run.models) > 1 else []
    ahead = run.own
    if ahead is None or ahead is rival:
        ahead = next(model for model in run.models if model is not rival)
    texts = [_compared(run, ahead, rival)]
    if run.own is None:
        texts.append("Every model here is a baseline.")
    return texts


def _compared(run: RunResults, ahead: Judged, rival: Judged) -> str:
    mine, theirs = run.figure(ahead).mean, run.figure(rival).mean
    share = f" ({percent(abs(mine / theirs - 1), decimals=0)})" if theirs > 0 else ""
    side = "above" if mine >= theirs else "below"
    kind = "the strongest baseline" if rival is run.strongest_baseline else "the model asked for to compare with"
    gap = f"{ahead.title} is {abs(mine - theirs):.4f}{share} {side} {rival.title}, {kind} ({theirs:.4f})"
    paired = run.differences.get(ahead.name)
    if paired is None:
        return f"{gap}; how sure that is cannot be said, for want of each shopper's figures."
    verdict = "That is beyond chance" if paired.significant else "That may be chance"
    interval = f"the difference has the 95 % interval {signed(paired.low)} to {signed(paired.high)}"
    corrected = f"p {p_text(paired)} after Holm's correction"
    return f"{gap}. {verdict}: with the same shoppers under both, {interval}, {corrected}."


def _served(run: RunResults) -> list[str]:
    served = run.named("served")
    texts = []
    if served is not None and served is not run.best:
        figure, best = run.figure(served).mean, run.figure(run.best).mean
        texts.append(
            f"What the service answers ({served.title}) reaches {figure:.4f}, {best - figure:.4f} below the best."
        )
    for model in run.models if served is None else [served]:
        for name in model.results[0].metrics:
            if name.startswith("candidate_") and (found := model.metric(name)):
                k = name.partition("@")[2]
                texts.append(
                    f"{model.title}: retrieval finds {percent(found.mean)} of the held-out items in {k} candidates."
                )
    return texts


def _papers(run: RunResults) -> list[str]:
    theirs, ahead = comparable(run), run.own or run.best
    if not theirs:
        return []
    best, value = theirs[0]
    mine = run.figure(ahead).mean
    side = "above" if mine > value else "below"
    gap = f"{ahead.title} is {abs(mine - value):.4f} {side} it"
    return [f"The best published figure on this split is {value:.4f} ({best.model}): {gap}."]


def _judged(run: RunResults) -> str:
    most, least = most_seeds(run), min(len(model.results) for model in run.models)
    seeds = "one seed" if most == 1 else f"{most} seeds" if least == most else f"{least} to {most} seeds"
    return f"Measured on {run.dataset}: {PROTOCOLS[run.protocol]}; {shoppers(run)} shoppers, {seeds} a model."


def _tiles(run: RunResults) -> str:
    best, rival, own = run.best, run.against, run.own
    tiles = [
        (f"{figure.mean:.4f}", f"{metric_name(name)} of {best.title}")
        for name in dict.fromkeys((run.metric, "recall@20", "ndcg@20"))
        if (figure := best.metric(name))
    ]
    if own is not None and rival is not None and own is not rival and run.figure(rival).mean > 0:
        gain = run.figure(own).mean / run.figure(rival).mean - 1
        sign = "+" if gain >= 0 else "−"
        tiles.append((f"{sign}{percent(abs(gain))}", f"{own.title} against {rival.title}"))
    fits = sum(len(model.results) for model in run.models)
    tiles += [(shoppers(run), "shoppers judged"), (f"{len(run.models)}", "models"), (f"{fits}", "fits")]
    cells = (f'<div class="card tile"><b>{html(value)}</b><span>{html(name)}</span></div>' for value, name in tiles)
    return f"<div class=tiles>{''.join(cells)}</div>"
