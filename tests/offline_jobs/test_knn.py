"""Neighbours against a reference that a person can check, ties and absent rows included."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from offline_jobs.knn import Knn, exact_nearest, nearest, recall_against


def naive(vectors: npt.NDArray[np.float32], present: npt.NDArray[np.bool_], k: int) -> list[list[tuple[int, float]]]:
    table = vectors.astype(np.float64)
    answer = []
    for i in range(len(table)):
        others = [j for j in range(len(table)) if present[i] and present[j] and i != j]
        scored = sorted((-float((table[i] * table[j]).sum()), j) for j in others)
        answer.append([(j, -score) for score, j in scored[:k]])
    return answer


def assert_equals_naive(got: Knn, vectors: npt.NDArray[np.float32], present: npt.NDArray[np.bool_], k: int) -> None:
    assert got.neighbors.dtype == np.int32
    assert got.weights.dtype == np.float32
    for row, expected in enumerate(naive(vectors, present, k)):
        padding = [-1] * (k - len(expected))
        assert got.neighbors[row].tolist() == [j for j, _ in expected] + padding
        np.testing.assert_allclose(got.weights[row], [w for _, w in expected] + [0.0] * len(padding), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), items=st.integers(1, 60), k=st.integers(1, 5))
def test_exact_equals_the_naive_reference_with_many_ties(data: st.DataObject, items: int, k: int) -> None:
    # (±1/2)^4 has norm 1 and exact dot products, so 60 items in 16 places tie beyond what faiss proposes.
    signs = data.draw(arrays(np.int8, (items, 4), elements=st.sampled_from([-1, 1])))
    present = data.draw(arrays(np.bool_, items))
    vectors = np.where(present[:, None], signs / 2, 0).astype(np.float32)
    assert_equals_naive(exact_nearest(vectors, present, k), vectors, present, k)


def test_exact_equals_the_naive_reference_on_real_numbers_across_blocks() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(150, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    present = rng.random(150) > 0.2
    vectors[~present] = 0
    got = exact_nearest(vectors, present, 7, block=32)
    assert got.is_exact
    assert got.recall == 1.0
    assert_equals_naive(got, vectors, present, 7)


def test_hundreds_of_equal_items_link_to_the_lowest_rows() -> None:
    vectors = np.tile(np.eye(4, dtype=np.float32)[:1], (300, 1))
    got = exact_nearest(vectors, np.ones(300, dtype=np.bool_), 3)
    assert got.neighbors[0].tolist() == [1, 2, 3]
    assert (got.neighbors[3:] == [0, 1, 2]).all()


@pytest.mark.parametrize("exact_up_to", [0, 10_000])
def test_absent_rows_have_no_edge_and_are_nobodys_neighbour(exact_up_to: int) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(200, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    present = np.arange(200) % 3 > 0
    # The absent rows keep tempting vectors: presence decides, not the numbers.
    got = nearest(vectors, present, 5, exact_up_to=exact_up_to)
    assert (got.neighbors[~present] == -1).all()
    assert (got.weights[~present] == 0).all()
    linked = got.neighbors[got.neighbors >= 0]
    assert present[linked].all()
    assert (got.neighbors != np.arange(200)[:, None]).all()


def test_approximate_knows_it_and_measures_its_recall() -> None:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(3_000, 24)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    present = np.ones(3_000, dtype=np.bool_)
    exact = nearest(vectors, present, 10)
    good = nearest(vectors, present, 10, exact_up_to=100, recall_sample=3_000)
    assert exact.is_exact
    assert not good.is_exact
    assert good.recall == recall_against(exact.neighbors, good.neighbors)
    assert 0.9 < good.recall <= 1.0
    poor = nearest(vectors, present, 10, exact_up_to=100, ef_search=1)
    assert poor.recall < good.recall
    # Where the approximate search found all, weights and order are the exact ones.
    same = (exact.neighbors == good.neighbors).all(axis=1)
    assert same.any()
    np.testing.assert_array_equal(exact.weights[same], good.weights[same])


@pytest.mark.parametrize("exact_up_to", [0, 10])
def test_no_or_one_item_has_no_neighbours(exact_up_to: int) -> None:
    none = nearest(np.zeros((3, 4), np.float32), np.zeros(3, dtype=np.bool_), 2, exact_up_to=exact_up_to)
    one = nearest(np.eye(3, 4, dtype=np.float32), np.array([True, False, False]), 2, exact_up_to=exact_up_to)
    assert none.num_edges() == one.num_edges() == 0


def test_recall_counts_only_exact_neighbours_that_exist() -> None:
    exact = np.array([[1, 2, -1], [0, -1, -1]], np.int32)
    assert recall_against(exact, np.array([[2, 9, -1], [0, 5, -1]], np.int32)) == pytest.approx(2 / 3)
