"""Fusion on a planted world: clusters that neither modality shows alone until it learns what is bought together."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from safetensors.torch import load_file
from threadpoolctl import threadpool_limits

from offline_jobs.co_bought import (
    Interactions,
    held_out_pairs,
    merge_repeats,
    read_interactions,
    recall_of_co_bought,
    training_pairs,
)
from offline_jobs.fusion import FusionSettings, embed, fit, run_fusion
from offline_jobs.fusion_export import INPUTS, OUTPUTS
from offline_jobs.fusion_model import Fusion, softmax_over_pairs
from offline_jobs.item_vectors import ItemVectors
from offline_jobs.knn import exact_nearest
from service.errors import DataError
from training.stage import open_stage, read_record

CLUSTERS, ITEMS, USERS, COLD = 8, 400, 480, 80
QUICK = FusionSettings(hidden=32, epochs=4, batch_pairs=256, learning_rate=3e-3, align_items=64)


class NoSettings(BaseModel):
    """For the folders that stand in for earlier stages."""


def vectors_of(cluster: npt.NDArray[np.int64], dim: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A cluster is three spots far apart and much noise: raw cosine sees a spot, not the cluster."""
    spots = rng.normal(size=(CLUSTERS, 3, dim))
    made = spots[cluster, rng.integers(0, 3, len(cluster))] + 0.7 * rng.normal(size=(len(cluster), dim))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class World:
    work: Path
    cluster: npt.NDArray[np.int64]
    vectors: ItemVectors
    rows: Interactions


def write_stages(work: Path, vectors: ItemVectors, rows: Interactions) -> None:
    for name, table, present in (
        ("text_embeddings", vectors.text, vectors.text_present),
        ("image_embeddings", vectors.image, vectors.image_present),
    ):
        with open_stage(work, name, version=1, inputs={}, settings=NoSettings()) as stage:
            np.save(stage.out / "vectors.npy", table)
            np.save(stage.out / "present.npy", present)
    with open_stage(work, "split", version=1, inputs={}, settings=NoSettings()) as stage:
        np.savez(stage.out / "interactions.npz", **dataclasses.asdict(rows))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small gain nothing from threads, and threads wait for each other where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    rng = np.random.default_rng(7)
    cluster = np.arange(ITEMS) % CLUSTERS
    text, image = vectors_of(cluster, 384, rng), vectors_of(cluster, 512, rng)
    kind = np.arange(ITEMS) // CLUSTERS % 10  # 20 % without image, 10 % without text
    text_present, image_present = kind != 0, (kind != 1) & (kind != 2)
    text_present[0] = image_present[0] = False
    text[~text_present], image[~image_present] = 0, 0
    user = np.repeat(np.arange(USERS), 6)
    taste = user % CLUSTERS
    split = np.tile([0, 0, 0, 0, 1, 2], USERS)
    warm = ITEMS - COLD  # the last 80 items are never bought in training
    item = taste + CLUSTERS * np.where(
        split == 0, rng.integers(0, warm // CLUSTERS, len(user)), rng.integers(0, ITEMS // CLUSTERS, len(user))
    )
    rows = Interactions(
        user.astype(np.int32), item.astype(np.int32), 1_000_000 + 3_600 * split.astype(np.int64), split.astype(np.int8)
    )
    vectors = ItemVectors(text, image, text_present, image_present)
    work = tmp_path_factory.mktemp("work")
    write_stages(work, vectors, rows)
    run_fusion(QUICK, work)
    return World(work, cluster, vectors, rows)


def purity(table: npt.NDArray[np.float32], present: npt.NDArray[np.bool_], cluster: npt.NDArray[np.int64]) -> float:
    """Share of the 30 nearest neighbours that are of the item's own cluster of 50."""
    near = exact_nearest(table, present, 30).neighbors[present]
    return float((cluster[near] == cluster[present][:, None]).mean())


def test_neighbours_find_the_cluster_with_either_modality_missing(world: World) -> None:
    fused, look, meaning = (np.load(world.work / "fusion" / f"{name}.npy") for name in OUTPUTS)
    v = world.vectors
    raw = max(purity(v.text, v.text_present, world.cluster), purity(v.image, v.image_present, world.cluster))
    assert purity(fused, v.present, world.cluster) > max(0.9, raw + 0.2)
    # An item with one modality lands in its cluster, among items that have both.
    for alone in (v.present & ~v.image_present, v.present & ~v.text_present):
        near = exact_nearest(fused, v.present, 10, queries=np.flatnonzero(alone)).neighbors[alone]
        assert (world.cluster[near] == world.cluster[alone][:, None]).mean() > 0.8
    # One space: a picture finds the texts of its cluster.
    both = np.flatnonzero(v.text_present & v.image_present)
    found = both[np.argsort(-(look[both] @ meaning[both].T), axis=1)[:, :10]]
    assert (world.cluster[found] == world.cluster[both][:, None]).mean() > 0.8


def test_files_keep_the_contract(world: World) -> None:
    out, v = world.work / "fusion", world.vectors
    fused, look, meaning = (np.load(out / f"{name}.npy") for name in OUTPUTS)
    present = np.load(out / "present.npy")
    assert present.dtype == np.bool_
    np.testing.assert_array_equal(present, v.present)
    for table, there in ((fused, present), (look, v.image_present), (meaning, v.text_present)):
        assert table.dtype == np.float32
        assert table.shape == (ITEMS, 128)
        np.testing.assert_allclose(np.linalg.norm(table, axis=1), there.astype(np.float32), atol=1e-5)
    only_image, only_text = present & ~v.text_present, present & ~v.image_present
    np.testing.assert_array_equal(fused[only_image], look[only_image])
    np.testing.assert_array_equal(fused[only_text], meaning[only_text])
    model = Fusion(384, 512, QUICK.hidden, QUICK.dim)
    model.load_state_dict(load_file(out / "fusion.safetensors"))
    np.testing.assert_allclose(embed(model, v)[0], fused, atol=1e-6)


def test_metrics_tell_warm_from_cold_and_fused_finds_most(world: World) -> None:
    metrics = json.loads((world.work / "fusion" / "metrics.json").read_text())
    recalls = metrics["recall_at_20_of_co_bought"]
    for kind in ("warm", "cold", "cold_among_cold"):
        best_raw = max(recalls[name][kind] for name in ("text_raw", "image_raw", "concatenated_raw"))
        assert recalls["fused"][kind] > best_raw, kind
    assert metrics["onnx_largest_difference"] < 1e-4
    record = read_record(world.work / "fusion")
    assert record is not None
    assert record.counts["recall_warm_fused"] == recalls["fused"]["warm"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=9), st.integers(0, 2**32 - 1))
