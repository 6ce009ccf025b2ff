"""A bundle that is not whole, or not what it says, is refused with the reason. Each test breaks a good one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import faiss
import numpy as np
import onnx
import pytest

from service.bundle.manifest import FORMAT_VERSION, OnlineEncoders
from service.bundle.reader import open_bundle
from service.bundle.store import activate, active_version
from service.errors import BundleCorruptError, BundleForeignError, BundleMissingError


@pytest.fixture
def directory(exact_bundle_root: Path, tmp_path: Path) -> Path:
    """A bundle of this test's own."""
    copy = tmp_path / "bundle"
    shutil.copytree(exact_bundle_root / active_version(exact_bundle_root), copy)
    return copy


def rewrite_manifest(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((directory / "manifest.json").read_text())
    change(manifest)
    (directory / "manifest.json").write_text(json.dumps(manifest))


def bless(directory: Path, name: str) -> None:
    """Let the manifest say of a changed file what a publisher would have said."""
    content = (directory / name).read_bytes()
    described: dict[str, Any] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    if name.endswith(".npy"):
        array = np.load(directory / name)
        described |= {"dtype": array.dtype.str, "shape": array.shape}
    rewrite_manifest(directory, lambda m: m["files"].__setitem__(name, described))


def replace_array(directory: Path, name: str, change: Callable[[Any], Any]) -> None:
    array = np.load(directory / f"{name}.npy").copy()
    np.save(directory / f"{name}.npy", change(array))
    bless(directory, f"{name}.npy")


def test_a_good_bundle_opens_and_shows_its_tables(directory: Path, world: Any) -> None:
    bundle = open_bundle(directory)
    assert bundle.item_ids[5] == world.item_ids[5]
    assert bundle.titles[11] == world.titles[11]
    assert bundle.user_ids.row(world.user_ids[-1]) == len(world.user_ids) - 1
    np.testing.assert_array_equal(bundle.item_vectors, world.vectors)
    assert bundle.brands.value(0) is None
    assert list(bundle.attributes) == ["colour", "size"]
    assert [bundle.attributes["colour"].value(row) for row in range(30)] == world.colours[:30]
    np.testing.assert_array_equal(bundle.content, world.content)
    assert bundle.tokenizer_path.is_file()


def test_truncated(directory: Path) -> None:
    path = directory / "item_vectors.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleCorruptError, match=r"item_vectors.npy: the file holds \d+ bytes, the manifest says \d+"):
        open_bundle(directory)


@pytest.mark.parametrize("name", ["item_vectors.npy", "index.faiss", "reranker.onnx", "item_ids.bytes.npy"])
def test_one_bit_changed(directory: Path, name: str) -> None:
    content = bytearray((directory / name).read_bytes())
    content[len(content) // 2] ^= 1
    (directory / name).write_bytes(content)
    with pytest.raises(BundleCorruptError, match=rf"{name}: sha256 is .*, the manifest says"):
        open_bundle(directory)


def test_a_file_is_missing(directory: Path) -> None:
    (directory / "popularity.npy").unlink()
    with pytest.raises(BundleCorruptError, match=r"popularity.npy: a file is missing"):
        open_bundle(directory)


def test_an_artifact_that_the_manifest_forgot(directory: Path) -> None:
    (directory / "popularity.npy").unlink()
    rewrite_manifest(directory, lambda m: m["files"].pop("popularity.npy"))
    with pytest.raises(BundleForeignError, match=r"an artifact is missing: .*popularity.npy"):
        open_bundle(directory)


def test_files_that_the_manifest_does_not_list(directory: Path) -> None:
    (directory / "extra.bin").write_bytes(b"?")
    with pytest.raises(BundleForeignError, match=r"does not list: extra.bin"):
        open_bundle(directory)


def test_a_path_out_of_the_bundle(directory: Path) -> None:
    outside = directory.parent / "outside.npy"
    np.save(outside, np.zeros(1))
    bless(directory, "../outside.npy")
    with pytest.raises(BundleForeignError, match=r"outside the bundle: '../outside.npy'"):
        open_bundle(directory)


def test_a_link_out_of_the_bundle(directory: Path) -> None:
    path = directory / "popularity.npy"
    path.rename(directory.parent / "popularity.npy")
    path.symlink_to(directory.parent / "popularity.npy")
    with pytest.raises(BundleForeignError, match=r"outside the bundle: 'popularity.npy'"):
        open_bundle(directory)


def test_a_manifest_field_that_this_version_does_not_know(directory: Path) -> None:
    rewrite_manifest(directory, lambda m: m.__setitem__("shards", 4))
    with pytest.raises(BundleForeignError, match="shards"):
        open_bundle(directory)


def test_a_format_of_the_future(directory: Path) -> None:
    rewrite_manifest(directory, lambda m: m.__setitem__("format_version", FORMAT_VERSION + 1))
    with pytest.raises(BundleForeignError, match="format_version"):
        open_bundle(directory)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_manifest_that_is_none(directory: Path, text: str) -> None:
    (directory / "manifest.json").write_text(text)
    with pytest.raises((BundleForeignError, BundleCorruptError)):
        open_bundle(directory)


def test_no_manifest(directory: Path) -> None:
    (directory / "manifest.json").unlink()
    with pytest.raises(BundleMissingError):
        open_bundle(directory)


def test_ids_out_of_order(directory: Path) -> None:
    def swap(data: Any) -> Any:
        width = len("item-0000")
        return np.concatenate([data[width : 2 * width], data[:width], data[2 * width :]])

    replace_array(directory, "item_ids.bytes", swap)
    with pytest.raises(BundleForeignError, match="distinct and ascend in byte order, but row 1"):
        open_bundle(directory)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("item_vectors", lambda a: a.astype(np.float64), "item_vectors is <f8"),
        ("item_vectors", lambda a: a[:-1], r"item_vectors is <f4 \(599, 32\)"),
        ("item_vectors", lambda a: np.where(np.arange(len(a))[:, None] == 3, np.nan, a), "vectors are finite"),
        ("popularity", lambda a: a[:, None], r"popularity is <f4 \(600, 1\)"),
        ("history_items", lambda a: a + 600, "history_items are item rows"),
        ("history_offsets", lambda a: a[::-1], "history_offsets ascend"),
        ("graph.text.neighbors", lambda a: a - 2, "graph neighbors are item rows or -1"),
        ("graph.text.weights", lambda a: a * np.float32(np.inf), "graph weights are finite"),
        ("categories.codes", lambda a: a + 100, "category codes are in range"),
        ("attribute.colour.codes", lambda a: a + 100, "attribute codes are in range"),
        ("attribute.colour.codes", lambda a: a.astype(np.int64), "attribute.colour.codes is <i8"),
        ("content", lambda a: a[:, :-1], r"content is <f4 \(600, 127\)"),
        ("content", lambda a: a * np.float32(1.1), "content rows are of length one or zero"),
        ("content", lambda a: np.where(a == a[0], np.nan, a), "content rows are of length one or zero"),
    ],
)
def test_tables_that_do_not_fit_together(directory: Path, name: str, change: Callable[[Any], Any], reason: str) -> None:
    replace_array(directory, name, change)
    with pytest.raises(BundleForeignError, match=reason):
        open_bundle(directory)


