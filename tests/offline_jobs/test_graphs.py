"""Graphs of a shop small enough to check by hand, and against plain counting."""

import dataclasses
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from offline_jobs import co_purchase as co_purchase_module
from offline_jobs import graphs
from offline_jobs.co_bought import Interactions, merge_repeats
from offline_jobs.co_purchase import co_purchase
from offline_jobs.graphs import ITEM_RELATIONS, GraphSettings, agreeing, load_hetero, run_graphs
from offline_jobs.knn import Knn, exact_nearest, nearest
from service.errors import DataError, StageError
from training.stage import open_stage, read_record

USERS, ITEMS = 30, 64
FILES = ("text_knn", "image_knn", "fused_knn", "agreement", "co_purchase")


class NoSettings(BaseModel):
    """For the folders that stand in for earlier stages."""


def unit(shape: tuple[int, int], present: npt.NDArray[np.bool_], seed: int) -> npt.NDArray[np.float32]:
    table = np.random.default_rng(seed).normal(size=shape)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    return np.where(present[:, None], table, 0).astype(np.float32)


def some_rows(seed: int, rows: int = 400) -> Interactions:
    rng = np.random.default_rng(seed)
    return Interactions(
        rng.integers(0, USERS, rows).astype(np.int32),
        rng.integers(0, ITEMS - 10, rows).astype(np.int32),
        rng.integers(0, 1_000, rows),
        rng.integers(0, 3, rows).astype(np.int8),
    )


def write_stages(work: Path, rows: Interactions, num_users: int = USERS) -> None:
    presence = {
        "text_embeddings": np.arange(ITEMS) % 5 > 0,
        "image_embeddings": np.arange(ITEMS) % 3 > 0,
    }
    presence["fusion"] = presence["text_embeddings"] | presence["image_embeddings"]
    for seed, (name, present) in enumerate(presence.items()):
        with open_stage(work, name, version=1, inputs={}, settings=NoSettings()) as stage:
            table = "fused" if name == "fusion" else "vectors"
            np.save(stage.out / f"{table}.npy", unit((ITEMS, 16), present, seed))
            np.save(stage.out / "present.npy", present)
    with open_stage(work, "split", version=1, inputs={}, settings=NoSettings()) as stage:
        columns = {name: getattr(rows, name) for name in ("user_row", "item_row", "timestamp", "split")}
        np.savez(stage.out / "interactions.npz", **columns)
    with open_stage(work, "ingest", version=1, inputs={}, settings=NoSettings()) as stage:
        pl.DataFrame({"user_id": [f"u{row:03}" for row in range(num_users)]}).write_parquet(stage.out / "users.parquet")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    write_stages(folder, some_rows(0))
    run_graphs(GraphSettings(k=6), folder)
    return folder


def naive_co_purchase(rows: Interactions, k: int) -> list[list[tuple[int, float]]]:
    """Counted shopper by shopper, in the words of the definition."""
    baskets: dict[int, set[int]] = {}
    for user, item, split in zip(rows.user_row, rows.item_row, rows.split, strict=True):
        if split == 0:
            baskets.setdefault(int(user), set()).add(int(item))
    alone = Counter(item for basket in baskets.values() for item in basket)
    together = Counter(pair for basket in baskets.values() for pair in permutations(basket, 2))
    table: list[list[tuple[int, float]]] = [[] for _ in range(ITEMS)]
    for (i, j), n in together.items():
        table[i].append((j, float(np.float32(n / np.sqrt(alone[i] * alone[j])))))
    return [sorted(row, key=lambda edge: (-edge[1], edge[0]))[:k] for row in table]