def test_onnx_equals_torch_whatever_is_missing(
    onnx_session: onnxruntime.InferenceSession, model: Fusion, bits: list[tuple[bool, bool]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    text, image = rng.normal(size=(len(bits), 384)), rng.normal(size=(len(bits), 512))
    there = np.array(bits, dtype=np.float32)
    arrays = [text.astype(np.float32), image.astype(np.float32), there[:, :1], there[:, 1:]]
    with torch.inference_mode():
        expected = model(*(torch.from_numpy(part) for part in arrays))
    got = onnx_session.run(list(OUTPUTS), dict(zip(INPUTS, arrays, strict=True)))
    for name, a, b in zip(OUTPUTS, expected, got, strict=True):
        assert b.shape == (len(bits), 128)
        np.testing.assert_allclose(b, a.numpy(), atol=1e-4, err_msg=name)


@pytest.fixture(scope="module")
def onnx_session(world: World) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(world.work / "fusion" / "fusion.onnx"), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def model(world: World) -> Fusion:
    loaded = Fusion(384, 512, QUICK.hidden, QUICK.dim)
    loaded.load_state_dict(load_file(world.work / "fusion" / "fusion.safetensors"))
    return loaded.eval()


def test_onnx_has_the_agreed_signature_and_no_trace_of_where_it_was_made(
    world: World, onnx_session: onnxruntime.InferenceSession
) -> None:
    assert [(i.name, i.shape, i.type) for i in onnx_session.get_inputs()] == [
        ("text", ["b", 384], "tensor(float)"),
        ("image", ["b", 512], "tensor(float)"),
        ("text_present", ["b", 1], "tensor(float)"),
        ("image_present", ["b", 1], "tensor(float)"),
    ]
    assert [(o.name, o.shape) for o in onnx_session.get_outputs()] == [(name, ["b", 128]) for name in OUTPUTS]
    path = world.work / "fusion" / "fusion.onnx"
    assert not any(tensor.external_data for tensor in onnx.load(path).graph.initializer)
    assert b".py" not in path.read_bytes()


def test_absent_inputs_are_ignored_not_read(model: Fusion) -> None:
    text, image = torch.randn(3, 384), torch.randn(3, 512)
    yes, no = torch.ones(3, 1), torch.zeros(3, 1)
    with torch.inference_mode():
        without = model(text, torch.zeros_like(image), yes, no)
        noisy = model(text, image, yes, no)
    for a, b in zip(without, noisy, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_held_out_rows_change_no_training_pair(world: World) -> None:
    rng = np.random.default_rng(3)
    later = world.rows.split > 0
    poisoned = dataclasses.replace(
        world.rows,
        item_row=np.where(later, rng.integers(0, ITEMS, len(world.rows)), world.rows.item_row).astype(np.int32),
        user_row=np.where(later, rng.integers(0, USERS, len(world.rows)), world.rows.user_row).astype(np.int32),
        timestamp=np.where(later, 1_000_000, world.rows.timestamp),
    )
    clean_pairs, poisoned_pairs = (
        training_pairs(merge_repeats(rows), window_days=7, reach=10, seed=0) for rows in (world.rows, poisoned)
    )
    assert len(clean_pairs) > USERS
    np.testing.assert_array_equal(clean_pairs, poisoned_pairs)
    # With early stopping out of the way the vectors are the same to the last bit.
    fixed = QUICK.model_copy(update={"epochs": 1})
    no_validation = [rows.where(rows.split != 1) for rows in (merge_repeats(world.rows), merge_repeats(poisoned))]
    first, second = (embed(fit(world.vectors, rows, fixed)[0], world.vectors)[0] for rows in no_validation)
    np.testing.assert_array_equal(first, second)
    other = fit(world.vectors, no_validation[0], fixed.model_copy(update={"seed": 1}))[0]
    assert not np.array_equal(first, embed(other, world.vectors)[0])


def test_same_inputs_and_seed_give_the_same_bytes(world: World, tmp_path: Path) -> None:
    write_stages(tmp_path, world.vectors, world.rows)
    run_fusion(QUICK, tmp_path)
    first, second = read_record(world.work / "fusion"), read_record(tmp_path / "fusion")
    assert first is not None
    assert second is not None
    differing = {
        name for name, file in first.outputs.items() if file != second.outputs[name] and name != "metrics.json"
    }
    assert not differing
    before = (tmp_path / "fusion" / "stage.json").stat().st_mtime_ns
    run_fusion(QUICK, tmp_path)
    assert (tmp_path / "fusion" / "stage.json").stat().st_mtime_ns == before


def test_a_shop_without_pairs_keeps_the_principal_axes(world: World) -> None:
    nothing = world.rows.where(np.zeros(len(world.rows), dtype=np.bool_))
    fitted, history = fit(world.vectors, nothing, QUICK)
    assert history == [{"loss": None, "validation_recall": None}]
    table = embed(fitted, world.vectors)[0]
    chance = 1 / CLUSTERS
    assert purity(table, world.vectors.present, world.cluster) > 3 * chance


def test_tables_of_different_items_are_refused_and_nothing_is_written(world: World, tmp_path: Path) -> None:
    v = world.vectors
    write_stages(tmp_path, dataclasses.replace(v, image=v.image[:-1], image_present=v.image_present[:-1]), world.rows)
    with pytest.raises(DataError, match=r"399, 400"):
        run_fusion(QUICK, tmp_path)
    assert not (tmp_path / "fusion").exists()


def test_an_item_row_beyond_the_items_is_refused(world: World) -> None:
    with pytest.raises(DataError, match="the items are 10"):
        read_interactions(world.work / "split", 10)


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


@pytest.mark.parametrize("popularity", [0.0, 1.0])
def test_the_softmax_learns_as_much_popularity_as_asked(popularity: float) -> None:
    """Items that go with the query by chance alone: all scores are equal (0) or the log of their share (1)."""
    rng = np.random.default_rng(0)
    share = np.repeat([4.0, 1.0], 50) / 250  # items 0..49 are four times as popular; item 100 is the query
    log_share = torch.from_numpy(np.log(np.append(share, 1.0))).float()
    score = torch.zeros(101, requires_grad=True)
    optimizer = torch.optim.Adam([score], lr=0.03)
    for _ in range(150):
        item = torch.from_numpy(rng.choice(100, 128, p=share))
        query = torch.full_like(item, 100)
        loss = softmax_over_pairs(
            torch.ones(128, 1),
            score[item][:, None],
            query,
            item,
            log_share,
            temperature=1.0,
            popularity=popularity,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    gap = float((score[:50].mean() - score[50:100].mean()).detach())
    assert gap == pytest.approx(popularity * np.log(4), abs=0.25)