@pytest.mark.parametrize(
    ("rows", "dim", "metric"),
    [(600, 16, faiss.METRIC_INNER_PRODUCT), (599, 32, faiss.METRIC_INNER_PRODUCT), (600, 32, faiss.METRIC_L2)],
)
def test_an_index_of_something_else(directory: Path, rows: int, dim: int, metric: int) -> None:
    index = faiss.index_factory(dim, "Flat", metric)
    index.add(np.zeros((rows, dim), np.float32))
    faiss.write_index(index, str(directory / "index.faiss"))
    bless(directory, "index.faiss")
    with pytest.raises(BundleForeignError, match=r"the index has \(d, ntotal, metric\)"):
        open_bundle(directory)


def test_an_index_that_faiss_cannot_read(directory: Path) -> None:
    (directory / "index.faiss").write_bytes(b"not an index")
    bless(directory, "index.faiss")
    with pytest.raises(BundleForeignError, match="FAISS cannot read the index"):
        open_bundle(directory)


def test_a_model_with_another_input_name(directory: Path) -> None:
    path = directory / "user_tower.onnx"
    model = onnx.load(path)
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == "history_mask":
                node.input[i] = "mask"
    next(value for value in model.graph.input if value.name == "history_mask").name = "mask"
    onnx.save(model, str(path))
    bless(directory, "user_tower.onnx")
    with pytest.raises(BundleForeignError, match=r"user_tower.onnx: inputs are .*'mask'"):
        open_bundle(directory)


