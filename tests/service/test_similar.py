"""Likeness by look, meaning, behaviour and their mixture, against plain cosines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.catalog import NO_ROWS
from service.domain import By, ModalityWeights
from service.similar import Similar, best

N, M = 40, 3


class Shop:
    """A bundle and a catalog with live items, as far as likeness asks them."""

    def __init__(self, seed: int, *, live: bool) -> None:
        random = np.random.default_rng(seed)

        def table(rows: int, width: int) -> np.ndarray:
            values = random.normal(size=(rows, width)).astype(np.float32)
            values[random.random(rows) < 0.25] = 0.0  # what has no picture, no text, no buyers
            return values

        self.known = {name: table(N, 8) for name in ("look", "meaning", "behaviour")}
        self.known["item_vectors"] = random.normal(size=(N, 9)).astype(np.float32)
        self.live = {"look": table(M, 8), "meaning": table(M, 8)} if live else {}
        if live:
            self.live["item_vectors"] = random.normal(size=(M, 9)).astype(np.float32)
        self.bundle: Any = SimpleNamespace(**self.known)
        self.tables = SimpleNamespace(num_known=N, live=_Live(self.live) if live else None)
        for name in ("look", "meaning", "item_vectors"):
            setattr(self.tables, name, lambda rows, name=name: self.whole(name)[rows])

    def whole(self, name: str) -> np.ndarray:
        late = self.live.get(name, np.zeros((M if self.live else 0, self.known[name].shape[1]), np.float32))
        return np.concatenate([self.known[name], late])

    def __len__(self) -> int:
        return N + (M if self.live else 0)


class _Live:
    def __init__(self, tables: dict[str, np.ndarray]) -> None:
        self.__dict__.update(tables)

    def __len__(self) -> int:
        return M


def cosine(a: np.ndarray, b: np.ndarray) -> float | None:
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length else None


@given(st.integers(0, 50), st.booleans(), st.sampled_from(list(By)), st.integers(0, N - 1))
def test_one_respect_is_the_cosine_where_both_have_it(seed: int, live: bool, by: By, row: int) -> None:
    shop: Any = Shop(seed, live=live)
    got = Similar(shop.bundle).to_item(row, by, None, shop)
    table = shop.whole("item_vectors")[:, :-1] if by is By.BLEND else shop.whole(str(by))
    for other in range(len(shop)):
        expected = cosine(table[row], table[other])
        assert got[other] == (pytest.approx(expected, abs=1e-5) if expected is not None else -np.inf)


@given(st.integers(0, 50), st.booleans(), st.integers(0, N - 1))
def test_a_mixture_judges_by_the_respects_that_an_item_has(seed: int, live: bool, row: int) -> None:
    shop: Any = Shop(seed, live=live)
    weights = ModalityWeights(look=0.5, meaning=0.2, behaviour=0.3)
    got = Similar(shop.bundle).to_item(row, By.BLEND, weights, shop)
    for other in range(len(shop)):
        parts = [
            (weight, value)
            for weight, name in ((0.5, "look"), (0.2, "meaning"), (0.3, "behaviour"))
            if (value := cosine(shop.whole(name)[row], shop.whole(name)[other])) is not None
        ]
        total = sum(weight for weight, _ in parts)
        expected = sum(weight * value for weight, value in parts) / total if parts else -np.inf
        assert got[other] == (pytest.approx(expected, abs=1e-5) if parts else -np.inf)


def test_a_live_item_has_no_behaviour_but_looks_like_something() -> None:
    shop: Any = Shop(1, live=True)
    similar = Similar(shop.bundle)
    assert np.isneginf(similar.to_item(N, By.BEHAVIOUR, None, shop)).all()
    assert similar.to_content(shop.known["look"][1], None, None, shop).shape == (N + M,)


@given(st.lists(st.sampled_from([0.1, 0.5, 0.9, float("-inf")]), min_size=1, max_size=30), st.integers(1, 40))
def test_the_best_are_those_of_a_full_sort_and_ties_go_by_row(values: list[float], count: int) -> None:
    likeness = np.array(values, np.float32)
    exclude = np.array([0], np.int32)
    passing = np.arange(len(values)) % 3 != 2
    got = best(likeness, count, exclude=exclude, passing=passing)
    open_ = [row for row in range(1, len(values)) if passing[row] and np.isfinite(likeness[row])]
    assert len(got.rows) == min(count, len(open_))
    expected = sorted((likeness[row] for row in open_), reverse=True)[: len(got.rows)]
    assert got.scores.tolist() == pytest.approx(expected)
    assert set(got.rows.tolist()) <= set(open_)


def test_nothing_is_alike_where_there_is_nothing_to_compare() -> None:
    likeness = np.full(5, -np.inf, np.float32)
    assert len(best(likeness, 3, exclude=NO_ROWS, passing=None).rows) == 0
