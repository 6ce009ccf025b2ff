"""The kinds of plot that the report is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from training.evaluation.result import Estimate
from training.report.markup import visible
from training.report.svg import FAINT, INK, MARKERS, SERIES, svg

NAME = 24
"""Most characters of a name inside a plot."""


@dataclass(frozen=True)
class Dot:
    """One line of a dot-and-whisker plot."""

    name: str
    mean: float
    low: float | None
    high: float | None
    colour: str
    marker: str


@dataclass(frozen=True)
class Series:
    """A model's values in the groups of a plot; None where there is none."""

    name: str
    style: int
    """Which of SERIES and MARKERS."""
    values: Sequence[Estimate | None]


@dataclass(frozen=True)
class Line:
    """One fit of a model in a line plot."""

    name: str
    style: int
    """Which of SERIES and MARKERS; the fits of one model share it."""
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Point:
    """A model in a scatter plot."""

    name: str
    x: float
    y: float
    colour: str
    marker: str


def dots(name: str, alt: str, rows: Sequence[Dot], label: str, *, mark: tuple[float, str] | None = None) -> str:
    """A line a row, the first on top; whiskers are intervals; `mark` is a line to compare with, and its name."""

    def draw(axes: Axes) -> None:
        for y, row in enumerate(rows):
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [y, y], color=row.colour, linewidth=2, solid_capstyle="butt", alpha=0.55)
            axes.plot([row.mean], [y], row.marker, color=row.colour, markersize=6)
        _rows(axes, [row.name for row in rows])
        if mark is not None:
            axes.axvline(mark[0], color=INK, linewidth=1, linestyle=(0, (4, 3)))
            at, named = mark
            name = visible(named, most=NAME)
            axes.annotate(name, (at, 1), xycoords=("data", "axes fraction"), va="bottom", ha="center")
        axes.set_xlabel(label)
        axes.xaxis.set_major_locator(_ticks())

    return svg(name, alt, draw, height=1.0 + 0.26 * len(rows))


