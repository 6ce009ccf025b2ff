"""Negatives: never what the shopper has, each as often as it says."""

import numpy as np
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from training.baselines.draws import NegativeDraw, unseen_items


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 8), m=st.integers(2, 12), seed=st.integers(0, 1000))
def test_no_drawn_item_is_one_that_the_shopper_has(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    has = rng.random((n, m)) < 0.5
    has[:, 0], has[:, 1] = True, False
    users = rng.integers(0, n, 50)
    # At least half of the items are open to everyone, so that 20 rounds do not all fail.
    has[:, m // 2 :] = False
    drawn = unseen_items(rng, sp.csr_matrix(has.astype(np.float32)), users)
    assert not has[users, drawn].any()


def test_every_unseen_item_is_equally_likely() -> None:
    train = sp.csr_matrix(np.array([[1, 0, 0, 1, 0]], np.float32))
    drawn = unseen_items(np.random.default_rng(0), train, np.zeros(30_000, np.int64))
    counts = np.bincount(drawn, minlength=5)
    assert counts[[0, 3]].tolist() == [0, 0]
    assert np.abs(counts[[1, 2, 4]] / 10_000 - 1).max() < 0.05


def test_who_has_everything_still_gets_an_item() -> None:
    drawn = unseen_items(np.random.default_rng(0), sp.csr_matrix(np.ones((1, 3), np.float32)), np.zeros(4, np.int64))
    assert ((drawn >= 0) & (drawn < 3)).all()


@settings(max_examples=25, deadline=None)
@given(m=st.integers(1, 10), count=st.integers(1, 15), power=st.sampled_from([0.0, 0.75]), seed=st.integers(0, 1000))
def test_the_pairs_left_out_are_all_where_the_positive_was_drawn(m: int, count: int, power: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    train = sp.csr_matrix((rng.random((5, m)) < 0.5).astype(np.float32))
    positives = rng.integers(0, m, 7)
    drawn, own = NegativeDraw(train, count, power)(rng, positives)
    pairs = sorted(zip(*(part.tolist() for part in own), strict=True))
    assert pairs == [(i, j) for i in range(7) for j in range(len(drawn)) if drawn[j] == positives[i]]


def test_items_come_as_often_as_expected() -> None:
    train = sp.csr_matrix(np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]], np.float32))
    draw = NegativeDraw(train, 40_000, 0.5)
    drawn, _ = draw(np.random.default_rng(0), np.zeros(1, np.int64))
    expected = draw.log_expected(np.arange(3)).exp().numpy()
    np.testing.assert_allclose(expected, [20_000, 10_000, 10_000], rtol=1e-4)
    np.testing.assert_allclose(np.bincount(drawn), expected, rtol=0.05)


def test_a_uniform_draw_of_as_many_as_there_are_is_all_items_once() -> None:
    draw = NegativeDraw(sp.csr_matrix(np.eye(6, dtype=np.float32)), 100, 0.0)
    drawn, _ = draw(np.random.default_rng(0), np.zeros(1, np.int64))
    assert sorted(drawn) == list(range(6))
    np.testing.assert_allclose(draw.log_expected(drawn).numpy(), 0, atol=1e-6)
