"""Pairs of items bought together, and how well vectors find them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_jobs.co_bought import (
    Interactions,
    Judged,
    held_out_pairs,
    merge_repeats,
    read_interactions,
    recall_of_co_bought,
    recalls,
    training_pairs,
)
from service.errors import DataError


def test_pairs_are_close_in_time_and_of_one_shopper() -> None:
    day = 86_400
    rows = Interactions(
        np.array([0, 0, 0, 1, 1], np.int32),
        np.array([5, 6, 7, 5, 8], np.int32),
        np.array([0, 2 * day, 30 * day, 0, day], np.int64),
        np.array([0, 0, 0, 0, 1], np.int8),
    )
    assert training_pairs(rows, window_days=7, reach=5, seed=0).tolist() == [[5, 6]]
    assert training_pairs(rows, window_days=60, reach=1, seed=0).tolist() == [[5, 6], [6, 7]]
    assert held_out_pairs(rows, 1, window_days=7, reach=5, seed=0).tolist() == [[5, 8]]


def test_a_repeat_in_a_held_out_split_leaves_the_training_row_as_it_was() -> None:
    rows = Interactions(
        np.zeros(3, np.int32), np.full(3, 4, np.int32), np.array([10, 20, 99]), np.array([0, 0, 1], np.int8)
    )
    merged = merge_repeats(rows)
    assert (merged.timestamp.tolist(), merged.split.tolist()) == ([20], [0])


def test_recall_counts_by_query_and_an_absent_query_misses() -> None:
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.8, 0.2]], np.float32)
    pairs = np.array([[0, 1], [0, 2], [2, 3]], np.int32)
    everyone = np.ones(4, dtype=np.bool_)
    assert recall_of_co_bought(vectors, everyone, pairs, k=1) == pytest.approx((0.5 + 1) / 2)
    without = np.array([True, True, False, True])
    assert recall_of_co_bought(vectors, without, pairs, k=1) == pytest.approx(0.5 / 2)
    assert np.isnan(recall_of_co_bought(vectors, everyone, pairs[:0], k=1))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_recall_equals_the_definition(seed: int, items: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(items, 3)).astype(np.float32)
    present, candidates = rng.random(items) < 0.8, rng.random(items) < 0.8
    pairs = np.unique(rng.integers(0, items, (6, 2)), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]].astype(np.int32)
    judged = Judged.of(pairs, candidates, max_queries=99, max_candidates=99)
    got = recalls(vectors[judged.rows], present[judged.rows], judged, k=2)
    expected = []
    for query in np.unique(pairs[:, 0]):
        order = [i for i in np.argsort(-(vectors @ vectors[query])) if i != query and present[i] and candidates[i]]
        targets = pairs[pairs[:, 0] == query, 1]
        expected.append(np.isin(targets, order[:2]).mean() if present[query] else 0.0)
    np.testing.assert_allclose(got, expected)


def test_a_sample_of_candidates_keeps_every_target() -> None:
    pairs = np.array([[0, 90], [1, 91], [2, 5]], np.int32)
    candidates = np.arange(100) != 91
    judged = Judged.of(pairs, candidates, max_queries=2, max_candidates=10)
    assert len(judged.queries) == 2
    assert judged.candidates.sum() == 10
    found = set(judged.rows[judged.candidates])
    assert found >= {int(t) for t in judged.rows[judged.targets] if t != 91}
    assert 91 not in found


def test_an_item_row_beyond_the_items_is_refused(tmp_path: Path) -> None:
    rows = np.array([0, 10], np.int32)
    np.savez(tmp_path / "interactions.npz", user_row=rows, item_row=rows, timestamp=rows, split=rows)
    with pytest.raises(DataError, match="the items are 10"):
        read_interactions(tmp_path, 10)
    assert read_interactions(tmp_path, 11).num_items == 11
