"""Weights, rules and diversity over scored candidates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.catalog import NO_ROWS
from service.domain import ModalityWeights
from service.neighborhood import History
from service.ranking import UNMOVED, Moved, ordered, rule_reasons, shifted, weighted


class Tables:
    """Item tables of a few items whose vectors are known: the last axis is popularity, as in a bundle."""

    def __init__(self, vectors: list[list[float]], look: list[list[float]] | None = None) -> None:
        self._vectors = np.array(vectors, np.float32)
        self._look = np.array(look if look is not None else vectors, np.float32)

    def item_vectors(self, rows: np.ndarray) -> np.ndarray:
        return self._vectors[rows]

    def look(self, rows: np.ndarray) -> np.ndarray:
        return self._look[rows]

    meaning = look


def rows_of(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int32)


def only(*chosen: int):
    return lambda rows: np.isin(rows, chosen)


LINE = Tables([[1, 0, 9], [1, 0, 1], [0, 1, 5], [0.7, 0.7, 5]])


def test_without_rules_and_diversity_the_order_is_that_of_the_scores_and_ties_stay() -> None:
    scores = np.array([1, 3, 3, 2], np.float32)
    assert ordered(scores, rows_of(4), 3, diversity=0.0, tables=LINE, pin=NO_ROWS).tolist() == [1, 2, 3]


def test_pins_stand_first_in_their_order_whatever_their_scores() -> None:
    scores = np.array([4, 3, 2, 1], np.float32)
    pin = np.array([3, 2], np.int32)
    assert ordered(scores, rows_of(4), 4, diversity=0.0, tables=LINE, pin=pin).tolist() == [3, 2, 0, 1]


@given(st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=8), st.integers(0, 7))
def test_the_full_strength_moves_the_last_before_the_first(values: list[float], which: int) -> None:
    scores = np.array(values, np.float32)
    which %= len(values)
    boosted = shifted(scores, rows_of(len(values)), Moved(shifts=((1.0, only(which)),)))
    assert int(np.argmax(boosted)) == which
    buried = shifted(scores, rows_of(len(values)), Moved(shifts=((-1.0, only(which)),)))
    assert int(np.argmin(buried)) == which
    assert np.array_equal(np.delete(boosted, which), np.delete(scores, which))


def test_diversity_prefers_what_is_unlike_those_before() -> None:
    scores = np.array([1.0, 0.99, 0.5, 0.6], np.float32)  # 0 and 1 point the same way, 2 across, 3 between
    assert ordered(scores, rows_of(4), 4, diversity=0.0, tables=LINE, pin=NO_ROWS).tolist() == [0, 1, 3, 2]
    assert ordered(scores, rows_of(4), 2, diversity=0.9, tables=LINE, pin=NO_ROWS).tolist() == [0, 2]


@given(st.floats(0.01, 1.0), st.integers(1, 12))
def test_diversity_is_the_greedy_choice_that_it_says(diversity: float, depth: int) -> None:
    random = np.random.default_rng(3)
    vectors = random.normal(size=(12, 5)).astype(np.float32)
    scores = random.normal(size=12).astype(np.float32)
    got = ordered(scores, rows_of(12), depth, diversity=diversity, tables=Tables(vectors.tolist()), pin=NO_ROWS)
    unit = vectors[:, :-1] / np.linalg.norm(vectors[:, :-1], axis=1, keepdims=True)
    share = (scores - scores.min()) / (scores.max() - scores.min())
    chosen: list[int] = []
    for _ in range(depth):
        left = [i for i in range(12) if i not in chosen]
        gain = [
            (1 - diversity) * share[i] - diversity * max((0.0, *(float(unit[i] @ unit[j]) for j in chosen)))
            for i in left
        ]
        best = left[int(np.argmax(gain))] if chosen else int(np.argmax(scores))
        assert gain[left.index(int(got[len(chosen)]))] == pytest.approx(gain[left.index(best)], abs=1e-5)
        chosen.append(int(got[len(chosen)]))


def test_weights_mix_standard_scores_and_an_item_without_a_picture_is_neither_better_nor_worse() -> None:
    tables = Tables([[1, 0, 0]] * 4, look=[[1, 0], [0, 1], [0, 0], [1, 0]])
    history = History(np.array([3], np.int32), np.ones(1, np.float32), np.zeros(1, np.float32))
    scores = np.array([0, 1, 2], np.float32)
    by_look = weighted(scores, rows_of(3), history, ModalityWeights(look=1.0), tables)  # type: ignore[arg-type]
    assert by_look.tolist() == pytest.approx([1.0, -1.0, 0.0])
    same = weighted(scores, rows_of(3), history, ModalityWeights(behaviour=0.4), tables)  # type: ignore[arg-type]
    assert np.argsort(same).tolist() == [0, 1, 2]


def test_rules_give_their_reasons() -> None:
    rules = Moved(pin=np.array([7], np.int32), shifts=((0.5, only(7, 8)), (-0.25, only(8))))
    assert [(r.kind, r.weight) for r in rule_reasons(7, rules)] == [("pinned", 1.0), ("boosted", 0.5)]
    assert [(r.kind, r.weight) for r in rule_reasons(8, rules)] == [("boosted", 0.5), ("buried", 0.25)]
    assert rule_reasons(9, rules) == ()
    assert rule_reasons(7, UNMOVED) == ()
