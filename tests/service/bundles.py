"""A small shop with planted taste, and real bundles of it: real ONNX models, a real FAISS index, the real writer.

Items lie in clusters and each shopper buys from one of them, so what is right to recommend is known. Every model is
simple enough to be repeated in NumPy (`World.user_vector`, `World.rerank_scores`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import onnx

from service.bundle.files import CodedStrings, IdTable, StringTable
from service.bundle.manifest import Evaluation, FaissIndex, Manifest, OnlineEncoders, OnnxModel
from service.bundle.reader import attribute
from service.bundle.signatures import signatures
from service.bundle.store import activate
from service.bundle.writer import new_bundle
from tests.service.planted_models import (
    CLUSTERS,
    DIM,
    OPSET,
    RELATIONS,
    WORDS,
    contents,
    models,
    online_encoders,
    rgb_of,
    unit,
    write_encoders,
)

__all__ = ["CLUSTERS", "DIM", "OPSET", "RELATIONS", "WORDS", "make_world", "models", "publish", "rgb_of", "write_index"]

ITEMS_A_CLUSTER = 50
NUM_ITEMS = CLUSTERS * ITEMS_A_CLUSTER
HISTORY_LENGTH = 20
NUM_CANDIDATES = 100
DEGREE = 8
DAY = 86_400
AS_OF = 1_600_000_000

SIZES = ("S", "M", "L")
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
    centers = unit(random.normal(size=(CLUSTERS, DIM)))
    cluster = random.permutation(np.repeat(np.arange(CLUSTERS, dtype=np.int32), ITEMS_A_CLUSTER)).astype(np.int32)
    vectors = unit(centers[cluster] + random.normal(size=(NUM_ITEMS, DIM)) * 0.08).astype(np.float32)
    neighbors, weights = _graph(vectors, random)
    taste, past = _shoppers(cluster, random)
    popularity = np.zeros(NUM_ITEMS)
    for rows, _ in past.values():
        np.add.at(popularity, rows, 1 / 50)
    popularity += random.random(NUM_ITEMS) * 0.01
    meaning, look, content = contents(cluster)
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
