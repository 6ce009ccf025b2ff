"""A small shop with planted taste, and real bundles of it: real ONNX models, a real FAISS index, the real writer.

Items lie in clusters and each shopper buys from one of them, so what is right to recommend is known. Every model is
simple enough to be repeated in NumPy (`World.user_vector`, `World.rerank_scores`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace

from service.bundle.files import CodedStrings, IdTable, StringTable
from service.bundle.manifest import (
    EncoderParity,
    Evaluation,
    FaissIndex,
    Manifest,
    OnlineEncoders,
    OnlineImageEncoder,
    OnlineTextEncoder,
    OnnxModel,
)
from service.bundle.reader import TEXT_TOKENIZER, attribute
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
from service.bundle.store import activate
from service.bundle.writer import new_bundle

CLUSTERS = 12
ITEMS_A_CLUSTER = 50
NUM_ITEMS = CLUSTERS * ITEMS_A_CLUSTER
DIM = 32
HISTORY_LENGTH = 20
NUM_CANDIDATES = 100
RELATIONS = ("text", "co_purchase")
DEGREE = 8
OPSET = 17
DAY = 86_400
AS_OF = 1_600_000_000

WORDS = ("amber", "birch", "coral", "denim", "ember", "fjord", "grape", "heath", "ivory", "jade", "khaki", "lemon")
"""What the planted text encoder reads: the word of each cluster. It knows no other."""
SIZES = ("S", "M", "L")
SIDE = 32
"""Pixels of the planted image encoder's square."""
TEXT_TOKENS = 16

WITHOUT_PAST = "shopper-without-past"
SEEN_ALL = "shopper-who-saw-everything"
ODD_ID = "Zoë & Söhne/42?x=%20"
"""A known shopper whose id needs care in a URL."""


