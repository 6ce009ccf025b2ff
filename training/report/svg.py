"""Matplotlib figures as SVG elements that take their colours and font from the page they stand in."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.report.markup import visible

INK, FAINT = "#010203", "#040506"
SERIES = ("#070809", "#0a0b0c", "#0d0e0f", "#101112", "#131415", "#161718")
OURS, BASELINE = SERIES[0], SERIES[1]
COLOURS = {INK: "var(--ink)", FAINT: "var(--line)", **{c: f"var(--c{i})" for i, c in enumerate(SERIES, start=1)}}
"""Colours that stand for the page's own, light or dark; no plot uses them otherwise."""
MARKERS = ("o", "s", "^", "D", "v", "P")
"""One beside each colour of SERIES: colour never carries the meaning alone."""
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a title that holds a dollar sign is text
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "xtick.minor.size": 0,
    "legend.frameon": False,
}

WIDTH = 4.7
"""Inches of every figure: on a phone its letters are as large as the text beneath it."""

Draw = Callable[[Axes], None]


def svg(
    name: str,
    alt: str,
    draw: Draw,
    *,
    height: float,
    width: float = WIDTH,
    style: Mapping[str, object] = STYLE,
    colours: Mapping[str, str] = COLOURS,
) -> str:
    """A figure (inches) as one <svg> element, the same bytes for the same numbers; nothing in it is loaded.

    `name` is unique on the page: ids are made from it. `alt` says in a sentence what is to be seen. `colours` are those
    that stand for the page's own, and what they stand for.
    """
    salted: Any = {**style, "svg.hashsalt": name}
    with mpl.rc_context(salted), warnings.catch_warnings():
        # The page's own font draws the text; that the font used for measuring lacks a letter changes nothing.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _for_the_page(file.getvalue(), alt, colours)


def _for_the_page(text: str, alt: str, colours: Mapping[str, str]) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # the same in every figure; markers and clip paths keep theirs
    text = re.sub(r"font(?:-family)?: ([\d.]+px )?[^;\"<>]*?'?DejaVu Sans'?[^;\"<>]*", _font, text)
    for placeholder, colour in colours.items():
        text = text.replace(placeholder, colour)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(visible(alt, most=2_000))}" ', 1)


def _font(found: re.Match[str]) -> str:
    return f"font: {found[1]}var(--font)" if found[1] else "font-family: var(--font)"
