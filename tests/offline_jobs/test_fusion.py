"""Fusion on a planted world: clusters that neither modality shows alone until it learns what is bought together."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from safetensors.torch import load_file
from threadpoolctl import threadpool_limits

from offline_jobs.co_bought import Interactions, merge_repeats, training_pairs
from offline_jobs.fusion import FusionSettings, run_fusion
from offline_jobs.fusion_export import OUTPUTS, input_names
from offline_jobs.fusion_fit import embed, fit, hidden_at_random, new_model
from offline_jobs.fusion_model import Fusion, softmax_over_pairs
from offline_jobs.item_vectors import ItemVectors
from offline_jobs.knn import exact_nearest
from offline_jobs.modalities import open_modalities
from service.bundle.manifest import OnnxModel
from service.bundle.native import check_models
from service.bundle.signatures import FUSION, signatures
from service.errors import DataError, InputError
from training.stage import open_stage, read_record

CLUSTERS, ITEMS, USERS, COLD = 8, 400, 480, 80
QUICK = FusionSettings(hidden=32, epochs=4, batch_pairs=256, learning_rate=3e-3, align_items=64)
EVERYTHING = QUICK.model_copy(
    update={"modalities": "text,image,lexical,category,brand,price,rating,reviews", "epochs": 2}
)
LIVE = ("text", "image", "text_present", "image_present")


class NoSettings(BaseModel):
    """For the folders that stand in for earlier stages."""


def vectors_of(cluster: npt.NDArray[np.int64], dim: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A cluster is three spots far apart and much noise: raw cosine sees a spot, not the cluster."""
    spots = rng.normal(size=(CLUSTERS, 3, dim))
    made = spots[cluster, rng.integers(0, 3, len(cluster))] + 0.7 * rng.normal(size=(len(cluster), dim))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


