"""Slices part items and shoppers as they are defined, and a slice's metrics are those of its own items."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.slices import item_slices, sliced, user_slices
from training.ranking_metrics import hits, per_user, rank_all, to_find


def a_world(seed: int, users: int = 40, items: int = 30) -> tuple[sp.csr_matrix, sp.csr_matrix, np.ndarray]:
    rng = np.random.default_rng(seed)
    chance = 0.9 * np.linspace(1, 0, items) ** 2  # the last items are cold
    known = rng.random((users, items)) < chance
    held_out = (rng.random((users, items)) < 0.2) & ~known
    scores = rng.random((users, items)).astype(np.float32)
    return sp.csr_matrix(known.astype(np.float32)), sp.csr_matrix(held_out.astype(np.float32)), scores


def test_items_are_parted_by_their_degree() -> None:
    degree = [0, 7, 3, 3, 9, 1, 1, 2, 5, 4, 6, 0]  # ten warm items: two head, three mid, five tail
    known = sp.csr_matrix(np.array([[user < d for d in degree] for user in range(9)], np.float32))
    found = {name: np.flatnonzero(mask).tolist() for name, mask in item_slices(known).items()}
    assert found == {
        "items/head": [1, 4],
        "items/mid": [8, 9, 10],
        "items/tail": [2, 3, 5, 6, 7],
        "items/cold": [0, 11],
    }


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_every_item_and_every_warm_shopper_is_in_one_slice(seed: int) -> None:
    known, held_out, _ = a_world(seed)
    assert (np.sum(list(item_slices(known).values()), axis=0) == 1).all()
    _, users = to_find(known, held_out)
    assert (np.sum(list(user_slices(known, users).values()), axis=0) == 1).all()


def test_shoppers_are_parted_by_how_much_they_bought() -> None:
    counts = [1, 4, 5, 9, 10, 19, 20, 25]
    known = sp.csr_matrix(np.array([[i < c for i in range(25)] for c in counts], np.float32))
    found = {name: np.flatnonzero(mask).tolist() for name, mask in user_slices(known, np.arange(8)).items()}
    assert found == {"users/1-4": [0, 1], "users/5-9": [2, 3], "users/10-19": [4, 5], "users/20+": [6, 7]}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_a_slice_of_items_is_the_metric_with_only_those_relevant(seed: int) -> None:
    known, held_out, scores = a_world(seed)
    relevant, users = to_find(known, held_out)
    ranking = rank_all(lambda rows: scores[rows], users, known, k=20)
    whole = per_user(ranking, relevant, [10, 20])
    found = sliced(ranking, hits(ranking, relevant), relevant, known, whole, [10, 20])
    for name, mask in item_slices(known).items():
        inside = sp.csr_matrix(relevant.toarray() * mask)
        some = np.diff(inside.indptr)[users] > 0
        if not some.any():
            assert name not in found
            continue
        part = rank_all(lambda rows: scores[rows], users[some], known, k=20)
        expected = per_user(part, inside, [10, 20])
        for metric, values in found[name].items():
            np.testing.assert_allclose(values[some], expected[metric])
            assert np.isnan(values[~some]).all()


def test_buckets_of_shoppers_add_up_to_the_whole() -> None:
    known, held_out, scores = a_world(3)
    relevant, users = to_find(known, held_out)
    ranking = rank_all(lambda rows: scores[rows], users, known, k=20)
    whole = per_user(ranking, relevant, [20])
    found = sliced(ranking, hits(ranking, relevant), relevant, known, whole, [20])
    parts = [values["recall@20"] for name, values in found.items() if name.startswith("users/")]
    assert np.nansum(parts) == pytest.approx(whole["recall@20"].sum())
