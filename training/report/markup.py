"""Pieces of the page. Text is escaped unless it is Html: titles come from outside and are hostile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from training.evaluation.result import Estimate


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def visible(text: str, *, most: int = 240) -> str:
    """Plain text cut to `most` characters, control characters and such as turn the direction of reading as codes."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in cut)


def html(text: str) -> Html:
    """Text as markup: escaped and cut, unless it is markup already."""
    return text if isinstance(text, Html) else Html(escape(visible(text, most=2_000)))


def paragraph(text: str, *, soft: bool = False) -> Html:
    """One paragraph."""
    return Html(f"<p{' class=soft' if soft else ''}>{html(text)}</p>")


def listed(texts: Iterable[str]) -> Html:
    """A list of texts."""
    return Html("<ul>" + "".join(f"<li>{html(text)}</li>" for text in texts) + "</ul>")


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, texts: Iterable[int] = (0,)) -> Html:
    """A table that names itself; all columns but `texts` are numbers; the first cell of a row is its heading."""
    left = set(texts)
    align = ["" if i in left else " class=n" for i in range(len(head))]
    top = "".join(f"<th scope=col{align[i]}>{html(name)}</th>" for i, name in enumerate(head))
    body = "".join(
        f"<tr><th scope=row{align[0]}>{html(first)}</th>"
        + "".join(f"<td{align[i]}>{html(cell)}</td>" for i, cell in enumerate(rest, start=1))
        + "</tr>"
        for first, *rest in rows
    )
    return Html(
        f'<div class="scroll" tabindex=0 role=group aria-label="{html(caption)}"><table>'
        f"<caption>{html(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def figure(title: str, plot: str, caption: str, numbers: Html) -> Html:
    """A card that holds a plot, what it says, and the same as a table."""
    return Html(
        f"<figure class=card><h3>{html(title)}</h3>{plot}<figcaption>{html(caption)}</figcaption>"
        f"<details><summary>The same as a table</summary>{numbers}</details></figure>"
    )


def card(*content: Html, title: str = "") -> Html:
    """A card over the whole width."""
    heading = f"<h3>{html(title)}</h3>" if title else ""
    return Html(f'<div class="card wide">{heading}{"".join(content)}</div>')


def section(anchor: str, title: str, lead: str, *cards: Html) -> Html:
    """A section of the page: a heading, a sentence on what it shows, and cards in a grid."""
    inside = "".join(cards)
    return Html(
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{html(title)}</h2>{paragraph(lead, soft=True)}'
        f"<div class=grid>{inside}</div></section>"
    )


def details(summary: str, *content: Html) -> Html:
    """Something to open."""
    return Html(f"<details><summary>{html(summary)}</summary>{''.join(content)}</details>")


def figures(value: float | None) -> str:
    """A metric to four places; a dash where it was not measured."""
    return "–" if value is None else f"{value:.4f}"


def signed(value: float) -> str:
    """A difference of metrics with its sign."""
    return f"{value:+.4f}".replace("-", "−")


def estimated(estimate: Estimate | None) -> str:
    """A mean and beneath it its interval; a dash where it was not measured."""
    if estimate is None:
        return "–"
    return Html(f"{estimate.mean:.4f}<small>{estimate.low:.4f} to {estimate.high:.4f}</small>")


def percent(value: float, *, decimals: int = 1) -> str:
    """A share in percent."""
    return f"{100 * value:.{decimals}f} %"


def duration(seconds: float) -> str:
    """A time that a person reads."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 120:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
