"""Neighbours against a reference that a person can check, ties and absent rows included."""

import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from offline_jobs import knn, knn_equal, knn_exact, knn_join
from offline_jobs.knn import Knn, exact_nearest, nearest, recall_against
from offline_jobs.knn_join import join, make_lists
from training.stage import peak_rss_kib


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


def unit(rows: int, width: int, seed: int) -> npt.NDArray[np.float32]:
    table = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return table / np.linalg.norm(table, axis=1, keepdims=True)


def clustered(rows: int, width: int, seed: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    centers = unit(max(rows // 40, 1), width, seed)
    table = centers[rng.integers(0, len(centers), rows)] + rng.normal(size=(rows, width)) * (0.6 / np.sqrt(width))
    return (table / np.linalg.norm(table, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(params=["by_rows", "torch", "all_pairs"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Each way to search exactly, in tiles so small that every test crosses their borders; gives `device`."""
    monkeypatch.setattr(knn, "ALL_PAIRS_FROM", 2 if request.param == "all_pairs" else 10**9)
    monkeypatch.setattr(knn_exact, "ROWS", 8)
    monkeypatch.setattr(knn_exact, "COLUMNS", 12)
    monkeypatch.setattr(knn_exact, "PENDING", 100)
    monkeypatch.setattr(knn_exact, "ROWS_ELEMENTS", 500)
    monkeypatch.setattr(knn_equal, "CHUNK", 7)
    monkeypatch.setattr(knn_equal, "SPREAD", 50)
    return "cpu" if request.param == "torch" else None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), items=st.integers(1, 60), k=st.integers(1, 5))
def test_exact_equals_the_naive_reference_with_many_ties(
    way: str | None, data: st.DataObject, items: int, k: int
) -> None:
    # (±1/2)^4 has norm 1 and exact dot products: 60 items in 16 places, where most cosines are equal.
    signs = data.draw(arrays(np.int8, (items, 4), elements=st.sampled_from([-1, 1])))
    present = data.draw(arrays(np.bool_, items))
    vectors = np.where(present[:, None], signs / 2, 0).astype(np.float32)
    assert_equals_naive(nearest(vectors, present, k, device=way), vectors, present, k)


@pytest.mark.parametrize("k", [1, 7, 200])
def test_exact_equals_the_naive_reference_on_real_numbers_and_copies(way: str | None, k: int) -> None:
    rng = np.random.default_rng(0)
    vectors = unit(150, 16, 0)[rng.integers(0, 150, 150)]  # some are there several times
    present = rng.random(150) > 0.2
    vectors[~present] = 0
    got = nearest(vectors, present, k, device=way)
    assert got.is_exact
    assert got.recall == 1.0
    assert_equals_naive(got, vectors, present, k)


def test_equal_cosines_of_different_vectors_go_to_the_lower_row(way: str | None) -> None:
    # The same products in another order: float64 sums of them differ in the last bit, the cosines do not.
    rng = np.random.default_rng(3)
    values = rng.normal(size=24)
    query = np.full(24, 24**-0.5)
    shuffled = np.stack([rng.permutation(values) for _ in range(30)])
    vectors = np.concatenate([shuffled / np.linalg.norm(values), query[None]]).astype(np.float32)
    got = nearest(vectors, np.ones(31, dtype=np.bool_), 8, device=way)
    assert got.neighbors[30].tolist() == list(range(8))


def test_hundreds_of_equal_items_link_to_the_lowest_rows() -> None:
    vectors = np.tile(np.eye(4, dtype=np.float32)[:1], (300, 1))
    got = exact_nearest(vectors, np.ones(300, dtype=np.bool_), 3)
    assert got.neighbors[0].tolist() == [1, 2, 3]
    assert got.neighbors[1].tolist() == [0, 2, 3]
    assert (got.neighbors[3:] == [0, 1, 2]).all()
    assert (got.weights == 1).all()


def test_equal_hashes_of_different_vectors_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit(40, 8, 1)[np.arange(40) % 25]
    monkeypatch.setattr(knn_equal, "_hashes", lambda _vectors, rows, _seed: (rows % 3).astype(np.uint64))
    assert_equals_naive(exact_nearest(vectors, np.ones(40, dtype=np.bool_), 4), vectors, np.ones(40, dtype=np.bool_), 4)


@pytest.mark.parametrize("exact_up_to", [0, 10**6])
def test_ten_thousand_equal_and_many_nearly_equal_items_stay_cheap(exact_up_to: int) -> None:
    rng = np.random.default_rng(4)
    vectors = clustered(24_000, 32, 4)
    vectors[rng.choice(24_000, 10_000, replace=False)] = vectors[7]
    vectors[rng.choice(24_000, 2_000, replace=False)] = vectors[8]
    nearly = np.flatnonzero((vectors == vectors[8]).all(axis=1))
    vectors[nearly] += rng.normal(size=(len(nearly), 32)).astype(np.float32) * 1e-7
    before, start = peak_rss_kib(), time.monotonic()
    got = nearest(vectors, np.ones(24_000, dtype=np.bool_), 20, exact_up_to=exact_up_to)
    assert time.monotonic() - start < 30
    assert peak_rss_kib() - before < 1_500_000
    assert got.recall >= 0.95
    some = np.sort(rng.choice(24_000, 200, replace=False))
    table = vectors.astype(np.float64)
    scores = table[some] @ table.T
    scores[np.arange(200), some] = -np.inf
    best = -np.sort(-scores, axis=1)[:, :20]
    # One cosine is as good as an equal one, so recall by cosine is what a shopper would see.
    assert (got.weights[some] >= best - 1e-6).mean() >= (1.0 if got.is_exact else 0.9)


@pytest.mark.parametrize("exact_up_to", [0, 10_000])
def test_absent_rows_have_no_edge_and_are_nobodys_neighbour(exact_up_to: int) -> None:
    vectors = unit(200, 8, 1)
    present = np.arange(200) % 3 > 0
    # The absent rows keep tempting vectors: presence decides, not the numbers.
    got = nearest(vectors, present, 5, exact_up_to=exact_up_to)
    assert (got.neighbors[~present] == -1).all()
    assert (got.weights[~present] == 0).all()
    linked = got.neighbors[got.neighbors >= 0]
    assert present[linked].all()
    assert (got.neighbors != np.arange(200)[:, None]).all()


def test_approximate_knows_it_and_measures_its_recall() -> None:
    vectors = clustered(12_000, 24, 2)
    vectors[500:900] = vectors[100:500]
    present = np.ones(12_000, dtype=np.bool_)
    exact = exact_nearest(vectors, present, 10)
    good = nearest(vectors, present, 10, exact_up_to=100, recall_sample=20_000)
    assert not good.is_exact
    # The sample is all distinct vectors; each counts with all items that have it.
    assert good.recall == recall_against(exact.neighbors, good.neighbors)
    assert 0.97 < good.recall <= 1.0
    poor = nearest(vectors, present, 10, exact_up_to=100, recall=0.6, min_recall=0.0)
    assert poor.probes < good.probes
    assert 0.5 < poor.recall < good.recall
    # Where the approximate search found all, weights and order are the exact ones.
    same = (exact.neighbors == good.neighbors).all(axis=1)
    assert same.any()
    np.testing.assert_array_equal(exact.weights[same], good.weights[same])


def test_all_lists_together_are_exact() -> None:
    vectors = clustered(3_000, 16, 5)
    exact = exact_nearest(vectors, np.ones(3_000, dtype=np.bool_), 6)
    lists = make_lists(vectors)
    assert len(lists.start) > 10
    assert (np.sort(lists.probes, axis=1) == np.arange(lists.probes.shape[1])).all()
    found, scores = join(vectors, lists, lists.probes.shape[1], 6)
    np.testing.assert_array_equal(found, exact.neighbors)
    np.testing.assert_array_equal(scores.astype(np.float32), exact.weights)
    # What the lists say that fewer of them will find is what is found.
    foretold = lists.recall(np.arange(3_000), exact.neighbors)
    for probes in (1, 2, 5):
        got, _ = join(vectors, lists, probes, 6)
        assert recall_against(exact.neighbors, got) == pytest.approx(foretold[probes - 1])


def test_a_crowded_list_is_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clustered(2_000, 16, 6)
    lists = make_lists(vectors)
    whole, _ = join(vectors, lists, 3, 5)
    monkeypatch.setattr(knn_join, "ELEMENTS", 1_000)
    np.testing.assert_array_equal(join(vectors, lists, 3, 5)[0], whole)


def test_too_little_recall_looks_further_and_at_last_at_everything(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    vectors = clustered(12_000, 24, 2)
    present = np.ones(12_000, dtype=np.bool_)
    with caplog.at_level(logging.WARNING):
        further = nearest(vectors, present, 10, exact_up_to=0, recall=0.5, min_recall=0.9)
    assert not further.is_exact
    assert further.recall >= 0.9
    assert "looking further" in caplog.text
    monkeypatch.setattr(knn_join, "MOST_PROBES", 2)
    with caplog.at_level(logging.WARNING):
        everything = nearest(vectors, present, 10, exact_up_to=0, min_recall=0.99)
    assert "searching exactly" in caplog.text
    assert everything.is_exact
    np.testing.assert_array_equal(everything.neighbors, exact_nearest(vectors, present, 10).neighbors)


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from offline_jobs import knn, knn_exact

knn.ALL_PAIRS_FROM, knn_exact.ROWS, knn_exact.SAVE_SECONDS = 2, 64, 0.0
block = knn_exact._Sweep.block
def killed_at_the_sixth(sweep, start):
    if start == 5 * 64:
        os.kill(os.getpid(), signal.SIGKILL)
    block(sweep, start)
knn_exact._Sweep.block = killed_at_the_sixth
vectors = np.load(sys.argv[1])
knn.nearest(vectors, np.ones(len(vectors), dtype=bool), 5, scratch=Path(sys.argv[2]))
"""


def test_a_killed_exact_search_goes_on_from_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, present = clustered(700, 16, 7), np.ones(700, dtype=np.bool_)
    expected = exact_nearest(vectors, present, 5)
    np.save(tmp_path / "vectors.npy", vectors)
    child = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "vectors.npy"), str(tmp_path)])
    assert child.returncode == -signal.SIGKILL
    monkeypatch.setattr(knn, "ALL_PAIRS_FROM", 2)
    monkeypatch.setattr(knn_exact, "ROWS", 64)
    block, rest = knn_exact._Sweep.block, []

    def noted(sweep: knn_exact._Sweep, start: int) -> None:
        rest.append(start)
        block(sweep, start)

    monkeypatch.setattr(knn_exact._Sweep, "block", noted)
    monkeypatch.setattr(knn, "join", None)  # the bounds are part of the state
    got = nearest(vectors, present, 5, scratch=tmp_path)
    assert rest == list(range(5 * 64, 700, 64))
    np.testing.assert_array_equal(got.neighbors, expected.neighbors)
    np.testing.assert_array_equal(got.weights, expected.weights)


@pytest.mark.parametrize("exact_up_to", [0, 10])
def test_no_or_one_item_has_no_neighbours(exact_up_to: int) -> None:
    none = nearest(np.zeros((3, 4), np.float32), np.zeros(3, dtype=np.bool_), 2, exact_up_to=exact_up_to)
    one = nearest(np.eye(3, 4, dtype=np.float32), np.array([True, False, False]), 2, exact_up_to=exact_up_to)
    assert none.num_edges() == one.num_edges() == 0


def test_recall_counts_only_exact_neighbours_that_exist() -> None:
    exact = np.array([[1, 2, -1], [0, -1, -1]], np.int32)
    assert recall_against(exact, np.array([[2, 9, -1], [0, 5, -1]], np.int32)) == pytest.approx(2 / 3)
