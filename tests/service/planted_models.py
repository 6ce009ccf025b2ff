"""The models of the planted bundles: towers, re-ranker, fusion and encoders, each simple enough to repeat in NumPy.

All are real ONNX graphs in the bundle's own signatures, and the tokenizer is a real one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace

from service.bundle.manifest import EncoderParity, OnlineEncoders, OnlineImageEncoder, OnlineTextEncoder
from service.bundle.reader import TEXT_TOKENIZER
from service.bundle.signatures import (
    FUSION,
    IMAGE_ENCODER,
    ITEM_TOWER,
    RERANKER,
    TEXT_ENCODER,
    USER_TOWER,
    Signature,
    image_encoder_signature,
    signatures,
    text_encoder_signature,
)

CLUSTERS = 12
DIM = 32
RELATIONS = ("text", "co_purchase")
OPSET = 17
WORDS = ("amber", "birch", "coral", "denim", "ember", "fjord", "grape", "heath", "ivory", "jade", "khaki", "lemon")
"""What the planted text encoder reads: the word of each cluster. It knows no other."""
SIDE = 32
"""Pixels of the planted image encoder's square."""
TEXT_TOKENS = 16


def online_encoders() -> OnlineEncoders:
    """What the manifest says of `write_encoders`."""
    parity = EncoderParity(cases=1, min_cosine=1.0, mean_cosine=1.0)
    return OnlineEncoders(
        text=OnlineTextEncoder(
            precision="fp32",
            pooling="mean",
            max_tokens=TEXT_TOKENS,
            padding_token=0,
            lower=False,
            prompt="",
            fields=("title", "category", "brand", "description"),
            parity=parity,
        ),
        image=OnlineImageEncoder(side=SIDE, framing="padded", parity=parity),
    )


def write_encoders(directory: Path) -> None:
    """Encoders that know the clusters' words and colours: real ONNX graphs, a real tokenizer."""
    vocabulary = {"[PAD]": 0, "[UNK]": 1} | {word: 2 + i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(directory / TEXT_TOKENIZER))
    node = helper.make_node
    onnx.save(
        _model(
            TEXT_ENCODER,
            {"words": _word_vectors(), "axis_1": [1], "axis_2": [2], "tiny": [1e-12]},
            [
                node("Gather", ["words", "tokens"], ["each"]),
                node("Cast", ["mask"], ["mask_f"], to=TensorProto.FLOAT),
                node("Unsqueeze", ["mask_f", "axis_2"], ["weights"]),
                node("Mul", ["each", "weights"], ["masked"]),
                node("ReduceSum", ["masked", "axis_1"], ["sum"], keepdims=0),
                *_unit_nodes("sum", "vectors"),
            ],
            text_encoder_signature(),
        ),
        str(directory / f"{TEXT_ENCODER}.onnx"),
    )
    onnx.save(
        _model(
            IMAGE_ENCODER,
            {"colours": _colour_axes(), "scale": [1 / 127.5], "one": [1.0], "axes_1_2": [1, 2], "tiny": [1e-12]},
            [
                node("Cast", ["images"], ["real"], to=TensorProto.FLOAT),
                node("ReduceMean", ["real"], ["rgb"], axes=[1, 2], keepdims=0),
                node("Mul", ["rgb", "scale"], ["scaled"]),
                node("Sub", ["scaled", "one"], ["centred"]),
                node("MatMul", ["centred", "colours"], ["turned"]),
                *_unit_nodes("turned", "vectors"),
            ],
            image_encoder_signature(SIDE),
        ),
        str(directory / f"{IMAGE_ENCODER}.onnx"),
    )


def rgb_of(cluster: int) -> tuple[int, int, int]:
    """The colour of a cluster's pictures: the corners of an icosahedron in the RGB cube."""
    golden = (1 + 5**0.5) / 2
    corners = [np.roll([0.0, one, golden * other], turn) for turn in range(3) for one in (-1, 1) for other in (-1, 1)]
    red, green, blue = (round(127.5 + 120 * float(x) / golden) for x in corners[cluster])
    return red, green, blue


def _word_vectors() -> npt.NDArray[np.float32]:
    """(2 + clusters, 384): padding and unknown words are nothing, each cluster's word is a direction of its own."""
    words = unit(np.random.default_rng(11).normal(size=(CLUSTERS, 384)))
    return np.concatenate([np.zeros((2, 384)), words]).astype(np.float32)


def _colour_axes() -> npt.NDArray[np.float32]:
    """(3, 512) RGB to the image encoder's space, angles kept."""
    return np.linalg.qr(np.random.default_rng(12).normal(size=(512, 3)))[0].T.astype(np.float32)


def _projections() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """What the fusion does: (384, 128) for texts, (512, 128) for images; angles are kept, more or less."""
    random = np.random.default_rng(0)
    text = random.normal(size=(384, 128)).astype(np.float32) / 20
    return text, random.normal(size=(512, 128)).astype(np.float32) / 20


def contents(
    cluster: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """meaning, look and content of the items, as the planted encoders and the fusion would make them, and noise."""
    random = np.random.default_rng(13)
    by_text, by_image = _projections()
    colours = np.array([rgb_of(kind) for kind in range(CLUSTERS)]) / 127.5 - 1
    parts = []
    for centers, every in ((_word_vectors()[2:] @ by_text, 10), (colours @ _colour_axes() @ by_image, 7)):
        rows = unit(unit(centers)[cluster] + random.normal(size=(len(cluster), 128)) * 0.03)
        parts.append(np.where(np.arange(len(cluster))[:, None] % every == 0, 0, rows))
    both = parts[0] + parts[1]
    content = both / np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-12)
    return parts[0].astype(np.float32), parts[1].astype(np.float32), content.astype(np.float32)