@dataclass(frozen=True)
class World:
    """The shop as arrays."""

    item_ids: list[str]
    titles: list[str]
    cluster: npt.NDArray[np.int32]
    vectors: npt.NDArray[np.float32]
    popularity: npt.NDArray[np.float32]
    neighbors: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    meaning: npt.NDArray[np.float32]
    """(items, 128) unit rows around what the planted encoders make of the cluster's word; zero without a title."""
    look: npt.NDArray[np.float32]
    """The same of the cluster's colour; zero for every seventh item, which has no picture."""
    content: npt.NDArray[np.float32]
    """Both together; zero for items that have neither."""
    colours: list[str | None]
    """The attribute `colour`: the cluster's word; None for every fifth item."""
    sizes: list[str]
    """The attribute `size`."""
    user_ids: list[str]
    taste: dict[str, int]
    """Shopper -> the cluster they buy from; only those with planted taste."""
    past: dict[str, tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]]
    """Shopper -> item rows and times, oldest first."""

    def history(self, user_id: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """The last rows, newest first, and their ages in days."""
        rows, times = self.past[user_id]
        return rows[::-1][:HISTORY_LENGTH], ((AS_OF - times) / DAY)[::-1][:HISTORY_LENGTH]

    def user_vector(self, user_id: str) -> npt.NDArray[np.float64]:
        """What user_tower.onnx computes."""
        rows, ages = self.history(user_id)
        vector = (self.vectors[rows].astype(np.float64) * np.exp(-ages / 90)[:, None]).sum(axis=0)
        return vector / np.linalg.norm(vector)

    def rerank_scores(self, user_id: str, candidates: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """What reranker.onnx computes, one candidate and one event at a time."""
        rows, _ = self.history(user_id)
        mean = self.vectors[rows].astype(np.float64).mean(axis=0)
        scores = []
        for item in candidates:
            score = self.vectors[item] @ mean + 0.1 * self.popularity[item]
            for event in rows:
                for slot in range(DEGREE):
                    for relation in range(len(RELATIONS)):
                        if self.neighbors[relation, event, slot] == item:
                            score += self.weights[relation, event, slot]
            scores.append(score)
        return np.array(scores)

    def recommend(self, user_id: str, k: int) -> tuple[list[str], list[float]]:
        """The whole path for a shopper with a past: exact search, nothing seen, re-rank, best k."""
        similarity = self.vectors.astype(np.float64) @ self.user_vector(user_id)
        similarity[self.past[user_id][0]] = -np.inf
        candidates = np.argsort(-similarity, kind="stable")[: max(NUM_CANDIDATES, k)].astype(np.int32)
        candidates = candidates[np.isfinite(similarity[candidates])]
        scores = self.rerank_scores(user_id, candidates)
        best = np.argsort(-scores, kind="stable")[:k]
        return [self.item_ids[candidates[i]] for i in best], [float(scores[i]) for i in best]

    def popular(self, k: int, without: npt.NDArray[np.int32] | None = None) -> list[str]:
        """The most popular items, but for some."""
        gone = set() if without is None else set(without.tolist())
        rows = [row for row in np.argsort(-self.popularity, kind="stable").tolist() if row not in gone]
        return [self.item_ids[row] for row in rows[:k]]


def make_world(seed: int = 7) -> World:
    """The same shop for the same seed."""
    random = np.random.default_rng(seed)
    centers = _unit(random.normal(size=(CLUSTERS, DIM)))
    cluster = random.permutation(np.repeat(np.arange(CLUSTERS, dtype=np.int32), ITEMS_A_CLUSTER)).astype(np.int32)
    vectors = _unit(centers[cluster] + random.normal(size=(NUM_ITEMS, DIM)) * 0.08).astype(np.float32)
    neighbors, weights = _graph(vectors, random)
    taste, past = _shoppers(cluster, random)
    popularity = np.zeros(NUM_ITEMS)
    for rows, _ in past.values():
        np.add.at(popularity, rows, 1 / 50)
    popularity += random.random(NUM_ITEMS) * 0.01
    meaning, look, content = _contents(cluster)
    return World(
        item_ids=[f"item-{row:04d}" for row in range(NUM_ITEMS)],
        titles=["" if row % 10 == 0 else f"Thing {row} of kind {cluster[row]} – “œ”" for row in range(NUM_ITEMS)],
        cluster=cluster,
        vectors=vectors,
        popularity=popularity.astype(np.float32),
        neighbors=neighbors,
        weights=weights,
        meaning=meaning,
        look=look,
        content=content,
        colours=[None if row % 5 == 0 else WORDS[kind] for row, kind in enumerate(cluster)],
        sizes=[SIZES[row % 3] for row in range(NUM_ITEMS)],
        user_ids=sorted(past, key=str.encode),
        taste=taste,
        past=past,
    )


def publish(
    world: World, root: Path, *, factory: str = "HNSW32,Flat", encoders: bool = True, **changed: Any
) -> Manifest:
    """Write a bundle of `world` below `root` and make it the active one. `changed` replaces fields of the manifest.

    `encoders=False` leaves the online encoders out.
    """
    with new_bundle(root) as draft:
        draft.strings("item_ids", IdTable.of(world.item_ids))
        draft.strings("titles", StringTable.of(world.titles))
        draft.strings("images", StringTable.of([f"images/{i}.jpg" for i in world.item_ids]))
        draft.coded("categories", CodedStrings.of([f"kind {c}" for c in world.cluster]))
        draft.coded("brands", CodedStrings.of([None] * NUM_ITEMS))
        draft.array("prices", np.full(NUM_ITEMS, np.nan, np.float32))
        draft.array("popularity", world.popularity)
        draft.array("item_vectors", world.vectors)
        draft.array("history_vectors", world.vectors)
        draft.array("look", world.look)
        draft.array("meaning", world.meaning)
        draft.array("content", world.content)
        draft.array("behaviour", world.vectors)
        draft.coded(attribute("colour"), CodedStrings.of(world.colours))
        draft.coded(attribute("size"), CodedStrings.of(world.sizes))
        for r, name in enumerate(RELATIONS):
            draft.array(f"graph.{name}.neighbors", world.neighbors[r])
            draft.array(f"graph.{name}.weights", world.weights[r])
        draft.strings("user_ids", IdTable.of(world.user_ids))
        draft.array(
            "history_offsets", np.cumsum([0, *(len(world.past[u][0]) for u in world.user_ids)]).astype(np.int64)
        )
        draft.array("history_items", np.concatenate([world.past[u][0] for u in world.user_ids]).astype(np.int32))
        draft.array("history_times", np.concatenate([world.past[u][1] for u in world.user_ids]).astype(np.int64))
        for name, model in models().items():
            onnx.save(model, str(draft.directory / f"{name}.onnx"))
        if encoders:
            write_encoders(draft.directory)
        write_index(draft.directory / "index.faiss", world.vectors, factory)
        described: dict[str, Any] = {
            "code_version": "0.1.0",
            "data_fingerprint": "planted",
            "as_of": AS_OF,
            "num_items": NUM_ITEMS,
            "num_users": len(world.user_ids),
            "dim": DIM,
            "history_length": HISTORY_LENGTH,
            "num_candidates": NUM_CANDIDATES,
            "relations": RELATIONS,
            "index": FaissIndex(
                factory=factory,
                dim=DIM,
                ntotal=NUM_ITEMS,
                ef_search=128 if factory.startswith("HNSW") else None,
                recall_at={100: 1.0},
                queries=len(world.user_ids),
            ),
            "models": {
                name: OnnxModel(opset=OPSET, inputs=inputs, outputs=outputs, parity_max_abs_diff=0.0, parity_cases=1)
                for name, (inputs, outputs) in signatures(DIM, len(RELATIONS)).items()
            },
            "encoders": {},
            "online_encoders": online_encoders() if encoders else OnlineEncoders(),
            "attributes": ("colour", "size"),
            "evaluation": Evaluation(
                protocol="planted", users=len(world.taste), metrics={"recall@20": 1.0}, baselines={}
            ),
        }
        manifest = draft.publish(**described | changed)
    activate(root, manifest.version)
    return manifest


def write_index(path: Path, vectors: npt.NDArray[np.float32], factory: str) -> None:
    """A FAISS index of `vectors` by inner product."""
    index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    index.add(vectors)
    faiss.write_index(index, str(path))


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
    words = _unit(np.random.default_rng(11).normal(size=(CLUSTERS, 384)))
    return np.concatenate([np.zeros((2, 384)), words]).astype(np.float32)


def _colour_axes() -> npt.NDArray[np.float32]:
    """(3, 512) RGB to the image encoder's space, angles kept."""
    return np.linalg.qr(np.random.default_rng(12).normal(size=(512, 3)))[0].T.astype(np.float32)


def _projections() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """What the fusion does: (384, 128) for texts, (512, 128) for images; angles are kept, more or less."""
    random = np.random.default_rng(0)
    text = random.normal(size=(384, 128)).astype(np.float32) / 20
    return text, random.normal(size=(512, 128)).astype(np.float32) / 20


def _contents(
    cluster: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """meaning, look and content of the items, as the planted encoders and the fusion would make them, and noise."""
    random = np.random.default_rng(13)
    by_text, by_image = _projections()
    colours = np.array([rgb_of(kind) for kind in range(CLUSTERS)]) / 127.5 - 1
    parts = []
    for centers, every in ((_word_vectors()[2:] @ by_text, 10), (colours @ _colour_axes() @ by_image, 7)):
        rows = _unit(_unit(centers)[cluster] + random.normal(size=(NUM_ITEMS, 128)) * 0.03)
        parts.append(np.where(np.arange(NUM_ITEMS)[:, None] % every == 0, 0, rows))
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


def _graph(
    vectors: npt.NDArray[np.float32], random: np.random.Generator
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Two relations: the nearest by cosine, and a random few of the nearest, with padding."""
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -1)
    near = np.argsort(-cosine, axis=1)[:, :DEGREE].astype(np.int32)
    weights = np.take_along_axis(cosine, near, axis=1)
    padded = random.random(near.shape) < 0.4
    return (
        np.stack([near, np.where(padded, -1, near)]).astype(np.int32),
        np.stack([weights, np.where(padded, 0, weights * 0.5)]).astype(np.float32),
    )


def _shoppers(
    cluster: npt.NDArray[np.int32], random: np.random.Generator
) -> tuple[dict[str, int], dict[str, tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]]]:
    names = [f"shopper-{n:03d}" for n in range(119)] + [ODD_ID]
    taste = {name: int(random.integers(CLUSTERS)) for name in names}
    past = {}
    for name, kind in taste.items():
        rows = random.choice(np.flatnonzero(cluster == kind), size=int(random.integers(3, 36)), replace=False)
        past[name] = (rows.astype(np.int32), np.sort(AS_OF - random.integers(0, 200 * DAY, len(rows))))
    past[WITHOUT_PAST] = (np.empty(0, np.int32), np.empty(0, np.int64))
    past[SEEN_ALL] = (np.arange(NUM_ITEMS, dtype=np.int32), np.full(NUM_ITEMS, AS_OF - DAY))
    return taste, past


def _unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
