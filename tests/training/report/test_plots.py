"""Plots: the frontier by its definition, names that are all there, and text that cannot break the markup."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from training.evaluation.result import Estimate
from training.report import plots
from training.report.svg import SERIES, svg

POINTS = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=12)


@settings(derandomize=True, deadline=None)
@given(POINTS)
def test_the_frontier_is_what_nothing_beats_in_both(places: list[tuple[int, int]]) -> None:
    points = [plots.Point(str(i), x, y, SERIES[0], "o") for i, (x, y) in enumerate(places)]
    best = {(p.x, p.y) for p in plots.pareto(points)}

    def beaten(p: plots.Point) -> bool:
        return any(q.x <= p.x and q.y >= p.y and (q.x, q.y) != (p.x, p.y) for q in points)

    assert best == {(p.x, p.y) for p in points if not beaten(p)}


def shown(plot: str) -> list[str]:
    return [node.text or "" for node in etree.fromstring(plot).iter("{http://www.w3.org/2000/svg}text")]


def test_points_with_room_are_all_named() -> None:
    points = [plots.Point(f"model {i}", 10.0**i, i / 10, SERIES[i % 2], "o") for i in range(5)]
    texts = shown(plots.scatter("room", "Five points far apart.", points, "x", "y", logarithmic=True, frontier=True))
    assert [p.name for p in points if p.name not in texts] == []


def test_names_on_one_heap_do_not_cover_each_other() -> None:
    points = [plots.Point(f"the same place {i}", 1.0, 1.0, SERIES[0], "o") for i in range(40)]
    texts = shown(plots.scatter("heap", "Forty points in one place.", points, "x", "y"))
    named = [text for text in texts if text.startswith("the same place")]
    assert 0 < len(named) < 40
    assert len(named) == len(set(named))


def test_a_value_that_is_absent_is_not_drawn() -> None:
    value = Estimate(mean=0.5, low=0.4, high=0.6)

    def strokes(values: list[Estimate | None]) -> int:
        plot = plots.grouped("absent", "Two groups.", ["a", "b"], [plots.Series("m", 0, values)], "x")
        return plot.count("stroke: var(--c1)")

    assert strokes([value, value]) > strokes([value, None]) > strokes([None, None])


def test_text_from_outside_cannot_open_or_close_a_tag() -> None:
    for text in (
        'font: DejaVu Sans" x',
        "font: DejaVu Sans",
        'style="font: 10px DejaVu Sans',
        "</text></svg>",
        "$\\frac{",
        "#010203",
    ):
        plot = svg("hostile", f'"{text}"', lambda axes, text=text: axes.set_xlabel(text), height=2.0)
        root = etree.fromstring(plot)
        assert root.get("aria-label") == f'"{text}"'
        assert len(re.findall("<svg ", plot)) == 1


def test_long_names_are_cut() -> None:
    row = plots.Dot("n" * 100, 0.5, 0.4, 0.6, SERIES[0], "o")
    (name,) = [text for text in shown(plots.dots("long", "One row.", [row], "x")) if text.startswith("nn")]
    assert len(name) == plots.NAME
    assert name.endswith("…")
