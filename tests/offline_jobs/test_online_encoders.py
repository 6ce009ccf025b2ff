"""What the service will encode with is what the offline jobs have encoded with."""

import json

import numpy as np
import onnxruntime
import polars as pl
import pytest
from onnx import TensorProto, helper, numpy_helper

from offline_jobs.embedding_shards import normalise
from offline_jobs.image_embeddings import run_image_embeddings
from offline_jobs.image_projection import Projection
from offline_jobs.image_settings import ImageEmbeddingSettings
from offline_jobs.online_encoders import add_online_encoders, drawn_pictures, parity, with_projection
from offline_jobs.text_embeddings import TextEmbeddingSettings, run_text_embeddings
from offline_jobs.text_encoders import load_encoder, resolve_backend
from offline_jobs.text_model import TextTokenizer
from offline_jobs.weights import fetch_weights
from service.bundle.manifest import OnlineEncoders
from service.bundle.native import check_encoders
from service.bundle.reader import TEXT_TOKENIZER
from service.bundle.writer import new_bundle
from service.encoders import ImageEncoder, TextEncoder
from service.errors import StageError
from service.item_texts import TEXT_FIELDS
from tests.offline_jobs.test_text_encoders import make_model
from training.stage import open_stage

WORDS = ("boots", "of", "black", "leather", "soft", "wool", "shirt", "for", "winter", "snow", "lined", "baby")


class NoSettings(ImageEmbeddingSettings):
    pass


@pytest.fixture(scope="module")
def minilm():
    return weights("all-MiniLM-L6-v2")


def weights(name):
    try:
        return fetch_weights(name)
    except StageError as error:
        pytest.skip(str(error))


def ingested(folder, *, images=()):
    """A work folder with 40 items of random words, some of them with a picture."""
    random = np.random.default_rng(5)
    rows = [tuple(" ".join(random.choice(WORDS, random.integers(1, 9))) for _ in TEXT_FIELDS) for _ in range(40)]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(TEXT_FIELDS, pl.String), orient="row")
    frame = frame.with_columns(pl.Series("image", [*images, *[None] * (40 - len(images))], pl.String))
    with open_stage(folder, "ingest", version=1, inputs={}, settings=NoSettings()) as stage:
        frame.write_parquet(stage.out / "items.parquet")
    return folder