def test_a_model_that_onnxruntime_cannot_load(directory: Path) -> None:
    (directory / "reranker.onnx").write_bytes(b"not a model")
    bless(directory, "reranker.onnx")
    with pytest.raises(BundleForeignError, match=r"reranker.onnx: onnxruntime cannot load"):
        open_bundle(directory)


@pytest.mark.parametrize("name", ["content.npy", "attribute.size.codes.npy", "text_tokenizer.json"])
def test_a_part_of_format_2_that_is_not_there(directory: Path, name: str) -> None:
    (directory / name).unlink()
    rewrite_manifest(directory, lambda m: m["files"].pop(name))
    with pytest.raises(BundleForeignError, match=f"{name}|the text encoder has its tokenizer"):
        open_bundle(directory)


def test_an_image_encoder_for_pictures_of_another_size(directory: Path) -> None:
    rewrite_manifest(directory, lambda m: m["online_encoders"]["image"].__setitem__("side", 64))
    with pytest.raises(BundleForeignError, match=r"image_encoder.onnx: inputs are .*32, 32, 3"):
        open_bundle(directory)


def test_a_text_encoder_that_takes_something_else(directory: Path) -> None:
    shutil.copy(directory / "image_encoder.onnx", directory / "text_encoder.onnx")
    bless(directory, "text_encoder.onnx")
    with pytest.raises(BundleForeignError, match=r"text_encoder.onnx: inputs are .*'images'"):
        open_bundle(directory)


@pytest.mark.parametrize("names", [["colour", "colour"], ["../up"], ["Colour"]])
def test_attributes_with_names_that_cannot_be(directory: Path, names: list[str]) -> None:
    rewrite_manifest(directory, lambda m: m.__setitem__("attributes", names))
    with pytest.raises(BundleForeignError, match="does not fit this service"):
        open_bundle(directory)


def test_format_1_has_none_of_what_came_later(directory: Path) -> None:
    rewrite_manifest(directory, lambda m: m.__setitem__("format_version", 1))
    with pytest.raises(BundleForeignError, match="format version 1 has neither attributes nor online encoders"):
        open_bundle(directory)


def test_a_bundle_may_hold_no_encoders(planted: ModuleType, world: Any, tmp_path: Path) -> None:
    manifest = planted.publish(world, tmp_path, factory="Flat", encoders=False)
    assert open_bundle(tmp_path / manifest.version).manifest.online_encoders == OnlineEncoders()
    assert not (tmp_path / manifest.version / "text_encoder.onnx").exists()


def test_no_bundle_is_active(tmp_path: Path) -> None:
    with pytest.raises(BundleMissingError, match="no CURRENT file"):
        active_version(tmp_path)


@pytest.mark.parametrize("text", ["", "../elsewhere", ".draft-1"])
def test_current_names_no_bundle(tmp_path: Path, text: str) -> None:
    (tmp_path / "CURRENT").write_text(text)
    with pytest.raises(BundleMissingError, match="does not name a bundle"):
        active_version(tmp_path)


def test_a_version_that_is_not_there_is_not_activated(bundle_root: Path) -> None:
    before = active_version(bundle_root)
    with pytest.raises(BundleMissingError, match=f"there is no bundle 'other'.*{before}"):
        activate(bundle_root, "other")
    assert active_version(bundle_root) == before


def test_the_same_content_gets_the_same_version(planted: ModuleType, world: Any, tmp_path: Path) -> None:
    first = planted.publish(world, tmp_path, factory="Flat")
    second = planted.publish(world, tmp_path, factory="Flat")
    assert first.version == second.version
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [first.version]


def test_what_the_service_would_refuse_is_not_published(planted: ModuleType, world: Any, tmp_path: Path) -> None:
    with pytest.raises(BundleForeignError):
        planted.publish(world, tmp_path, factory="Flat", dim=16)
    assert list(tmp_path.iterdir()) == []