@pytest.mark.parametrize("products", [7, 8_000_000])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(0, 500))
def test_co_purchase_equals_plain_counting_in_blocks_of_any_size(products: int, seed: int, rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(co_purchase_module, "BLOCK_PRODUCTS", products)
        bought = merge_repeats(some_rows(seed, rows))
        got = co_purchase(bought, ITEMS, k=5, max_items_per_user=1_000)
    for row, expected in enumerate(naive_co_purchase(bought, 5)):
        padding = 5 - len(expected)
        assert got.neighbors[row].tolist() == [j for j, _ in expected] + [-1] * padding
        np.testing.assert_allclose(got.weights[row], [w for _, w in expected] + [0.0] * padding, rtol=1e-6)


def test_held_out_purchases_change_no_item_edge(tmp_path: Path, work: Path) -> None:
    rows = some_rows(0)
    later = rows.split > 0
    poisoned = dataclasses.replace(rows, item_row=np.where(later, 3, rows.item_row).astype(np.int32))
    write_stages(tmp_path, poisoned)
    run_graphs(GraphSettings(k=6), tmp_path)
    clean, other = read_record(work / "graphs"), read_record(tmp_path / "graphs")
    assert clean is not None
    assert other is not None
    for name in FILES:
        assert clean.outputs[f"{name}.npz"].sha256 == other.outputs[f"{name}.npz"].sha256, name
    assert clean.outputs["user_item.npz"].sha256 != other.outputs["user_item.npz"].sha256


def test_very_active_shoppers_count_with_their_latest_items() -> None:
    rows = Interactions(
        np.zeros(4, np.int32), np.array([4, 3, 2, 1], np.int32), np.array([1, 2, 3, 4]), np.zeros(4, np.int8)
    )
    got = co_purchase(rows, 5, k=3, max_items_per_user=2)
    assert got.neighbors.tolist() == [[-1] * 3, [2, -1, -1], [1, -1, -1], [-1] * 3, [-1] * 3]


def test_user_item_edges_are_distinct_with_lowest_split_and_its_last_time(work: Path) -> None:
    rows = some_rows(0)
    with np.load(work / "graphs" / "user_item.npz", allow_pickle=False) as file:
        edges = {
            (int(u), int(i)): (int(s), int(t))
            for u, i, s, t in zip(file["user_row"], file["item_row"], file["split"], file["timestamp"], strict=True)
        }
        assert len(edges) == len(file["user_row"])
    expected: dict[tuple[int, int], tuple[int, int]] = {}
    for u, i, t, s in zip(rows.user_row, rows.item_row, rows.timestamp, rows.split, strict=True):
        split, last = expected.get((int(u), int(i)), (int(s), int(t)))
        if s <= split:
            expected[int(u), int(i)] = (int(s), max(int(t), last) if s == split else int(t))
    assert edges == expected


def test_agreement_holds_the_edges_of_both_graphs(work: Path) -> None:
    tables = {}
    for name in FILES:
        with np.load(work / "graphs" / f"{name}.npz", allow_pickle=False) as file:
            assert set(file.files) == {"neighbors", "weights"}
            assert (file["neighbors"].dtype, file["weights"].dtype) == (np.int32, np.float32)
            assert file["neighbors"].shape == file["weights"].shape == (ITEMS, 6)
            assert ((file["neighbors"] >= 0) | (file["weights"] == 0)).all()
            tables[name] = {
                (row, int(j)): float(w)
                for row in range(ITEMS)
                for j, w in zip(file["neighbors"][row], file["weights"][row], strict=True)
                if j >= 0
            }
    both = tables["text_knn"].keys() & tables["image_knn"].keys()
    assert both
    assert tables["agreement"].keys() == both
    for edge in both:
        mean = (tables["text_knn"][edge] + tables["image_knn"][edge]) / 2
        assert tables["agreement"][edge] == pytest.approx(mean, abs=1e-6)


def test_agreement_is_sorted_and_padded_at_the_end() -> None:
    text = Knn(np.array([[3, 1, 2]], np.int32), np.array([[0.9, 0.5, 0.4]], np.float32), True, 1.0)
    image = Knn(np.array([[2, 1, -1]], np.int32), np.array([[0.8, 0.1, 0]], np.float32), False, 0.9)
    got = agreeing(text, image)
    assert got.neighbors.tolist() == [[2, 1, -1]]
    np.testing.assert_allclose(got.weights, [[0.6, 0.3, 0.0]], atol=1e-6)
    assert (got.is_exact, got.recall) == (False, 0.9)


def test_hetero_validates_and_keeps_edge_types_apart(work: Path) -> None:
    data = load_hetero(work / "graphs" / "hetero.npz")
    assert data.validate()
    assert set(data.edge_types) == {
        ("user", "bought", "item"),
        ("item", "bought_by", "user"),
        *(("item", name, "item") for name in ITEM_RELATIONS),
    }
    assert (data["user"].num_nodes, data["item"].num_nodes) == (USERS, ITEMS)
    np.testing.assert_array_equal(data["item"].x.numpy(), np.load(work / "fusion" / "fused.npy"))
    for name in ITEM_RELATIONS:
        store = data["item", name, "item"]
        with np.load(work / "graphs" / f"{name}.npz") as file:
            neighbors, weights = file["neighbors"], file["weights"]
        edges = {
            (int(source), int(target)): float(w)
            for source, target, w in zip(*store.edge_index.numpy(), store.edge_weight.numpy(), strict=True)
        }
        assert edges == {
            (int(j), i): float(w) for i in range(ITEMS) for j, w in zip(neighbors[i], weights[i], strict=True) if j >= 0
        }


def test_hetero_shows_only_the_splits_asked_for(work: Path) -> None:
    with np.load(work / "graphs" / "user_item.npz") as file:
        counts = np.bincount(file["split"], minlength=3)
        train = np.stack([file["user_row"], file["item_row"]])[:, file["split"] == 0]
    path = work / "graphs" / "hetero.npz"
    bought = load_hetero(path)["user", "bought", "item"].edge_index
    np.testing.assert_array_equal(bought.numpy(), train)
    for splits in ((0, 1), (0, 1, 2)):
        data = load_hetero(path, splits)
        assert data["user", "bought", "item"].num_edges == counts[list(splits)].sum()
        assert data["item", "bought_by", "user"].num_edges == counts[list(splits)].sum()


def test_counts_say_what_is_there(work: Path) -> None:
    record = read_record(work / "graphs")
    assert record is not None
    counts = record.counts
    for name in FILES:
        with np.load(work / "graphs" / f"{name}.npz") as file:
            assert counts[f"edges_{name}"] == (file["neighbors"] >= 0).sum()
    assert counts["recall_text_knn"] == counts["recall_image_knn"] == counts["recall_fused_knn"] == 1.0
    with np.load(work / "graphs" / "user_item.npz") as file:
        bought = set(file["item_row"][file["split"] == 0].tolist())
    unseen = [row for row in range(ITEMS) if row % 15 == 0 and row not in bought]
    assert counts["isolated_items"] == len(unseen) > 0


def test_approximate_graphs_report_a_measured_recall(tmp_path: Path) -> None:
    write_stages(tmp_path, some_rows(0))
    run_graphs(GraphSettings(k=6, exact_up_to=10), tmp_path)
    record = read_record(tmp_path / "graphs")
    assert record is not None
    assert 0.95 <= record.counts["recall_fused_knn"] <= 1
    assert record.counts["probes_fused_knn"] >= 1
    with np.load(tmp_path / "graphs" / "fused_knn.npz") as file:
        exact = exact_nearest(
            np.load(tmp_path / "fusion" / "fused.npy"), np.load(tmp_path / "fusion" / "present.npy"), 6
        )
        assert (file["neighbors"] == exact.neighbors).mean() > 0.9


class KilledError(Exception):
    """Stands for a kill: nothing after it runs."""


def test_a_killed_run_keeps_the_relations_that_it_finished(tmp_path: Path, work: Path) -> None:
    write_stages(tmp_path, some_rows(0))
    made: list[str] = []

    def killed_at_the_third(*args: Any, title: str, **options: Any) -> Knn:
        if title == "fused_knn" and "fused_knn" not in made:
            made.append(title)
            raise KilledError
        made.append(title)
        return nearest(*args, title=title, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "nearest", killed_at_the_third)
        with pytest.raises(KilledError):
            run_graphs(GraphSettings(k=6), tmp_path)
        assert not (tmp_path / "graphs").exists()
        run_graphs(GraphSettings(k=6), tmp_path)
    assert made == ["text_knn", "image_knn", "fused_knn", "fused_knn"]
    whole, resumed = read_record(work / "graphs"), read_record(tmp_path / "graphs")
    assert whole is not None
    assert resumed is not None
    assert resumed.outputs == whole.outputs
    assert resumed.counts == whole.counts


def test_items_without_images_are_not_alike(tmp_path: Path) -> None:
    # All absent rows are equal (zero) vectors: the easiest false clique there is.
    write_stages(tmp_path, some_rows(0))
    for exact_up_to in (1_000, 5):
        run_graphs(GraphSettings(k=ITEMS, exact_up_to=exact_up_to), tmp_path)
        has_image = np.load(tmp_path / "image_embeddings" / "present.npy")
        with np.load(tmp_path / "graphs" / "image_knn.npz") as file:
            assert (file["neighbors"][~has_image] == -1).all()
            assert has_image[file["neighbors"][file["neighbors"] >= 0]].all()
            assert ((file["neighbors"] >= 0).sum(axis=1)[has_image] == has_image.sum() - 1).all()


def test_agreement_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    present = np.ones(50, dtype=np.bool_)
    text, image = (exact_nearest(unit((50, 8), present, seed), present, 20) for seed in (0, 1))
    whole = agreeing(text, image)
    monkeypatch.setattr(graphs, "AGREEING_ROWS", 7)
    parts = agreeing(text, image)
    np.testing.assert_array_equal(parts.neighbors, whole.neighbors)
    np.testing.assert_array_equal(parts.weights, whole.weights)
    assert whole.num_edges() > 0


def test_a_missing_stage_and_foreign_users_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="'ingest' has not run"):
        run_graphs(GraphSettings(), tmp_path)
    write_stages(tmp_path, some_rows(0), num_users=5)
    with pytest.raises(DataError, match="beyond the 5 users"):
        run_graphs(GraphSettings(), tmp_path)
    assert not (tmp_path / "graphs").exists()
