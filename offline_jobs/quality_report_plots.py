"""The plots of the quality report, as SVG elements that take their colours and font from the page they stand in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from offline_jobs.quality_report_figures import Histogram
from training.report.svg import FAINT, INK, SERIES, WIDTH, Draw, svg
from training.report.svg import STYLE as SHARED

BAR, SECOND = SERIES[:2]
COLOURS = {INK: "var(--ink)", FAINT: "var(--line)", BAR: "var(--accent)", SECOND: "var(--second)"}
"""Colours that stand for the page's own, light or dark; no plot uses them otherwise."""
STYLE = {**SHARED, "axes.grid.axis": "y", "xtick.major.size": mpl.rcParamsDefault["xtick.major.size"]}


def degrees(users: Sequence[tuple[int, int]], items: Sequence[tuple[int, int]]) -> str:
    """Users and items by degree, both axes logarithmic."""

    def draw(axes: Axes) -> None:
        for points, colour, name, marker in ((users, BAR, "users", "o"), (items, SECOND, "items", "s")):
            x, y = zip(*points, strict=True) if points else ((), ())
            axes.plot(x, y, marker, color=colour, markersize=3.2, alpha=0.75, markeredgewidth=0, label=name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        _plain_logarithms(axes, x=True, y=True)
        axes.set_xlabel("distinct partners")
        axes.legend(loc="upper right", handletextpad=0.1)

    return _svg("degrees", draw)


def periods(counts: Sequence[tuple[str, int]]) -> str:
    """Interactions per day or month."""

    def draw(axes: Axes) -> None:
        axes.bar(range(len(counts)), [count for _, count in counts], color=BAR, width=0.85)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda at, _: counts[int(at)][0] if 0 <= at < len(counts) and at == int(at) else "")
        )
        axes.yaxis.set_major_formatter(_SHORT)

    return _svg("periods", draw, width=9.6)


def distribution(name: str, histogram: Histogram, unit: str) -> str:
    """A histogram, its median marked."""

    def draw(axes: Axes) -> None:
        if histogram.logarithmic:
            axes.set_xscale("log")
            axes.set_xlim(histogram.edges[0], histogram.edges[-1])
            _plain_logarithms(axes, x=True, y=False)
        widths = [b - a for a, b in zip(histogram.edges, histogram.edges[1:], strict=False)]
        axes.bar(histogram.edges[:-1], histogram.counts, width=widths, align="edge", color=BAR, linewidth=0)
        axes.axvline(histogram.median, color=SECOND, linewidth=1.5)
        axes.annotate(
            f" median {histogram.median:,.6g}", (histogram.median, 1.0), xycoords=("data", "axes fraction"),
            va="bottom", ha="center",
        )  # fmt: skip
        axes.yaxis.set_major_formatter(_SHORT)
        axes.set_xlabel(unit)

    return _svg(name, draw)


def bars(name: str, counts: Mapping[str, int], total: int | None = None) -> str:
    """One horizontal bar a name, with its number beside it, and its share of `total` where that is given."""

    def draw(axes: Axes) -> None:
        drawn = axes.barh(range(len(counts)), list(counts.values()), color=BAR, height=0.62)
        axes.set_yticks(range(len(counts)), list(counts))
        labels = [f" {n:,} ({n / total:.1%})" if total else f" {n:,}" for n in counts.values()]
        axes.bar_label(drawn, labels=labels, padding=2)
        axes.set_xlim(0, 1.45 * max(total or 0, *counts.values(), 1))
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)

    return _svg(name, draw, height=0.7 + 0.34 * len(counts))


def cores(rows: Sequence[tuple[int, int, int, int]]) -> str:
    """What is left in each k-core, in percent of the first row; rows are (k, users, items, interactions)."""

    def draw(axes: Axes) -> None:
        for column, (label, colour, line) in enumerate(
            (("users", BAR, "-o"), ("items", SECOND, "-s"), ("interactions", INK, "--")), start=1
        ):
            shares = [100 * row[column] / max(rows[0][column], 1) for row in rows]
            axes.plot(range(len(rows)), shares, line, color=colour, label=label, markersize=4)
        axes.set_xticks(range(len(rows)), [f"{row[0]}-core" if row[0] else "all" for row in rows])
        axes.set_ylim(0, 105)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
        axes.legend()

    return _svg("cores", draw)


def _svg(name: str, draw: Draw, *, width: float = WIDTH, height: float = 2.7) -> str:
    """The figure (inches) in this page's colours."""
    return svg(name, name, draw, width=width, height=height, style=STYLE, colours=COLOURS)


def _plain_logarithms(axes: Axes, *, x: bool, y: bool) -> None:
    for axis, wanted in ((axes.xaxis, x), (axes.yaxis, y)):
        if wanted:
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if _decades(axis) < 2 else (1.0,), numticks=8))
            axis.set_major_formatter(_SHORT)
            axis.set_minor_formatter(NullFormatter())


def _decades(axis: Axis) -> float:
    low, high = axis.get_view_interval()
    return math.log10(high / low) if 0 < low < high else 0.0


def _short(value: float, _: object) -> str:
    for size, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"


_SHORT = FuncFormatter(_short)
