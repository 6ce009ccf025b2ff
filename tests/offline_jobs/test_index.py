"""The index finds what an exact search finds, for the shoppers there are, or says that it is exact itself."""

import json
import shutil

import faiss
import numpy as np
import polars as pl
import pytest
from pydantic import BaseModel

from offline_jobs.index import IndexSettings, build_index, exact_scores, recall_of, run_index
from service.bundle.manifest import FaissIndex
from service.errors import StageError
from training.stage import open_stage, read_record

DIM = 16
DAY = 86_400


class NoSettings(BaseModel):
    pass


@pytest.fixture
def random():
    return np.random.default_rng(5)


@pytest.fixture
def vectors(random):
    """Items in clusters with very unequal popularity in the last column, and shoppers near one cluster each."""
    centers = random.normal(size=(30, DIM))
    items = centers[random.integers(0, 30, 3000)] + random.normal(size=(3000, DIM)) * 0.2
    items[:, -1] = random.zipf(1.8, 3000).clip(max=400) ** 0.5
    queries = centers[random.integers(0, 30, 200)] + random.normal(size=(200, DIM)) * 0.2
    queries[:, -1] = 1
    return items.astype(np.float32), queries.astype(np.float32)


@pytest.fixture
def work(tmp_path, vectors, random):
    """The stages that the index needs, with every item bought by somebody."""
    items, _ = vectors
    users = 150
    with open_stage(tmp_path, "ingest", version=1, inputs={}, settings=NoSettings()) as stage:
        pl.DataFrame({"user_id": [f"u{n:03d}" for n in range(users)]}).write_parquet(stage.out / "users.parquet")
        pl.DataFrame({"item_id": [f"i{n:04d}" for n in range(len(items))]}).write_parquet(stage.out / "items.parquet")
    with open_stage(tmp_path, "split", version=1, inputs={}, settings=NoSettings()) as stage:
        n = 2000
        np.savez(
            stage.out / "interactions.npz",
            user_row=random.integers(0, users - 1, n).astype(np.int32),  # the last user has no past
            item_row=random.integers(0, len(items), n).astype(np.int32),
            timestamp=np.sort(random.integers(0, 30 * DAY, n)).astype(np.int64),
            split=np.zeros(n, np.int8),
        )
    with open_stage(tmp_path, "refit", version=1, inputs={}, settings=NoSettings()) as stage:
        np.save(stage.out / "item_vectors.npy", items)
        events = items.copy()
        events[:, -1] = 0
        np.save(stage.out / "history_vectors.npy", events)
        described = {
            "decay_per_day": 0.1,
            "as_of": 30 * DAY,
            "history_length": 50,
            "num_candidates": 200,
            "splits": [0, 1, 2],
        }
        (stage.out / "refit.json").write_text(json.dumps(described))
    return tmp_path


def overlap(items, queries, index, k):
    """Recall by sets of rows, against NumPy."""
    exact = np.argsort(-(queries @ items.T), axis=1, kind="stable")[:, :k]
    _, found = index.search(queries, k)
    return np.mean([len(set(a) & set(b)) / k for a, b in zip(exact.tolist(), found.tolist(), strict=True)])


def test_recall_is_what_numpy_counts(vectors):
    items, queries = vectors
    index = faiss.index_factory(DIM, "HNSW4", faiss.METRIC_INNER_PRODUCT)
    index.add(items)
    for k in (1, 20, 200):
        expected = overlap(items, queries, index, k)
        assert recall_of(index, items, queries, exact_scores(items, queries, 200), k) == pytest.approx(
            expected, abs=2e-3
        )
    assert overlap(items, queries, index, 200) < 0.99


def test_an_item_that_ties_with_the_last_counts():
    items = np.ones((10, 4), np.float32)
    queries = np.ones((1, 4), np.float32)
    index = faiss.IndexFlatIP(4)
    index.add(items)
    assert recall_of(index, items, queries, exact_scores(items, queries, 3), 3) == 1.0


def test_the_smallest_depth_that_reaches_the_recall_is_taken(random):
    points = random.normal(size=(3200, 48)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    items, queries = points[:3000], points[3000:]
    depths = []
    for wanted in (0.5, 0.95, 0.99):
        settings = IndexSettings(min_recall=wanted, factory="HNSW8", ef_construction=40)
        index, described = build_index(items, queries, 100, settings)
        assert described.factory == "HNSW8"
        assert described.recall_at[100] == pytest.approx(overlap(items, queries, index, 100), abs=2e-3)
        assert described.recall_at[100] >= wanted
        depths.append(described.ef_search)
    assert depths == [100, 200, 400]


def test_what_no_depth_reaches_makes_the_index_exact(vectors, caplog):
    # Very unequal lengths: every item's links go to the few long ones, and most items cannot be walked to.
    items, queries = vectors
    index, described = build_index(items, queries, 200, IndexSettings(factory="HNSW16"))
    assert (described.factory, described.ef_search, described.recall_at) == ("Flat", None, {20: 1.0, 200: 1.0})
    assert overlap(items, queries, index, 200) == pytest.approx(1.0)
    assert "the index is exact (Flat) instead" in caplog.text


def test_the_stage_writes_an_index_that_says_what_it_is(work, vectors):
    run_index(IndexSettings(), work)
    described = FaissIndex.model_validate_json((work / "index" / "index.json").read_bytes())
    index = faiss.read_index(str(work / "index" / "index.faiss"))
    assert (index.d, index.ntotal, index.metric_type) == (DIM, 3000, faiss.METRIC_INNER_PRODUCT)
    assert described.queries == 149, "every shopper with a past, and nobody else"
    assert set(described.recall_at) == {20, 200}
    assert described.recall_at[200] >= 0.95
    assert read_record(work / "index").counts["recall_at_200"] == described.recall_at[200]


def test_the_same_vectors_give_the_same_bytes(work, tmp_path):
    run_index(IndexSettings(), work)
    first = (work / "index" / "index.faiss").read_bytes()
    shutil.rmtree(work / "index")
    run_index(IndexSettings(), work)
    assert (work / "index" / "index.faiss").read_bytes() == first


def test_fewer_items_than_candidates(vectors):
    items, queries = vectors
    _, described = build_index(items[:12], queries, 200, IndexSettings())
    assert described.recall_at == {12: 1.0}


def test_nobody_to_measure_with_is_an_error(work):
    with np.load(work / "split" / "interactions.npz") as arrays:
        nothing = {name: array[:0] for name, array in arrays.items()}
    np.savez(work / "split" / "interactions.npz", **nothing)
    with pytest.raises(StageError, match="no shopper has a past"):
        run_index(IndexSettings(), work)
    assert not (work / "index").exists()
