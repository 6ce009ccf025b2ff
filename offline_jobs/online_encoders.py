"""The encoders of a finished work folder as the service runs them: ONNX files, what the manifest says, and parity.

The text encoder is the graph that `text_graph.py` writes, with the model's own tokenizer. The image encoder is the
offline network with what comes after it in one graph: the root, the catalog's projection, the unit length. Both are run
by the service's own classes before they are published, and held against what the offline jobs made.
"""

from __future__ import annotations

import logging
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from PIL import Image

from offline_jobs.embedding_shards import EncoderRecord, normalise
from offline_jobs.image_encoders import OFFLINE, SIDE, OfflineEncoder
from offline_jobs.image_projection import Projection, load_projection
from offline_jobs.image_settings import ImageEmbeddingSettings
from offline_jobs.image_store import Bounds, decode
from offline_jobs.item_texts import read_texts, split_fields
from offline_jobs.text_embeddings import TextEmbeddingSettings
from offline_jobs.text_graph import build_graph, pooling_of, why_not
from offline_jobs.text_model import TOKENIZER, TextTokenizer, resolve_model
from offline_jobs.weights import combined_sha256, digest_weights, fetch_weights
from service.bundle.files import sha256_file
from service.bundle.manifest import EncoderParity, OnlineEncoders, OnlineImageEncoder, OnlineTextEncoder
from service.bundle.reader import TEXT_TOKENIZER
from service.bundle.signatures import IMAGE_DIM, IMAGE_ENCODER, TEXT_ENCODER
from service.bundle.writer import Draft
from service.encoders import ImageEncoder, TextEncoder
from service.errors import InputError, StageError
from training.stage import read_record, require

log = logging.getLogger(__name__)

CASES = 64
"""Texts that are encoded again for the parity; a quarter as many pictures."""
LEAST_COSINE = 0.95
"""Below it, what the service would encode is not what the catalog's vectors are."""

Vectors = npt.NDArray[np.float32]


def add_online_encoders(draft: Draft, work: Path) -> OnlineEncoders:
    """Add the encoders that can be served to a bundle; returns what its manifest says of them.

    An encoder that cannot be served, or whose weights are not to be had here, is left out with a warning. Raises
    StageError where one can be served but gives other vectors than the offline jobs.
    """
    text = image = None
    try:
        text = _add_text(draft, work)
    except (InputError, StageError) as error:
        log.warning("publish: without a text encoder: %s", error)
    try:
        image = _add_image(draft, work)
    except (InputError, StageError) as error:
        log.warning("publish: without an image encoder: %s", error)
    for kind, made in (("text", text), ("image", image)):
        if made is not None and made.parity.min_cosine < LEAST_COSINE:
            raise StageError(
                f"the online {kind} encoder's vectors have a cosine of {made.parity.min_cosine:.3f} to the stage's",
                where=str(work / f"{kind}_embeddings"),
                todo=f"At least {LEAST_COSINE} is needed: run `plotpointe-jobs embed-{kind}` again on this machine",
            )
    return OnlineEncoders(text=text, image=image)


def _add_text(draft: Draft, work: Path) -> OnlineTextEncoder:
    stage = require(work, "text_embeddings")
    found = read_record(stage)
    assert found is not None
    known = TextEmbeddingSettings.model_fields
    settings = TextEmbeddingSettings.model_validate({k: v for k, v in found.settings.items() if k in known})
    record = _record(stage)
    folder = resolve_model(settings.model)
    files = digest_weights(folder)
    if record.sha256 not in (files.get("model.safetensors"), combined_sha256(files)):
        raise StageError("the weights have changed since the texts were encoded", where=str(folder))
    if reason := why_not(folder):
        raise StageError(f"the model has no ONNX graph: {reason}", where=str(folder))
    rows = np.flatnonzero(np.load(stage / "present.npy"))
    if not len(rows):
        raise StageError("no item has a text to hold it to", where=str(stage))
    precision = record.precision if record.backend == "onnxruntime" else "fp32"
    bits = 7 if precision == "int8-7bit" else 8
    graph = build_graph(folder, int8=precision != "fp32", weight_bits=bits)
    draft.content(f"{TEXT_ENCODER}.onnx", graph.SerializeToString(deterministic=True))
    draft.file(TEXT_TOKENIZER, folder / TOKENIZER)
    tokenizer = TextTokenizer(folder, settings.max_tokens)
    described = OnlineTextEncoder(
        precision=precision,
        pooling="cls" if pooling_of(folder) == "cls" else "mean",
        max_tokens=tokenizer.max_tokens,
        padding_token=tokenizer.padding_token,
        lower=tokenizer.lower,
        prompt=tokenizer.prompt,
        fields=tuple(split_fields(settings.fields)),
        parity=EncoderParity(cases=1, min_cosine=1, mean_cosine=1),
    )
    encoder = TextEncoder(draft.directory / f"{TEXT_ENCODER}.onnx", draft.directory / TEXT_TOKENIZER, described)
    texts = read_texts(require(work, "ingest") / "items.parquet", settings.fields)
    rows = rows[np.linspace(0, len(rows) - 1, min(CASES, len(rows))).astype(int)]
    table = np.load(stage / "vectors.npy", mmap_mode="r")
    online = np.array([encoder(texts[row]) for row in rows], np.float32)
    return described.model_copy(update={"parity": parity(online, table[rows])})