def network(features):
    """Something like an image network: uint8 (batch, 4, 4, 3) to features; a black picture has none above zero."""
    matrix = np.random.default_rng(2).normal(size=(48, features)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["real"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "side", "side", 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", features])],
        [numpy_helper.from_array(matrix, "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(), matrix


def test_the_graph_ends_as_the_offline_vectors_are_made():
    random = np.random.default_rng(3)
    model, matrix = network(600)
    projection = Projection(
        random.normal(size=600).astype(np.float32) / 30, random.normal(size=(600, 512)).astype(np.float32)
    )
    pixels = random.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    pixels[2] = 0
    session = onnxruntime.InferenceSession(with_projection(model, projection, 4), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": pixels})
    features = np.sqrt(np.maximum(pixels.reshape(5, -1).astype(np.float32) @ matrix, 0))
    np.testing.assert_allclose(found, projection(normalise(features)), atol=1e-5)
    assert not found[2].any()
    assert np.linalg.norm(found[0]) == pytest.approx(1, abs=1e-5)


def test_parity_is_by_row():
    rows = np.eye(3, 4, dtype=np.float32)
    assert parity(rows, rows).min_cosine == 1
    assert parity(rows, np.roll(rows, 1, axis=0)).mean_cosine == 0
    assert parity(rows, np.stack([rows[0], rows[1], rows[0]])).model_dump() == {
        "cases": 3, "min_cosine": 0.0, "mean_cosine": pytest.approx(2 / 3),
    }  # fmt: skip


def test_drawn_pictures_are_the_same_each_time():
    assert drawn_pictures(4) == drawn_pictures(4)
    assert len(set(drawn_pictures(4))) == 4


@pytest.mark.parametrize("pooling", ["mean_tokens", "cls_token"])
@pytest.mark.parametrize("backend", ["onnx-int8", "onnx-fp32", "torch"])
def test_a_text_encoder_is_published_with_what_its_texts_need(tmp_path, backend, pooling, caplog):
    model = make_model(tmp_path / "model", kind="bert", pooling=pooling)
    (model / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "boots "}, "default_prompt_name": "query"})
    )
    work = ingested(tmp_path / "work")
    settings = TextEmbeddingSettings(
        model=str(model), backend=backend, fields="title,brand", max_tokens=16, precision="auto"
    )
    run_text_embeddings(settings, work)
    run_without_images(work, tmp_path)
    with new_bundle(tmp_path / "bundles") as draft:
        described = add_online_encoders(draft, work)
        check_encoders(draft.directory, described)
        text = described.text
        assert text is not None
        assert (text.fields, text.max_tokens, text.prompt) == (("title", "brand"), 16, "boots ")
        assert text.pooling == pooling.split("_")[0]
        assert text.parity.cases == 40
        exact = backend != "onnx-int8"
        assert text.precision.startswith("fp32" if exact else "int8")
        assert text.parity.min_cosine > (0.999 if exact else 0.95)
        encoder = TextEncoder(draft.directory / "text_encoder.onnx", draft.directory / TEXT_TOKENIZER, text)
        if backend != "torch":
            assert_same_alone(encoder, model, backend)


def assert_same_alone(encoder, model, backend):
    """Of a batch of one text the offline encoder makes the very same vector: it is the same graph."""
    compute = resolve_backend(backend, model, "auto", "auto")
    tokenizer, offline = TextTokenizer(model, 16), load_encoder(model, compute)
    for text in ("black leather boots", "wool " * 40):
        (batch,) = tokenizer.batches([text], 1000)
        np.testing.assert_array_equal(encoder(text), offline(batch)[0])


def run_without_images(work, data):
    """An image stage of an encoder that cannot be served."""
    with open_stage(work, "image_embeddings", version=1, inputs={}, settings=NoSettings()) as stage:
        record = {"name": "ViT-B-32", "source": "", "sha256": "", "width": 512, "precision": "fp32", "input_size": 224}
        (stage.out / "encoder.json").write_text(json.dumps(record))


def test_what_cannot_be_served_is_left_out_and_said(tmp_path, caplog):
    model = make_model(tmp_path / "model", kind="bert", pooling="mean_tokens")
    work = ingested(tmp_path / "work")
    run_text_embeddings(TextEmbeddingSettings(model=str(model), max_tokens=16), work)
    run_without_images(work, tmp_path)
    pooling = model / "1_Pooling" / "config.json"
    pooling.write_text(pooling.read_text().replace("mean", "max"))
    with new_bundle(tmp_path / "bundles") as draft:
        assert add_online_encoders(draft, work) == OnlineEncoders()
        assert list(draft.directory.iterdir()) == []
    assert "without a text encoder" in caplog.text
    assert "ViT-B-32 cannot be served" in caplog.text


def test_weights_that_have_changed_are_not_published(tmp_path, caplog):
    model = make_model(tmp_path / "model", kind="bert", pooling="mean_tokens")
    work = ingested(tmp_path / "work")
    run_text_embeddings(TextEmbeddingSettings(model=str(model), max_tokens=16), work)
    run_without_images(work, tmp_path)
    with (model / "model.safetensors").open("ab") as file:
        file.write(b" ")
    with new_bundle(tmp_path / "bundles") as draft:
        assert add_online_encoders(draft, work).text is None
    assert "the weights have changed since the texts were encoded" in caplog.text


@pytest.mark.weights
def test_with_the_real_weights_both_encoders_give_the_catalog_s_vectors(minilm, tmp_path):
    weights("efficientnet-lite0-imagenet")
    pictures = drawn_pictures(12)
    for number, picture in enumerate(pictures):
        (tmp_path / f"{number}.jpg").write_bytes(picture)
    work = ingested(tmp_path / "work", images=[f"{number}.jpg" for number in range(12)])
    run_text_embeddings(TextEmbeddingSettings(backend="onnx-fp32"), work)
    run_image_embeddings(ImageEmbeddingSettings(), tmp_path, work)
    table = np.load(work / "image_embeddings/vectors.npy")
    with new_bundle(tmp_path / "bundles") as draft:
        described = add_online_encoders(draft, work)
        assert described.text is not None
        assert described.image is not None
        assert described.text.parity.min_cosine > 0.9999
        assert described.image.parity.min_cosine > 0.9999
        check_encoders(draft.directory, described)
        encoder = ImageEncoder(draft.directory / "image_encoder.onnx", described.image)
        for picture, expected in zip(pictures, table, strict=False):
            assert encoder(picture) @ expected > 0.9999