def grouped(name: str, alt: str, groups: Sequence[str], series: Sequence[Series], label: str) -> str:
    """Groups from top to bottom, in each a dot with its interval for every series."""

    def draw(axes: Axes) -> None:
        step = len(series) + 1
        for i, one in enumerate(series):
            for group, value in enumerate(one.values):
                if value is not None:
                    y = group * step + i
                    colour, marker = SERIES[one.style], MARKERS[one.style]
                    axes.plot([value.low, value.high], [y, y], color=colour, linewidth=2, alpha=0.55)
                    axes.plot([value.mean], [y], marker, color=colour, markersize=5, clip_on=False)
            axes.plot([], [], MARKERS[one.style], color=SERIES[one.style], label=visible(one.name, most=NAME))
        for group in range(1, len(groups)):
            axes.axhline(group * step - 1, color=FAINT, linewidth=0.8)
        axes.set_yticks([group * step + (len(series) - 1) / 2 for group in range(len(groups))])
        axes.set_yticklabels([visible(group, most=NAME) for group in groups])
        axes.set_ylim(len(groups) * step - 1, -1)
        axes.tick_params(axis="y", pad=8)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(_ticks())
        _legend(axes)

    rows = len(groups) * (len(series) + 1)
    return svg(name, alt, draw, height=1.2 + 0.125 * rows + 0.2 * (len(series) // 2))


def lines(name: str, alt: str, drawn: Sequence[Line], x: str, y: str, *, logarithmic: bool = False) -> str:
    """Lines; several fits of one model share its colour, and the first of them its legend."""

    def draw(axes: Axes) -> None:
        named: set[int] = set()
        for line in drawn:
            first = line.style not in named
            named.add(line.style)
            axes.plot(
                line.x, line.y, color=SERIES[line.style], marker=MARKERS[line.style] if first else "", markersize=3.5,
                linewidth=1.6 if first else 0.9, alpha=1.0 if first else 0.6,
                label=visible(line.name, most=NAME) if first else None,
            )  # fmt: skip
        if logarithmic:
            axes.set_xscale("log")
            _plain_logarithms(axes.xaxis)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        _legend(axes)

    return svg(name, alt, draw, height=3.2)


def scatter(
    name: str, alt: str, points: Sequence[Point], x: str, y: str, *, logarithmic: bool = False, frontier: bool = False
) -> str:
    """Named points; the frontier joins those that no other beats in both (less of x, more of y)."""

    def draw(axes: Axes) -> None:
        if logarithmic:
            axes.set_xscale("log")
        if frontier:
            best = pareto(points)
            axes.plot(
                [p.x for p in best], [p.y for p in best], color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1,
                drawstyle="steps-post",
            )  # fmt: skip
        for point in points:
            axes.plot([point.x], [point.y], point.marker, color=point.colour, markersize=6.5)
        axes.margins(x=0.26, y=0.16)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        if logarithmic:
            _plain_logarithms(axes.xaxis)
        else:
            axes.xaxis.set_major_locator(_ticks())
        _name_points(axes, points)

    return svg(name, alt, draw, height=3.4)


def bars(name: str, alt: str, values: Sequence[tuple[str, float]], label: str, *, mark: float | None = None) -> str:
    """A horizontal bar a value, its number beside it."""

    def draw(axes: Axes) -> None:
        drawn = axes.barh(range(len(values)), [value for _, value in values], color=SERIES[0], height=0.6)
        axes.bar_label(drawn, labels=[f"{value:.3g}" for _, value in values], padding=4)
        _rows(axes, [name for name, _ in values])
        if mark is not None:
            axes.axvline(mark, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.margins(x=0.16)
        axes.set_xlabel(label)

    return svg(name, alt, draw, height=0.9 + 0.36 * len(values))


def strips(name: str, alt: str, rows: Sequence[tuple[str, Sequence[float]]], label: str) -> str:
    """Every single value of a row as a dot, their mean as a stroke."""

    def draw(axes: Axes) -> None:
        for y, (_, values) in enumerate(rows):
            axes.plot(values, [y] * len(values), "o", color=SERIES[0], markersize=5.5, alpha=0.6, markeredgewidth=0)
            axes.plot([float(np.mean(values))], [y], "|", color=INK, markersize=13, markeredgewidth=1.6)
        _rows(axes, [name for name, _ in rows])
        axes.margins(x=0.08)
        axes.set_xlabel(label)
        axes.xaxis.set_major_locator(_ticks())

    return svg(name, alt, draw, height=1.0 + 0.26 * len(rows))


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both (less of x, more of y), by x."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if not best or point.y > best[-1].y:
            best.append(point)
    return best


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [visible(name, most=NAME) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def _legend(axes: Axes) -> None:
    """Above the plot, two names a line."""
    axes.figure.get_figure(root=True).legend(loc="outside upper left", ncols=2, handletextpad=0.4, columnspacing=1.2)


def _name_points(axes: Axes, points: Sequence[Point]) -> None:
    """Each name where it covers neither a point nor another name; left to the table where there is no such place."""
    figure = axes.figure.get_figure(root=True)
    figure.draw_without_rendering()
    at = [axes.transData.transform((point.x, point.y)) for point in points]
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in at]
    frame = axes.get_window_extent()
    scale = figure.dpi / 72
    for point in sorted(points, key=lambda point: -point.y):
        name = visible(point.name, most=NAME)
        x, y = axes.transData.transform((point.x, point.y))
        measured = axes.text(point.x, point.y, name, fontsize=SMALL)
        width, height = measured.get_window_extent().size
        measured.remove()
        for dx, dy, ha, va in _PLACES:
            left, low = x + dx * scale - _BEFORE[ha] * width, y + dy * scale - _BEFORE[va] * height
            box = Bbox.from_bounds(left, low, width, height)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                far = max(abs(dx), abs(dy)) > NEAR
                axes.annotate(
                    name, (point.x, point.y), (dx, dy), textcoords="offset points", ha=ha, va=va, fontsize=SMALL,
                    arrowprops=_LEADER if far else None,
                )  # fmt: skip
                break


SMALL = 8.5
"""Size of names in a plot, points."""
NEAR = 6
"""Points between a name and its place in a plot; farther away a thin line leads from one to the other."""
_PLACES = (
    (0, 6, "center", "bottom"), (6, 0, "left", "center"), (-6, 0, "right", "center"), (0, -6, "center", "top"),
    (5, 5, "left", "bottom"), (5, -5, "left", "top"), (-5, 5, "right", "bottom"), (-5, -5, "right", "top"),
    (0, 18, "center", "bottom"), (0, -18, "center", "top"), (10, 14, "left", "bottom"), (10, -14, "left", "top"),
    (-10, 14, "right", "bottom"), (-10, -14, "right", "top"), (14, 26, "left", "bottom"), (14, -26, "left", "top"),
    (-14, 26, "right", "bottom"), (-14, -26, "right", "top"), (-24, 0, "right", "center"), (24, 0, "left", "center"),
)  # fmt: skip

_BEFORE = {"left": 0.0, "bottom": 0.0, "center": 0.5, "right": 1.0, "top": 1.0}
"""Share of a name that lies before the place it is aligned to."""
_LEADER = {"arrowstyle": "-", "color": INK, "linewidth": 0.6, "shrinkB": 4}


def _ticks() -> MaxNLocator:
    return MaxNLocator(6, steps=[1, 2, 2.5, 5, 10])


def _plain_logarithms(axis: Axis) -> None:
    low, high = axis.get_view_interval()
    narrow = high / low < 100
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())