def models() -> dict[str, onnx.ModelProto]:
    """The four models, in the exact signatures of the bundle."""
    text, image = _projections()
    item = np.random.default_rng(1).normal(size=(128, DIM)).astype(np.float32) / 30
    node = helper.make_node
    return {
        USER_TOWER: _model(
            USER_TOWER,
            {"minus_90": [-90.0], "axis_1": [1], "axis_2": [2], "tiny": [1e-12]},
            [
                node("Div", ["history_age_days", "minus_90"], ["age"]),
                node("Exp", ["age"], ["recent"]),
                node("Mul", ["recent", "history_mask"], ["weight"]),
                node("Unsqueeze", ["weight", "axis_2"], ["weights"]),
                node("Mul", ["history_vectors", "weights"], ["weighted"]),
                node("ReduceSum", ["weighted", "axis_1"], ["sum"], keepdims=0),
                node("ReduceL2", ["sum"], ["length"], axes=[1]),
                node("Max", ["length", "tiny"], ["not_zero"]),
                node("Div", ["sum", "not_zero"], ["user_vector"]),
            ],
        ),
        RERANKER: _model(
            RERANKER,
            {"axis_1": [1], "axis_2": [2], "axes_2_3": [2, 3], "tenth": [0.1], "one": [1.0], "large": [1e9]},
            [
                node("Unsqueeze", ["history_mask", "axis_2"], ["masks"]),
                node("Mul", ["history_vectors", "masks"], ["masked"]),
                node("ReduceSum", ["masked", "axis_1"], ["sum"], keepdims=0),
                node("ReduceSum", ["history_mask", "axis_1"], ["count"], keepdims=1),
                node("Max", ["count", "one"], ["not_zero"]),
                node("Div", ["sum", "not_zero"], ["mean"]),
                node("Unsqueeze", ["mean", "axis_2"], ["mean_column"]),
                node("MatMul", ["candidate_vectors", "mean_column"], ["product_column"]),
                node("Squeeze", ["product_column", "axis_2"], ["product"]),
                node("ReduceSum", ["edges", "axes_2_3"], ["edge_sum"], keepdims=0),
                node("Mul", ["candidate_popularity", "tenth"], ["popularity"]),
                node("Add", ["product", "edge_sum"], ["product_and_edges"]),
                node("Add", ["product_and_edges", "popularity"], ["scores"]),
                node("Transpose", ["history_vectors"], ["keys"], perm=[0, 2, 1]),
                node("MatMul", ["candidate_vectors", "keys"], ["logits"]),
                node("Sub", ["history_mask", "one"], ["absent"]),
                node("Unsqueeze", ["absent", "axis_1"], ["absent_row"]),
                node("Mul", ["absent_row", "large"], ["penalty"]),
                node("Add", ["logits", "penalty"], ["masked_logits"]),
                node("Softmax", ["masked_logits"], ["attention"], axis=-1),
            ],
        ),
        ITEM_TOWER: _model(
            ITEM_TOWER,
            {"item": item, "axis_1": [1], "axis_2": [2], "tiny": [1e-12]},
            [
                node("MatMul", ["fused", "item"], ["own"]),
                node("Unsqueeze", ["neighbor_weights", "axis_2"], ["weights"]),
                node("Mul", ["neighbor_vectors", "weights"], ["weighted"]),
                node("ReduceSum", ["weighted", "axis_1"], ["near"], keepdims=0),
                node("Add", ["own", "near"], ["both"]),
                *_unit_nodes("both", "item_vector"),
            ],
        ),
        FUSION: _model(
            FUSION,
            {"by_text": text, "by_image": image, "tiny": [1e-12]},
            [
                node("MatMul", ["text", "by_text"], ["text_128"]),
                *_unit_nodes("text_128", "text_unit"),
                node("Mul", ["text_unit", "text_present"], ["meaning"]),
                node("MatMul", ["image", "by_image"], ["image_128"]),
                *_unit_nodes("image_128", "image_unit"),
                node("Mul", ["image_unit", "image_present"], ["look"]),
                node("Add", ["meaning", "look"], ["both"]),
                *_unit_nodes("both", "fused"),
            ],
        ),
    }


def _unit_nodes(given: str, out: str) -> list[onnx.NodeProto]:
    """Rows of `given` (b, n) scaled to length 1; needs the constant `tiny`, and a zero row stays zero."""
    node = helper.make_node
    return [
        node("ReduceL2", [given], [f"{out}_length"], axes=[1], keepdims=1),
        node("Max", [f"{out}_length", "tiny"], [f"{out}_not_zero"]),
        node("Div", [given, f"{out}_not_zero"], [out]),
    ]


ELEMENT: dict[Literal["float32", "int32", "uint8"], int] = {
    "float32": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "uint8": TensorProto.UINT8,
}


def _model(
    name: str, constants: dict[str, Any], nodes: list[onnx.NodeProto], signature: Signature | None = None
) -> onnx.ModelProto:
    inputs, outputs = signature or signatures(DIM, len(RELATIONS))[name]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(key, ELEMENT[spec.dtype], spec.shape) for key, spec in inputs.items()],
        [helper.make_tensor_value_info(key, ELEMENT[spec.dtype], spec.shape) for key, spec in outputs.items()],
        [numpy_helper.from_array(_constant(value), key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def _constant(value: Any) -> npt.NDArray[Any]:
    array = np.asarray(value)
    return array.astype(np.int64 if array.dtype.kind == "i" else np.float32)


def unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rows scaled to length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