def _add_image(draft: Draft, work: Path) -> OnlineImageEncoder:
    stage = require(work, "image_embeddings")
    found = read_record(stage)
    assert found is not None
    known = ImageEmbeddingSettings.model_fields
    settings = ImageEmbeddingSettings.model_validate({k: v for k, v in found.settings.items() if k in known})
    record = _record(stage)
    offline = next((one for one in OFFLINE.values() if one.weights == record.name), None)
    if offline is None or not offline.takes_bytes or not (stage / "projection.npz").is_file():
        raise StageError(f"{record.name} cannot be served", where="image encoder")
    folder = settings.weights or fetch_weights(offline.weights)
    files = digest_weights(folder)
    weights = next(iter(files.values())) if len(files) == 1 else combined_sha256(files)
    made_of = {"weights": weights, "projection.npz": sha256_file(stage / "projection.npz")}
    if record.sha256 != combined_sha256(made_of):
        raise StageError("the weights have changed since the pictures were encoded", where=str(folder))
    projection = load_projection(stage / "projection.npz")
    network = offline.open(folder)
    assert isinstance(network, bytes)
    draft.content(f"{IMAGE_ENCODER}.onnx", with_projection(network, projection, SIDE))
    described = OnlineImageEncoder(
        side=SIDE, framing="padded", parity=EncoderParity(cases=1, min_cosine=1, mean_cosine=1)
    )
    encoder = ImageEncoder(draft.directory / f"{IMAGE_ENCODER}.onnx", described)
    pictures = drawn_pictures(CASES // 4)
    online = np.array([encoder(picture) for picture in pictures], np.float32)
    expected = _offline_vectors(pictures, offline, folder, projection)
    return described.model_copy(update={"parity": parity(online, expected)})


def with_projection(network: bytes, projection: Projection, side: int) -> bytes:
    """An ONNX network `images` -> `features` with all that follows: root, unit length, projection, unit length.

    The same as `image_encoders.OnnxEncoder.encode`, `embedding_shards.normalise` and `Projection` one after another.
    """
    model = onnx.load_from_string(network)
    graph = model.graph
    constants = {
        "zero": np.float32(0),
        "tiny": np.float32(1e-12),
        "axis_1": np.array([1]),
        "mean": projection.mean,
        "matrix": projection.matrix,
    }
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), f"end.{k}") for k, value in constants.items())
    features = graph.output[0].name

    def node(operator: str, inputs: list[str], output: str, **attributes: int) -> None:
        graph.node.append(helper.make_node(operator, inputs, [output], f"end.{output}", **attributes))

    def unit(given: str, output: str) -> None:
        node("ReduceL2", [given], f"{output}.length", axes=[1], keepdims=1)  # type: ignore[arg-type]
        node("Max", [f"{output}.length", "end.tiny"], f"{output}.divisor")
        node("Div", [given, f"{output}.divisor"], output)

    node("Max", [features, "end.zero"], "positive")
    node("Sqrt", ["positive"], "rooted")
    unit("rooted", "unit")
    node("Greater", ["unit.length", "end.zero"], "is_there")
    node("Cast", ["is_there"], "there", to=onnx.TensorProto.FLOAT)
    node("Sub", ["unit", "end.mean"], "centred")
    node("MatMul", ["centred", "end.matrix"], "turned")
    node("Mul", ["turned", "there"], "projected")
    unit("projected", "vectors")
    del graph.output[:], graph.input[:]
    graph.input.append(helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["b", side, side, 3]))
    graph.output.append(helper.make_tensor_value_info("vectors", onnx.TensorProto.FLOAT, ["b", IMAGE_DIM]))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def drawn_pictures(count: int) -> list[bytes]:
    """JPEG and PNG files of seeded shapes, colours and sizes: a shop's pictures are not at hand where it publishes."""
    random = np.random.default_rng(0)
    pictures = []
    for number in range(count):
        blocks = random.integers(0, 256, (*random.integers(2, 9, 2), 3), dtype=np.uint8)
        size = [int(side) for side in random.integers(60, 700, 2)]
        image = Image.fromarray(blocks).resize((size[0], size[1]), Image.Resampling.BICUBIC)
        file = BytesIO()
        image.save(file, "PNG" if number % 3 == 0 else "JPEG")
        pictures.append(file.getvalue())
    return pictures


def parity(online: Vectors, offline: Vectors) -> EncoderParity:
    """Cosines of unit rows (n, width), row by row."""
    cosines = np.minimum((online * offline).sum(axis=1), 1.0)
    return EncoderParity(cases=len(cosines), min_cosine=float(cosines.min()), mean_cosine=float(cosines.mean()))


def _offline_vectors(pictures: list[bytes], offline: OfflineEncoder, folder: Path, projection: Projection) -> Vectors:
    encoder = offline.load(folder, "cpu")
    pixels = np.stack([encoder.prepare(decode(picture, Bounds(), side=SIDE)) for picture in pictures])
    return projection(normalise(encoder.encode(pixels)))


def _record(stage: Path) -> EncoderRecord:
    return EncoderRecord.model_validate_json((stage / "encoder.json").read_bytes())
