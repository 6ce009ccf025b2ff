"""What a model's attention looks at: the file that a fit may leave, and its section of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from service.errors import DataError
from training.report import plots
from training.report.markup import Html, figure, html, percent, section, table, visible

FILE = "attention.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Example(_Frozen):
    """One candidate and what of the history carried its score."""

    user: str
    history: tuple[str, ...]
    """Titles, the newest event first."""
    candidate: str
    """Title of what was recommended."""
    shares: tuple[float, ...]
    """Share of the attention that each event of `history` gets, in its order."""


class Attention(_Frozen):
    """`<run>/attention.json`: how a fitted model attends. Any part may be left out."""

    relations: tuple[str, ...] = ()
    """Names of the edge types of the item graph."""
    gain: tuple[float, ...] = ()
    """Learned weight of each relation; at 1 it counts as much as its edges say."""
    sharpness: dict[str, tuple[float, ...]] = {}
    """Relation -> each head's learned sharpness: 0 averages all neighbors alike, far from 0 picks a few."""
    share_by_place: dict[str, tuple[float, ...]] = {}
    """`history` or a relation -> mean share of the attention by place, the newest event or nearest neighbor first."""
    examples: tuple[Example, ...] = ()

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if self.gain and len(self.gain) != len(self.relations):
            raise ValueError("`gain` needs one number a relation")
        if any(len(example.shares) != len(example.history) for example in self.examples):
            raise ValueError("`shares` of an example needs one number an event of its `history`")
        return self


def read_attention(run: Path) -> Attention | None:
    """The file, or None where the run has none. Raises DataError where it is not what it should be."""
    path = run / FILE
    if not path.exists():
        return None
    try:
        return Attention.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{path}:{'.'.join(map(str, first['loc']))}".rstrip(":")
        raise DataError(first["msg"], where=where, todo="Write it as docs/MODEL_REPORT.md has it") from error


def attention_section(attention: Attention | None) -> Html:
    """Gains, sharpness, share by place and examples; one line where the run says nothing of it."""
    if attention is None:
        text = "This run left no account of its attention, so nothing is shown here."
        return section("attention", "Attention", text)
    cards = [
        *_gains(attention),
        *_sharpness(attention),
        *(_places(name, shares) for name, shares in attention.share_by_place.items() if shares),
        *_examples(attention),
    ]
    lead = (
        "What the model looks at when it scores a candidate. Attention says which inputs had weight in the score; "
        "it does not prove that they caused it."
    )
    return section("attention", "Attention", lead, *cards)


def _gains(attention: Attention) -> list[Html]:
    values = list(zip(attention.relations, attention.gain, strict=False))
    if not values:
        return []
    alt = "Learned gain of each relation: " + ", ".join(f"{name} {gain:.3g}" for name, gain in values) + "."
    plot = plots.bars("attention-gain", alt, values, "gain", mark=1.0)
    caption = "How much each kind of edge between items counts; dashed is 1, as much as the graph itself says."
    numbers = table("Gain by relation", ("relation", "gain"), [(name, f"{gain:.3f}") for name, gain in values])
    return [figure("Weight of each relation", plot, caption, numbers)]


def _sharpness(attention: Attention) -> list[Html]:
    rows = [(name, heads) for name, heads in attention.sharpness.items() if heads]
    if not rows:
        return []
    alt = "Sharpness of each head by relation, " + "; ".join(
        f"{name} from {min(heads):.3g} to {max(heads):.3g}" for name, heads in rows
    )
    plot = plots.strips("attention-sharpness", alt, rows, "sharpness, a dot a head")
    caption = (
        "At 0 a head averages all neighbors alike; the farther from 0, the more it picks a few. The stroke is the mean."
    )
    numbers = table(
        "Sharpness by relation and head",
        ("relation", *(f"head {i}" for i in range(1, 1 + max(len(heads) for _, heads in rows)))),
        [(name, *(f"{value:.3f}" for value in heads)) for name, heads in rows],
    )
    return [figure("Sharpness of the heads", plot, caption, numbers)]


def _places(name: str, shares: tuple[float, ...]) -> Html:
    what = "events of the history" if name == "history" else f"neighbors by {visible(name, most=40)}"
    places = range(1, len(shares) + 1)
    even = 1 / len(shares)
    drawn = [
        plots.Line("attention", 0, places, shares),
        plots.Line("all alike", 5, places, [even] * len(shares)),
    ]
    alt = (
        f"Mean share of attention over {len(shares)} {what}: {percent(shares[0])} at the first place, "
        f"{percent(shares[-1])} at the last; all alike would be {percent(even)}."
    )
    plot = plots.lines(
        f"attention-places-{name}", alt, drawn, "place, 1 is the newest or nearest", "share of attention"
    )
    caption = f"The first place gets {percent(shares[0])}, {shares[0] / even:.1f} times an equal share."
    numbers = table(
        "Share of attention by place",
        ("place", "share"),
        [(str(i), percent(s)) for i, s in zip(places, shares, strict=True)],
    )
    return figure(f"Attention over {what}", plot, caption, numbers)


def _examples(attention: Attention) -> list[Html]:
    cards = []
    for example in attention.examples:
        rows = [
            (visible(title, most=90), _bar(share), percent(share))
            for title, share in zip(example.history, example.shares, strict=True)
        ]
        shown = table("Events of the history and their share", ("event", "", "share"), rows, texts=(0, 1))
        title = f"Why “{visible(example.candidate, most=90)}” for {visible(example.user, most=40)}"
        cards.append(Html(f"<div class=card><h3>{html(title)}</h3>{shown}</div>"))
    return cards


def _bar(share: float) -> Html:
    return Html(f'<span class=share style="width:{100 * min(max(share, 0.0), 1.0):.1f}%"></span>')
