"""A bundle of 498,196 items and 192,403 shoppers with made-up vectors, for measuring the service at full size.

    python -m benchmarks.serving.synthetic_bundle --models-of var/demo/bundles/VERSION --bundles var/full/bundles

The ONNX models are those of a trained bundle; so are the shape of the vectors (items of length 1 / .15, one column of
popularity, which the user tower weighs with 1) and the sparsity of the graph. What lies where is made up: 4,000
clusters of Zipf sizes in 40 departments, one item in eight with purchases, shoppers who buy from three clusters of a
department and from what is popular. Every fifth shopper has 50 events, the others 4 to 12. The index is built and
measured as the offline stage does it. Nothing can be said of quality. Takes 10 minutes of one core, nearly all for the
index.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from offline_jobs.index import IndexSettings, build_index
from service.bundle.files import CodedStrings, IdTable, StringTable
from service.bundle.manifest import Manifest, OnlineEncoders
from service.bundle.reader import read_manifest
from service.bundle.signatures import FUSED_DIM, RERANKER, USER_TOWER
from service.bundle.store import activate
from service.bundle.writer import Draft, new_bundle
from service.onnx_model import OnnxModel

ITEMS, SOLD, USERS = 498_196, 63_001, 192_403
CLUSTERS, DEPARTMENTS, COLOURS = 4_000, 40, 12
LATENT, SPREAD = 8, 0.8
"""Dimensions that the items of a cluster differ in, and how far: a graph index finds its way by them. By the 100
nearest of an item they come to 7; a bundle trained on Amazon Baby has 6. Noise in all 127 comes to 38, and needs a
search 16 times deeper."""
LENGTH = np.float32(1 / 0.15)
"""Of an item's vector but for the popularity: the trained model's."""
EVENTS, EVERY = 50, 5
"""Every fifth shopper has 50 events."""
DEGREES = {"text_knn": 20, "image_knn": 20, "co_purchase": 20, "linear": 200}
AS_OF = 1_406_160_000
YEAR = 365 * 86_400
QUERIES = 1_000

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


def unit(vectors: Floats) -> Floats:
    """Rows of length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Shop:
    """Items in clusters, and who bought what."""

    def __init__(self, items: int, dim: int, seed: int) -> None:
        self.random = random = np.random.default_rng(seed)
        self.items, self.dim = items, dim
        departments = unit(self._noise(DEPARTMENTS))
        centers = unit(departments[np.arange(CLUSTERS) % DEPARTMENTS] + self._noise(CLUSTERS))
        axes = self._noise(CLUSTERS * LATENT).reshape(CLUSTERS, LATENT, -1)
        share = 1 / np.arange(1, CLUSTERS + 1)
        self.cluster_share = share / share.sum()
        self.cluster = random.choice(CLUSTERS, items, p=self.cluster_share).astype(np.int32)
        own = random.standard_normal((items, LATENT), np.float32) / np.float32(np.sqrt(LATENT))
        taste = centers[self.cluster] + np.float32(0.02) * self._noise(items)
        for cluster in range(CLUSTERS):
            rows = np.flatnonzero(self.cluster == cluster)
            taste[rows] += np.float32(SPREAD) * (own[rows] @ axes[cluster])
        self.taste = unit(taste)
        """(items, dim - 1) unit rows."""
        self.sold = np.sort(random.choice(items, min(SOLD, items // 2), replace=False)).astype(np.int32)
        self.weight = np.zeros(items)
        self.weight[self.sold] = 1 / np.arange(1, len(self.sold) + 1)[random.permutation(len(self.sold))] ** 0.7
        self.popularity = (self.weight / self.weight[self.sold].mean() * 10).astype(np.float32)

    def item_vectors(self) -> Floats:
        """(items, dim)"""
        column = 0.45 * np.log1p(self.popularity)
        return np.concatenate([LENGTH * self.taste, column[:, None]], 1, dtype=np.float32)

    def history_vectors(self) -> Floats:
        """(items, dim) the same direction, about as long as trained ones."""
        length = self.random.normal(1.1, 0.1, (self.items, 1)).astype(np.float32)
        return np.concatenate([length * self.taste, np.zeros((self.items, 1))], 1, dtype=np.float32)

    def neighbors(self, degree: int, among: Ints) -> Ints:
        """(items, degree) rows `among` which are of the same cluster, or of the next one."""
        order = among[np.argsort(self.cluster[among], kind="stable")]
        place = np.searchsorted(self.cluster[order], self.cluster, side="left")
        ends = np.searchsorted(self.cluster[order], self.cluster, side="right")
        start = place + (self.random.random(self.items) * np.maximum(ends - place - degree, 1)).astype(np.int64)
        return order[(start[:, None] + np.arange(degree)) % len(order)]

    def histories(self, users: int) -> list[Ints]:
        """Distinct rows of each shopper, oldest first: four in five from three clusters, the others from anywhere."""
        order = self.sold[np.argsort(self.cluster[self.sold], kind="stable")]
        starts = np.searchsorted(self.cluster[order], np.arange(CLUSTERS + 1))
        cumulative = np.concatenate([[0.0], np.cumsum(self.weight[order])])
        filled = np.flatnonzero(np.diff(starts) >= 10)
        share = self.cluster_share[filled] / self.cluster_share[filled].sum()
        out = []
        for user in range(users):
            wanted = EVENTS if user % EVERY == 0 else int(self.random.integers(4, 13))
            mine = self._clusters(filled, share)
            rows = np.empty(0, np.int32)
            while len(rows) < wanted:
                near = mine[self.random.integers(0, 3, 2 * wanted)]
                anywhere = self.random.random(2 * wanted) < 0.2
                low = np.where(anywhere, 0.0, cumulative[starts[near]])
                high = np.where(anywhere, cumulative[-1], cumulative[starts[near + 1]])
                drawn = order[
                    np.searchsorted(cumulative, low + self.random.random(len(near)) * (high - low), side="right") - 1
                ]
                rows = np.fromiter(dict.fromkeys([*rows.tolist(), *drawn.tolist()]), np.int32)
            out.append(rows[:wanted])
        return out

    def _clusters(self, filled: npt.NDArray[np.int64], share: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Three clusters of one department."""
        first = self.random.choice(filled, p=share)
        alike = filled % DEPARTMENTS == first % DEPARTMENTS
        return np.append(first, self.random.choice(filled[alike], 2, p=share[alike] / share[alike].sum()))

    def _noise(self, count: int) -> Floats:
        return self.random.standard_normal((count, self.dim - 1), np.float32) / np.float32(np.sqrt(self.dim - 1))


def write_catalogue(draft: Draft, shop: Shop) -> None:
    """Ids, texts, columns and the tables by content."""
    random, items = shop.random, shop.items
    draft.strings("item_ids", IdTable.of(f"B{row:09d}" for row in range(items)))
    draft.strings(
        "titles",
        StringTable.of(f"Thing {row} of kind {kind}, as titles are long" for row, kind in enumerate(shop.cluster)),
    )
    draft.strings("images", StringTable.of([""] * items))
    draft.coded("categories", CodedStrings.of([f"Electronics > {c % DEPARTMENTS}" for c in shop.cluster]))
    draft.coded("brands", CodedStrings.of([f"brand {b}" for b in random.integers(0, 5_000, items)]))
    draft.coded("attribute.colour", CodedStrings.of([f"colour {c}" for c in random.integers(0, COLOURS, items)]))
    draft.array("prices", np.exp(random.normal(3.5, 1.2, items)).astype(np.float32))
    draft.array("popularity", shop.popularity)
    content = unit(np.concatenate([shop.taste, np.full((items, FUSED_DIM - shop.dim + 1), 0.1, np.float32)], 1))
    for name in ("look", "meaning", "content", "behaviour"):
        draft.array(name, content)


def write_graph(draft: Draft, shop: Shop) -> None:
    """Every relation of the trained bundle, as dense as it is there."""
    everything = np.arange(shop.items, dtype=np.int32)
    for name, degree in DEGREES.items():
        rows = shop.neighbors(degree, shop.sold if name in ("co_purchase", "linear") else everything)
        weights = shop.random.random(rows.shape, np.float32) * np.float32(0.01 if name == "linear" else 0.8)
        if name == "co_purchase":
            alone = np.ones(shop.items, bool)
            alone[shop.sold] = False
            rows[alone], weights[alone] = -1, 0
        draft.array(f"graph.{name}.neighbors", rows)
        draft.array(f"graph.{name}.weights", weights)


def shopper_vectors(tower: OnnxModel, histories: list[Ints], vectors: Floats) -> Floats:
    """(q, dim) of shoppers with EVENTS events."""
    rows = np.stack([history[::-1] for history in histories])
    feeds = {
        "history_vectors": vectors[rows],
        "history_mask": np.ones(rows.shape, np.float32),
        "history_age_days": np.tile(np.linspace(0, 365, EVENTS, dtype=np.float32), (len(rows), 1)),
    }
    return tower.run("user_vector", feeds)


def write(root: Path, source: Path, *, items: int, users: int, seed: int) -> Manifest:
    """Write the bundle below `root` and make it the active one; `source` is the bundle with the models."""
    trained = read_manifest(source)
    shop = Shop(items, trained.dim, seed)
    histories = shop.histories(users)
    lengths = np.array([len(history) for history in histories])
    with new_bundle(root) as draft:
        write_catalogue(draft, shop)
        write_graph(draft, shop)
        vectors, past = shop.item_vectors(), shop.history_vectors()
        draft.array("item_vectors", vectors)
        draft.array("history_vectors", past)
        draft.strings("user_ids", IdTable.of(f"A{user:09d}" for user in range(users)))
        draft.array("history_offsets", np.concatenate([[0], np.cumsum(lengths)]))
        draft.array("history_items", np.concatenate(histories))
        draft.array(
            "history_times",
            np.concatenate([np.linspace(AS_OF - YEAR, AS_OF, length).astype(np.int64) for length in lengths]),
        )
        for name in trained.models:
            draft.file(f"{name}.onnx", source / f"{name}.onnx")
        queries = shopper_vectors(OnnxModel(source / f"{USER_TOWER}.onnx"), histories[:: EVERY * 8][:QUERIES], past)
        index, described = build_index(vectors, queries, trained.num_candidates, IndexSettings())
        faiss.write_index(index, str(draft.directory / "index.faiss"))
        manifest = draft.publish(
            code_version=trained.code_version,
            data_fingerprint="synthetic",
            as_of=AS_OF,
            num_items=items,
            num_users=users,
            dim=trained.dim,
            history_length=trained.history_length,
            num_candidates=trained.num_candidates,
            relations=tuple(DEGREES),
            index=described,
            models=trained.models,
            encoders=trained.encoders,
            online_encoders=OnlineEncoders(),
            attributes=("colour",),
            evaluation=trained.evaluation,
        )
    activate(root, manifest.version)
    return manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models-of", type=Path, required=True, help="folder of a trained bundle")
    parser.add_argument("--bundles", type=Path, required=True, help="root folder to publish below")
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    manifest = write(given.bundles, given.models_of, items=given.items, users=given.users, seed=given.seed)
    inputs = manifest.models[RERANKER].inputs["edges"].shape
    print(manifest.version, manifest.index.model_dump_json(), "edges of the re-ranker:", inputs)


if __name__ == "__main__":
    main()
