"""A picture of the stages: which reads which, how long each took, and which are stale."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import networkx as nx

from offline_jobs.status import Line
from service.errors import InputError

FORMATS = (".svg", ".png", ".pdf")
COLORS = {
    "done": "#d8efe0",
    "running now": "#dbe8fb",
    "outdated": "#fde9c8",
    "interrupted": "#fde9c8",
    "has not run": "#f1f1f1",
}
WIDTH, HEIGHT = 2.5, 0.9
"""Size of a stage's box (inches)."""
GAP_X, GAP_Y = 0.75, 0.45


def graph_of(lines: Sequence[Line]) -> nx.DiGraph[str]:
    """Stages as nodes; an edge from what is read to what reads it, without those that a longer way implies."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(line.stage for line in lines if line.stage)
    graph.add_edges_from((read, line.stage) for line in lines if line.stage for read in line.reads)
    return nx.transitive_reduction(graph)


def draw(lines: Sequence[Line], path: Path) -> None:
    """Draw the stages as SVG, PNG or PDF, by the file's ending. Raises InputError for another ending."""
    if path.suffix not in FORMATS:
        raise InputError(f"'{path.suffix}' is no kind of picture", where=str(path), todo=f"Use {', '.join(FORMATS)}")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    graph = graph_of(lines)
    places = _places(graph)
    columns = 1 + max(x for x, _ in places.values())
    rows = 1 + max(y for _, y in places.values())
    step_x, step_y = WIDTH + GAP_X, HEIGHT + GAP_Y
    figure = Figure(figsize=(columns * step_x, rows * step_y))
    axes = figure.add_axes((0, 0, 1, 1), frameon=False, xticks=[], yticks=[])
    axes.set_xlim(-GAP_X / 2, columns * step_x - GAP_X / 2)
    axes.set_ylim(rows * step_y - GAP_Y / 2, -GAP_Y / 2)
    for source, target in graph.edges:
        (x0, y0), (x1, y1) = places[source], places[target]
        begin = (x0 * step_x + WIDTH, y0 * step_y + HEIGHT / 2)
        end = (x1 * step_x, y1 * step_y + HEIGHT / 2)
        arrow = FancyArrowPatch(begin, end, arrowstyle="-|>", mutation_scale=12, color="#7a7a7a", linewidth=1)
        axes.add_patch(arrow)
    for line in lines:
        x, y = (place * step for place, step in zip(places[line.stage or ""], (step_x, step_y), strict=True))
        color = COLORS[line.state.partition(":")[0]]
        box = FancyBboxPatch((x, y), WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=.1", fc=color, ec="#5a5a5a")
        axes.add_patch(box)
        axes.text(x + WIDTH / 2, y + 0.3, line.command, ha="center", va="center", fontsize=12, weight="bold")
        axes.text(x + WIDTH / 2, y + 0.63, _caption(line), ha="center", va="center", fontsize=8.5, color="#333333")
    with mpl.rc_context({"svg.hashsalt": "stages", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _places(graph: nx.DiGraph[str]) -> dict[str, tuple[float, float]]:
    """Column and row of each stage: columns by the longest way from the start, rows centred in each column."""
    generations = [list(generation) for generation in nx.topological_generations(graph)]
    tallest = max(len(generation) for generation in generations)
    order = {name: at for at, name in enumerate(graph.nodes)}
    return {
        name: (column, row + (tallest - len(generation)) / 2)
        for column, generation in enumerate(generations)
        for row, name in enumerate(sorted(generation, key=order.__getitem__))
    }


def _caption(line: Line) -> str:
    if line.seconds is None:
        return line.state
    took = f"{line.seconds:.1f} s, {line.peak_mib or 0:.0f} MiB"
    return took if line.state == "done" else f"{took}\n{line.state}"
