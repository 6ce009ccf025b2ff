from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.neighborhood import SIEVE, History, Relation, edges, last_events, no_places, shares


@st.composite
def graphs(draw: st.DrawFn) -> Any:
    items = draw(st.integers(1, 12))
    degree = draw(st.integers(1, 4))
    rows = st.lists(st.integers(0, items - 1), unique=True, max_size=items)

    def relation() -> Relation:
        neighbors = np.full((items, degree), -1, np.int32)
        for item in range(items):
            near = draw(rows)[:degree]
            neighbors[item, : len(near)] = near
        weights = np.where(neighbors < 0, 0, 1 + np.arange(items * degree).reshape(items, degree)).astype(np.float32)
        return Relation(neighbors, weights)

    relations = [relation() for _ in range(draw(st.integers(1, 3)))]
    candidates = np.array(draw(st.permutations(range(items)))[: draw(st.integers(0, items))], np.int32)
    past = np.array(draw(st.lists(st.integers(0, items - 1), max_size=6)), np.int32)
    length = draw(st.integers(1, 8))
    return candidates, past, length, relations


def naive_edges(candidates: Any, history: History, relations: list[Relation]) -> Any:
    out = np.zeros((len(candidates), len(history.rows), len(relations)), np.float32)
    for c, candidate in enumerate(candidates):
        for event, row in enumerate(history.rows):
            for r, relation in enumerate(relations):
                for slot, neighbor in enumerate(relation.neighbors[row]):
                    if history.mask[event] and neighbor == candidate:
                        out[c, event, r] = relation.weights[row, slot]
    return out


@given(graph=graphs())
def test_edges_are_those_of_the_naive_loop(graph: Any) -> None:
    candidates, past, length, relations = graph
    history = last_events(past, np.arange(len(past), dtype=np.int64), now=len(past), length=length)
    places = no_places(len(relations[0].neighbors))
    found = edges(candidates, history, relations, places)
    np.testing.assert_array_equal(found, naive_edges(candidates, history, relations))
    np.testing.assert_array_equal(places, no_places(len(places)))


def test_rows_that_share_a_slot_of_the_sieve_are_told_apart() -> None:
    neighbors = np.full((2 * SIEVE, 2), -1, np.int32)
    neighbors[0], neighbors[1] = (5 + SIEVE, 6), (5, 2 * SIEVE - 1)
    weights = np.array([[1, 2], [3, 4]], np.float32)
    relation = Relation(neighbors, np.concatenate([weights, np.zeros((2 * SIEVE - 2, 2), np.float32)]))
    history = last_events(np.array([0, 1], np.int32), np.zeros(2, np.int64), now=0, length=2)
    found = edges(np.array([5, 6 + SIEVE, SIEVE - 1], np.int32), history, [relation], no_places(2 * SIEVE))
    assert found[:, :, 0].tolist() == [[3, 0], [0, 0], [0, 0]]


def test_last_events_are_newest_first_and_padded() -> None:
    history = last_events(np.array([4, 5, 6], np.int32), np.array([0, 86_400, 172_800]), now=259_200, length=5)
    assert history.rows.tolist() == [6, 5, 4, 0, 0]
    assert history.mask.tolist() == [1, 1, 1, 0, 0]
    assert history.age_days.tolist() == [1, 2, 3, 0, 0]


def test_last_events_keep_the_newest_and_no_age_is_negative() -> None:
    history = last_events(np.array([4, 5, 6], np.int32), np.array([0, 86_400, 172_800]), now=86_400, length=2)
    assert history.rows.tolist() == [6, 5]
    assert history.age_days.tolist() == [0, 0]


def test_shares_sum_to_one_and_the_nearest_says_most() -> None:
    assert shares(np.array([0.9, 0.9], np.float32)).tolist() == [0.5, 0.5]
    far, near = shares(np.array([1.0, 0.8], np.float32)), shares(np.array([0.3, 0.29], np.float32))
    assert far[0] > 0.95
    assert 0.5 < near[0] < 0.7
    assert shares(np.array([0.4, -0.5], np.float32)).tolist() == [1.0, 0.0]
    assert shares(np.array([-0.1], np.float32)).tolist() == [0.0]
    assert len(shares(np.empty(0, np.float32))) == 0
    both = shares(np.array([[0.9, 0.9, 0.0], [0.0, 0.0, 0.0]], np.float32))
    assert both.tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
