"""Splits hold what they promise, and a planted leak is found."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import DataError
from service.neighborhood import Relation
from training.dataset import TEST, TRAIN, VALIDATION, Dataset, Interactions
from training.evaluation.protocols import (
    assert_edges_known,
    assert_no_leak,
    assert_past,
    cold_items,
    cold_start,
    inner_split,
)


def some(seed: int, users: int = 30, items: int = 40, rows: int = 300) -> Interactions:
    """Random interactions with repeats, time and labels."""
    rng = np.random.default_rng(seed)
    return Interactions(
        rng.integers(0, users, rows).astype(np.int32),
        rng.integers(0, items, rows).astype(np.int32),
        np.sort(rng.integers(0, 10**6, rows)),
        rng.choice(np.array([TRAIN, VALIDATION, TEST], np.int8), rows, p=[0.8, 0.1, 0.1]),
        users,
        items,
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_cold_items_have_no_interaction_but_in_their_own_split(seed: int) -> None:
    before = some(seed)
    after = cold_start(before, seed=seed)
    splits_of = [set(after.split[after.item_row == i].tolist()) for i in range(40)]
    sold = [s for s in splits_of if s]
    cold = {split: sum(s == {split} for s in sold) for split in (VALIDATION, TEST)}
    assert cold[VALIDATION] >= round(0.1 * len(sold))
    assert cold[TEST] >= round(0.1 * len(sold))
    changed = np.unique(after.item_row[after.split != before.split])
    assert len(changed) <= 2 * round(0.1 * len(sold))
    for item in changed:
        assert len(splits_of[item]) == 1
    np.testing.assert_array_equal(after.item_row, before.item_row)
    assert after.split.dtype == np.int8


def test_the_seed_alone_chooses_cold_items() -> None:
    one, same, other = (cold_start(some(0), seed=s).split for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_cold_start_says_when_there_is_too_little() -> None:
    with pytest.raises(DataError, match=r"share of 0\.5"):
        cold_start(some(0), share=0.5)
    with pytest.raises(DataError, match="nothing cold"):
        cold_start(some(0, items=3))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.05, 0.2, 0.5, 0.9]), latest=st.booleans())
def test_every_shopper_shows_something_and_hides_a_share(seed: int, share: float, latest: bool) -> None:
    train = some(seed)
    shown, hidden = inner_split(train, share=share, seed=seed, latest=latest)
    assert len(shown) + len(hidden) == len(train)
    assert not set(zip(shown.user_row, shown.item_row, strict=True)) & set(
        zip(hidden.user_row, hidden.item_row, strict=True)
    )
    distinct = np.diff(train.matrix().indptr)
    expected = np.minimum(np.maximum(np.floor(share * distinct), 1), distinct - 1)
    np.testing.assert_array_equal(np.diff(hidden.matrix().indptr)[distinct > 0], expected[distinct > 0])
    again, _ = inner_split(train, share=share, seed=seed, latest=latest)
    np.testing.assert_array_equal(again.item_row, shown.item_row)


def test_the_latest_items_are_hidden_where_asked() -> None:
    train = some(1)
    shown, hidden = inner_split(train, share=0.3, latest=True)
    for user in np.unique(hidden.user_row):
        newest = {
            item: train.timestamp[(train.user_row == user) & (train.item_row == item)].max()
            for item in np.unique(train.item_row[train.user_row == user])
        }
        seen, unseen = (set(part.item_row[part.user_row == user].tolist()) for part in (shown, hidden))
        assert max(newest[i] for i in seen) <= min(newest[i] for i in unseen)


def test_a_held_out_pair_that_was_fitted_on_is_named(dataset: Dataset) -> None:
    train, test = (dataset.interactions.within([split]).matrix() for split in (TRAIN, TEST))
    assert_no_leak(train, test)
    leaked = train.tolil()
    leaked[3, test[3].indices[0]] = 1
    with pytest.raises(DataError, match=rf"1 held-out .* user row 3, item row {test[3].indices[0]}"):
        assert_no_leak(leaked.tocsr(), test)


def test_the_future_is_noticed(dataset: Dataset) -> None:
    train, test = (dataset.interactions.within([split]) for split in (TRAIN, TEST))
    assert_past(train, test)
    assert_past(train, test.where(np.zeros(len(test), bool)))
    late = dataclasses.replace(train, timestamp=np.r_[train.timestamp[:-2], [test.timestamp.min()] * 2])
    with pytest.raises(DataError, match="2 interactions fitted on"):
        assert_past(late, test)


def test_an_edge_that_training_does_not_know_is_noticed() -> None:
    known = sp.csr_matrix(np.array([[1, 1, 0, 0], [0, 0, 1, 1]], np.float32))
    weights = np.array([[1, 0], [1, 1], [1, 0], [1, 0]], np.float32)
    right = Relation(np.array([[1, -1], [0, 1], [3, -1], [2, 0]], np.int32), weights)
    assert_edges_known(right, known)
    wrong = Relation(np.array([[1, -1], [0, -1], [3, -1], [0, -1]], np.int32), weights)
    with pytest.raises(DataError, match="item rows 3 and 0"):
        assert_edges_known(wrong, known)


def test_cold_items_are_those_nobody_has() -> None:
    assert cold_items(sp.csr_matrix(np.array([[0, 1, 0], [0, 1, 0]], np.float32))).tolist() == [True, False, True]