Arrays = dict[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class World:
    work: Path
    cluster: npt.NDArray[np.int64]
    arrays: Arrays
    rows: Interactions
    vectors: ItemVectors

    def there(self, name: str) -> npt.NDArray[np.bool_]:
        return self.vectors.tables[name].present


def write(work: Path, stage_name: str, **files: npt.NDArray[Any] | pl.DataFrame) -> None:
    with open_stage(work, stage_name, version=1, inputs={}, settings=NoSettings()) as stage:
        for name, content in files.items():
            if isinstance(content, pl.DataFrame):
                content.write_parquet(stage.out / f"{name}.parquet")
            else:
                np.save(stage.out / f"{name}.npy", content)


def write_split(work: Path, rows: Interactions) -> None:
    with open_stage(work, "split", version=1, inputs={}, settings=NoSettings()) as stage:
        np.savez(
            stage.out / "interactions.npz",
            user_row=rows.user_row,
            item_row=rows.item_row,
            timestamp=rows.timestamp,
            split=rows.split,
        )


def write_stages(work: Path, arrays: Arrays, rows: Interactions) -> None:
    write(work, "text_embeddings", vectors=arrays["text"], present=arrays["text_present"])
    write(work, "image_embeddings", vectors=arrays["image"], present=arrays["image_present"])
    write_split(work, rows)


def write_catalog(work: Path, cluster: npt.NDArray[np.int64], rows: Interactions, rng: np.random.Generator) -> None:
    """An ingest with everything that a format can have, and words for four items of five."""
    lexical = vectors_of(cluster, 24, rng)
    lexical[::5] = 0
    write(work, "lexical_embeddings", vectors=lexical)
    text = [f"{['red', 'blue', 'green', 'grey', 'pink', 'gold', 'teal', 'rust'][c]} thing" for c in cluster]
    stars = rng.integers(1, 6, len(rows)).astype(np.float32)
    reviewed = np.flatnonzero((np.arange(len(rows)) % 2 == 0) & (rows.item_row > 0))
    write(
        work,
        "ingest",
        items=pl.DataFrame(
            {
                "item_id": [f"i{row:03}" for row in range(ITEMS)],
                "brand": [f"brand {c}" if row % 3 else None for row, c in enumerate(cluster)],
                "category": [f"all > kind {c}" if row % 4 else None for row, c in enumerate(cluster)],
                "price": pl.Series([1.0 + c if row % 2 else None for row, c in enumerate(cluster)], dtype=pl.Float32),
            }
        ),
        users=pl.DataFrame({"user_id": [f"u{row:03}" for row in range(USERS)]}),
        interactions=pl.DataFrame({"rating": stars}),
        reviews=pl.DataFrame(
            {"interaction_row": reviewed, "text": [f"{text[rows.item_row[row]]} was fine {row}" for row in reviewed]}
        ),
    )


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
    arrays = {"text": text, "image": image, "text_present": text_present, "image_present": image_present}
    work = tmp_path_factory.mktemp("work")
    write_stages(work, arrays, rows)
    write_catalog(work, cluster, rows, rng)
    run_fusion(QUICK, work)
    vectors = open_modalities(("text", "image"), work, tmp_path_factory.mktemp("scratch"))[0]
    return World(work, cluster, arrays, rows, vectors)


def all_of(vectors: ItemVectors) -> npt.NDArray[np.int64]:
    return np.arange(len(vectors))


def purity(table: npt.NDArray[np.float32], present: npt.NDArray[np.bool_], cluster: npt.NDArray[np.int64]) -> float:
    """Share of the 30 nearest neighbours that are of the item's own cluster of 50."""
    near = exact_nearest(table, present, 30).neighbors[present]
    return float((cluster[near] == cluster[present][:, None]).mean())


def test_neighbours_find_the_cluster_with_either_modality_missing(world: World) -> None:
    fused, look, meaning = (np.load(world.work / "fusion" / f"{name}.npy") for name in OUTPUTS)
    has_text, has_image, present = world.there("text"), world.there("image"), world.vectors.present
    raw = max(purity(world.arrays[name], world.there(name), world.cluster) for name in ("text", "image"))
    assert purity(fused, present, world.cluster) > max(0.9, raw + 0.2)
    # An item with one modality lands in its cluster, among items that have both.
    for alone in (present & ~has_image, present & ~has_text):
        near = exact_nearest(fused, present, 10).neighbors[alone]
        assert (world.cluster[near] == world.cluster[alone][:, None]).mean() > 0.8
    # One space: a picture finds the texts of its cluster.
    both = np.flatnonzero(has_text & has_image)
    found = both[np.argsort(-(look[both] @ meaning[both].T), axis=1)[:, :10]]
    assert (world.cluster[found] == world.cluster[both][:, None]).mean() > 0.8


def test_files_keep_the_contract(world: World) -> None:
    out, has_text, has_image = world.work / "fusion", world.there("text"), world.there("image")
    fused, look, meaning = (np.load(out / f"{name}.npy") for name in OUTPUTS)
    present = np.load(out / "present.npy")
    assert present.dtype == np.bool_
    np.testing.assert_array_equal(present, has_text | has_image)
    for table, there in ((fused, present), (look, has_image), (meaning, has_text)):
        assert table.dtype == np.float32
        assert table.shape == (ITEMS, 128)
        np.testing.assert_allclose(np.linalg.norm(table, axis=1), there.astype(np.float32), atol=1e-5)
    only_image, only_text = present & ~has_text, present & ~has_image
    np.testing.assert_array_equal(fused[only_image], look[only_image])
    np.testing.assert_array_equal(fused[only_text], meaning[only_text])
    model = new_model(world.vectors, QUICK)
    model.load_state_dict(load_file(out / "fusion.safetensors"))
    np.testing.assert_allclose(embed(model, world.vectors, all_of(world.vectors))[0], fused, atol=1e-6)


def test_metrics_tell_warm_from_cold_and_fused_finds_most(world: World) -> None:
    metrics = json.loads((world.work / "fusion" / "metrics.json").read_text())
    recalls = metrics["recall_at_20_of_co_bought"]
    for kind in ("warm", "cold", "cold_among_cold"):
        best_raw = max(recalls[name][kind] for name in ("text_raw", "image_raw", "concatenated_raw"))
        assert recalls["fused"][kind] > best_raw, kind
        for name in ("text_raw", "image_raw", "concatenated_raw"):
            gap = metrics["fused_finds_more_than"][name][kind]
            assert gap["mean"] == pytest.approx(recalls["fused"][kind] - recalls[name][kind], abs=2e-5)
            assert gap["low"] <= gap["mean"] <= gap["high"]
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
        given_values, given_bits = ([torch.from_numpy(part) for part in some] for some in (arrays[:2], arrays[2:]))
        expected = model(given_values, given_bits)
    got = onnx_session.run(list(OUTPUTS), dict(zip(LIVE, arrays, strict=True)))
    for name, a, b in zip(OUTPUTS, expected, got, strict=True):
        assert b.shape == (len(bits), 128)
        np.testing.assert_allclose(b, a.numpy(), atol=1e-4, err_msg=name)


@pytest.fixture(scope="module")
def onnx_session(world: World) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(world.work / "fusion" / "fusion.onnx"), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def model(world: World) -> Fusion:
    loaded = new_model(world.vectors, QUICK)
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


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_absent_inputs_are_not_read_and_items_do_not_see_each_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    widths = {"text": 6, "image": 5, "price": 3, "words": 4}
    torch.manual_seed(seed % 1000)
    model = Fusion(widths, hidden=7, dim=8, alone=("text", "image", "words")).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    values = [torch.from_numpy(rng.normal(size=(9, width)).astype(np.float32)) for width in widths.values()]
    bits = [torch.from_numpy((rng.random((9, 1)) < 0.5).astype(np.float32)) for _ in widths]
    noise = [
        torch.where(bit > 0, value, torch.full_like(value, float("nan")))
        for value, bit in zip(values, bits, strict=True)
    ]
    order = torch.from_numpy(rng.permutation(9))
    with torch.inference_mode():
        plain, noisy = model(values, bits), model(noise, bits)
        moved = model([value[order] for value in values], [bit[order] for bit in bits])
    enough = torch.stack([bits[0], bits[1], bits[3]]).amax(0)
    for a, b, c in zip(plain, noisy, moved, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        torch.testing.assert_close(a[order], c, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(plain[0].norm(dim=1, keepdim=True), enough)


@pytest.fixture(scope="module")
def everything(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("everything")
    shutil.copytree(world.work, work, dirs_exist_ok=True)
    run_fusion(EVERYTHING, work)
    return work


def test_a_network_of_every_modality_takes_text_and_image_alone(everything: Path, tmp_path: Path) -> None:
    """What the service asks of the file is what it asked when there were but two modalities."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    path = everything / "fusion" / "fusion.onnx"
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    dim, relations = 128, 3
    inputs, outputs = signatures(dim, relations)[FUSION]
    described = OnnxModel(opset=18, inputs=inputs, outputs=outputs, parity_max_abs_diff=0.0, parity_cases=1)
    check_models(everything / "fusion", {FUSION: described}, {FUSION: (inputs, outputs)})
    names = EVERYTHING.modalities.split(",")
    assert [i.name for i in session.get_inputs()] + [i.name for i in session.get_overridable_initializers()] == list(
        input_names(names)
    )
    vectors = open_modalities(names, everything, tmp_path)[0]
    rows = np.arange(7)
    values, has = vectors.inputs(rows)
    given = {"text": values[0].numpy(), "image": values[1].numpy()}
    given |= {f"{name}_present": has[:, i : i + 1].numpy() for i, name in enumerate(("text", "image"))}
    model = new_model(vectors, EVERYTHING)
    model.load_state_dict(load_file(everything / "fusion" / "fusion.safetensors"))
    np.testing.assert_allclose(session.run(None, given)[0], embed(model, vectors, rows, "text", "image")[0], atol=1e-5)
    full = np.load(everything / "fusion" / "fused.npy")[rows]
    for i, name in enumerate(names[2:], start=2):
        given |= {name: values[i].numpy(), f"{name}_present": has[:, i : i + 1].numpy()}
    np.testing.assert_allclose(session.run(None, given)[0], full, atol=1e-5)


def test_an_item_known_by_brand_and_price_alone_has_no_vector(everything: Path) -> None:
    metrics = json.loads((everything / "fusion" / "metrics.json").read_text())
    assert list(metrics["modalities"]) == EVERYTHING.modalities.split(",")
    assert metrics["left_out"] == {}
    present, fused = (np.load(everything / "fusion" / f"{name}.npy") for name in ("present", "fused"))
    assert not present[0]  # no text, no image, no words, no reviews; a brand it has
    np.testing.assert_allclose(np.linalg.norm(fused, axis=1), present.astype(np.float32), atol=1e-5)


def test_what_the_data_lacks_is_left_out_and_said(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.work, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "ingest")
    nothing = pl.Series([None] * ITEMS, dtype=pl.String)
    write(
        tmp_path,
        "ingest",
        items=pl.DataFrame({"brand": nothing, "category": nothing, "price": nothing.cast(pl.Float32)}),
        users=pl.DataFrame({"user_id": ["u"] * USERS}),
        interactions=pl.DataFrame({"user_id": ["u"] * len(world.rows)}),
    )
    run_fusion(EVERYTHING.model_copy(update={"epochs": 0}), tmp_path)
    metrics = json.loads((tmp_path / "fusion" / "metrics.json").read_text())
    assert list(metrics["modalities"]) == ["text", "image", "lexical"]
    assert sorted(metrics["left_out"]) == ["brand", "category", "price", "rating", "reviews"]


def test_a_held_out_rating_review_or_purchase_changes_no_vector(world: World, everything: Path, tmp_path: Path) -> None:
    shutil.copytree(everything, tmp_path, dirs_exist_ok=True)
    rng = np.random.default_rng(5)
    for stage in ("ingest", "split", "fusion"):
        shutil.rmtree(tmp_path / stage)
    later = world.rows.split > 0
    old = {name: pl.read_parquet(everything / "ingest" / f"{name}.parquet") for name in ("items", "users")}
    stars = pl.read_parquet(everything / "ingest" / "interactions.parquet")["rating"].to_numpy()
    said = pl.read_parquet(everything / "ingest" / "reviews.parquet")
    held = later[said["interaction_row"].to_numpy()]
    assert held.any()
    write(
        tmp_path,
        "ingest",
        **old,
        interactions=pl.DataFrame({"rating": np.where(later, 5 - stars, stars)}),
        reviews=said.with_columns(text=pl.when(pl.Series(held)).then(pl.lit("spoiler")).otherwise("text")),
    )
    moved = np.where(world.rows.split == 2, rng.integers(0, ITEMS, len(world.rows)), world.rows.item_row)
    write_split(tmp_path, dataclasses.replace(world.rows, item_row=moved.astype(np.int32)))
    run_fusion(EVERYTHING, tmp_path)
    first, second = (read_record(work / "fusion") for work in (everything, tmp_path))
    assert first is not None
    assert second is not None
    assert first.inputs != second.inputs
    assert first.outputs == second.outputs


def test_modalities_are_hidden_at_random_but_never_all(world: World, tmp_path: Path) -> None:
    vectors = open_modalities(EVERYTHING.modalities.split(","), world.work, tmp_path)[0]
    has = vectors.inputs(all_of(vectors))[1].numpy()
    shown = hidden_at_random(vectors, has, 0.25, np.random.default_rng(0))
    assert (shown <= has).all()
    alone = [table.alone for table in vectors.tables.values()]
    np.testing.assert_array_equal(shown[:, alone].any(axis=1), has[:, alone].any(axis=1))
    kept = shown.sum(axis=0) / has.sum(axis=0)
    assert (kept[:2] > 0.7).all()
    assert ((kept > 0.2) & (kept < 0.9)).all()


@pytest.mark.parametrize("listed", ["text", "image,text", "text,image,smell", "text,image,brand,brand", ""])
def test_a_list_of_modalities_that_cannot_be_is_refused(listed: str, world: World) -> None:
    with pytest.raises(InputError, match="modalities"):
        run_fusion(QUICK.model_copy(update={"modalities": listed}), world.work)


def test_a_killed_fit_goes_on_to_the_bytes_of_one_left_alone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import offline_jobs.fusion_fit as module

    write_stages(tmp_path, world.arrays, world.rows)
    steps = 0
    whole_step = module._step

    def killed(*given: Any) -> float:
        nonlocal steps
        steps += 1
        if steps == per_pass * 2 + 3:
            raise KeyboardInterrupt
        return whole_step(*given)

    pairs = training_pairs(merge_repeats(world.rows), window_days=7, reach=10, seed=0)
    kept = world.vectors.present[pairs].all(axis=1).sum()
    per_pass = -(-int(kept) // QUICK.batch_pairs)
    monkeypatch.setattr(module, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        run_fusion(QUICK, tmp_path)
    assert not (tmp_path / "fusion").exists()
    steps = 10**6  # never again
    taken = []
    monkeypatch.setattr(module, "_step", lambda *given: taken.append(1) or whole_step(*given))
    run_fusion(QUICK, tmp_path)
    assert len(taken) <= per_pass * (QUICK.epochs - 2)
    before = (tmp_path / "fusion" / "stage.json").stat().st_mtime_ns
    run_fusion(QUICK, tmp_path)
    assert (tmp_path / "fusion" / "stage.json").stat().st_mtime_ns == before, "nothing has changed, nothing is done"
    first, second = (read_record(work / "fusion") for work in (world.work, tmp_path))
    assert first is not None
    assert second is not None
    assert first.outputs == second.outputs


def test_held_out_rows_change_no_training_pair(world: World, tmp_path: Path) -> None:
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
    every = all_of(world.vectors)
    first, second = (
        embed(fit(world.vectors, rows, fixed, tmp_path / str(i))[0], world.vectors, every)[0]
        for i, rows in enumerate(no_validation)
    )
    np.testing.assert_array_equal(first, second)
    other = fit(world.vectors, no_validation[0], fixed.model_copy(update={"seed": 1}), tmp_path / "other")[0]
    assert not np.array_equal(first, embed(other, world.vectors, every)[0])


def test_a_shop_without_pairs_keeps_the_principal_axes(world: World, tmp_path: Path) -> None:
    nothing = world.rows.where(np.zeros(len(world.rows), dtype=np.bool_))
    fitted, history = fit(world.vectors, nothing, QUICK, tmp_path)
    assert history == [{"loss": None, "validation_recall": None}]
    table = embed(fitted, world.vectors, all_of(world.vectors))[0]
    chance = 1 / CLUSTERS
    assert purity(table, world.vectors.present, world.cluster) > 3 * chance


def test_tables_of_different_items_are_refused_and_nothing_is_written(world: World, tmp_path: Path) -> None:
    shorter = {"image": world.arrays["image"][:-1], "image_present": world.arrays["image_present"][:-1]}
    write_stages(tmp_path, world.arrays | shorter, world.rows)
    with pytest.raises(DataError, match=r"399, 400"):
        run_fusion(QUICK, tmp_path)
    assert not (tmp_path / "fusion").exists()


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
