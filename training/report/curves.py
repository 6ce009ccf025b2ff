"""Training curves: how models get better by epoch and by second."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

from training.evaluation.result import Epoch, ModelResult
from training.report import plots
from training.report.markup import Html, duration, figure, figures, section, table
from training.report.run_results import Judged, RunResults, styles

TITLE = "Learning"
VALIDATION = "validation Recall@20"


def curves_section(run: RunResults) -> Html:
    """Validation recall by epoch and by second, loss by epoch; one line where nothing learned by epochs."""
    learned = [model for model in run.models if any(result.curve for result in model.results)]
    if not learned:
        return section("curves", TITLE, "No model of this run left a training curve.")
    chosen = run.chosen(learned)
    by_epoch = _lines(chosen, lambda curve: [(e.epoch, e.validation_recall_at_20) for e in curve])
    by_second = _lines(chosen, _over_seconds)
    losses = _lines(chosen, _share_of_first_loss)
    numbers = _table(learned)
    few = "" if len(chosen) == len(learned) else f" {len(chosen)} of {len(learned)} models; the table has all."
    cards = []
    if by_epoch:
        says = f"{_best(learned)} Thin lines are further seeds.{few}"
        plot = plots.lines("curve-epochs", f"{VALIDATION} by epoch. {says}", by_epoch, "epoch", VALIDATION)
        cards.append(figure("By epoch", plot, says, numbers))
    if by_second:
        says = f"The same over the time that a fit takes, judging left out.{few}"
        alt, axis = f"{VALIDATION} by second. {says}", "seconds of fitting"
        plot = plots.lines("curve-seconds", alt, by_second, axis, VALIDATION, logarithmic=True)
        cards.append(figure("By second", plot, says, numbers))
    if losses:
        says = f"Losses differ in kind, so each is shown as a share of what it was after its first epoch.{few}"
        plot = plots.lines("curve-loss", f"Training loss by epoch. {says}", losses, "epoch", "loss, first epoch = 1")
        cards.append(figure("Loss", plot, says, numbers))
    lead = (
        "What the validation split said while models learned, the first stage where there are two. The test split is "
        "not in these curves."
    )
    return section("curves", TITLE, lead, *cards)


def _lines(
    chosen: list[Judged], points: Callable[[tuple[Epoch, ...]], list[tuple[float, float | None]]]
) -> list[plots.Line]:
    """One line a fit that has any point."""
    drawn, style = [], styles(chosen)
    for model in chosen:
        for result in model.results:
            told = [(x, y) for x, y in points(result.curve) if y is not None]
            if told:
                drawn.append(plots.Line(model.title, style[model.name], [x for x, _ in told], [y for _, y in told]))
    return drawn


def _over_seconds(curve: tuple[Epoch, ...]) -> list[tuple[float, float | None]]:
    passed = accumulate(epoch.seconds for epoch in curve)
    return [(at, epoch.validation_recall_at_20) for at, epoch in zip(passed, curve, strict=True) if at > 0]


def _share_of_first_loss(curve: tuple[Epoch, ...]) -> list[tuple[float, float | None]]:
    told = [(epoch.epoch, epoch.loss) for epoch in curve if epoch.loss is not None]
    return [(at, loss / told[0][1]) for at, loss in told] if told and told[0][1] else []


def _best_epoch(result: ModelResult) -> Epoch | None:
    told = [epoch for epoch in result.curve if epoch.validation_recall_at_20 is not None]
    return max(told, key=lambda epoch: epoch.validation_recall_at_20 or 0.0, default=None)


def _best(learned: list[Judged]) -> str:
    told = [(model, best) for model in learned for r in model.results if (best := _best_epoch(r)) is not None]
    if not told:
        return ""
    model, best = max(told, key=lambda pair: pair[1].validation_recall_at_20 or 0.0)
    return f"Highest: {model.title}, {best.validation_recall_at_20:.4f} after epoch {best.epoch}."


def _table(learned: list[Judged]) -> Html:
    rows = []
    for model in learned:
        for result in model.results:
            if result.curve:
                best, losses = _best_epoch(result), [e.loss for e in result.curve if e.loss is not None]
                rows.append(
                    (
                        model.title,
                        str(result.seed),
                        str(result.curve[-1].epoch),
                        figures(best.validation_recall_at_20 if best else None),
                        str(best.epoch) if best else "–",
                        f"{losses[0]:.4g} → {losses[-1]:.4g}" if losses else "–",
                        duration(sum(epoch.seconds for epoch in result.curve)),
                    )
                )
    head = ("model", "seed", "epochs", f"best {VALIDATION}", "at epoch", "loss", "time")
    return table("Every fit", head, rows)
