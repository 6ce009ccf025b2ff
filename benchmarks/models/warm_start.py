"""What Amazon Baby teaches a tower for Amazon Sports: validation recall@20 by epoch and by share of Sports' shoppers.

    python benchmarks/models/warm_start.py --out /tmp/warm_start.jsonl

Both shops' texts (Baby: titles of half of the items; Sports: keywords) are encoded by the same MiniLM; an item without
text takes the mean of its text neighbours. A share of the shoppers is fitted on; everyone judged has a history. A tenth
of Sports' items lose all interactions: strict cold start, ranked among themselves. The epoch is chosen on interactions
taken out of Sports' own train; validation is judged at that epoch.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from published_splits import data_root, load_relations, load_split

from offline_jobs.torchvision_cpu import mend_torchvision
from training.dataset import relation_matrix
from training.extended.history_softmax import Items, history_scores
from training.extended.warm_start import ContentTower, Shop, WarmStartSettings, fit_tower, new_tower, transfer
from training.ranking_metrics import per_user, rank_all
from training.sparse import Pattern

MODEL = Path.home() / ".cache/plotpointe/weights/all-MiniLM-L6-v2"
WIDTH = 96
EPOCHS = {0.1: 12, 0.3: 8, 1.0: 6}
SCALARS = ("gain", "degree_exponent", "popularity_gain", "log_temperature")
LEAVE: dict[str, Collection[str] | None] = {
    "scratch": None,
    "warm": ("identity",),
    "projection only": ("identity", *SCALARS),
    "scalars only": ("identity", "content.weight"),
    "warm, from shuffled content": ("identity",),
}


def contents(cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Text vectors of Baby and Sports on the main axes of both, encoded once into `cache`."""
    out = []
    for name in ("amazon-baby", "amazon-sports"):
        path = cache / f"{name}.npy"
        if not path.exists():
            np.save(path, _encoded(name))
        vectors = np.load(path, allow_pickle=False)
        near = load_relations(name)["text_knn"]
        without = np.flatnonzero(~vectors.any(1))
        weight = np.where(near.neighbors[without] >= 0, near.weights[without], 0)
        vectors[without] = np.einsum("nk,nkd->nd", weight, vectors[near.neighbors[without]])
        out.append(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))
    axes = np.linalg.eigh(out[0].T @ out[0] / len(out[0]) + out[1].T @ out[1] / len(out[1]))[1][:, -WIDTH:]
    return out[0] @ axes, out[1] @ axes


def _encoded(name: str) -> np.ndarray:
    mend_torchvision()
    from sentence_transformers import SentenceTransformer

    with gzip.open(data_root() / name / "items.jsonl.gz", "rt") as lines:
        texts = {row["itemID"]: row.get("title") or row.get("keywords", "") for row in map(json.loads, lines)}
    have = [item for item, text in texts.items() if text.strip()]
    out = np.zeros((max(texts) + 1, 384), np.float32)
    encoder = SentenceTransformer(str(MODEL), local_files_only=True)
    out[have] = encoder.encode([texts[item] for item in have], batch_size=128, normalize_embeddings=True)
    return out


def shop_of(name: str, train: sp.csr_matrix, content: np.ndarray) -> Shop:
    relations = load_relations(name)
    patterns = tuple(Pattern(relation_matrix(relations[kind])) for kind in ("text_knn", "image_knn"))
    return Shop(train, torch.from_numpy(content.astype(np.float32)), patterns)


@dataclass(frozen=True)
class Judged:
    known: sp.csr_matrix
    """All that is known of the shoppers: train without cold items and without what chooses the epoch."""
    chooses: sp.csr_matrix
    validation: sp.csr_matrix
    cold: np.ndarray
    """Item rows."""

    def recalls(self, items: Items) -> dict[str, float]:
        scores = history_scores(items, self.known)
        rng = np.random.default_rng(1)
        sampled = np.sort(rng.choice(np.flatnonzero(np.diff(self.validation.indptr)), 1_000, replace=False))
        return {
            "chooses": _recall(scores, np.flatnonzero(np.diff(self.chooses.indptr)), self.known, self.chooses),
            "validation": _recall(scores, sampled, self.known, self.validation),
            "cold": _recall(
                lambda users: scores(users)[:, self.cold],
                np.flatnonzero(np.diff(self.validation[:, self.cold].indptr))[::4],
                self.known[:, self.cold],
                self.validation[:, self.cold],
            ),
        }


def _recall(scores, users: np.ndarray, seen: sp.csr_matrix, relevant: sp.csr_matrix) -> float:
    return float(per_user(rank_all(scores, users, seen, k=20), relevant, [20])["recall@20"].mean())


def judged_sports(seed: int) -> Judged:
    split = load_split("amazon-sports")
    rng = np.random.default_rng([seed, 3])
    cold = np.sort(rng.choice(split.train.shape[1], split.train.shape[1] // 10, replace=False))
    warm = np.ones(split.train.shape[1], np.float32)
    warm[cold] = 0
    known = (split.train @ sp.diags(warm)).tocsr()
    known.eliminate_zeros()
    users = rng.choice(np.flatnonzero(np.diff(known.indptr) > 2), 1_000, replace=False)
    taken = known.indptr[users] + (rng.random(len(users)) * np.diff(known.indptr)[users]).astype(np.int64)
    chooses = sp.csr_matrix((np.ones(len(users), np.float32), (users, known.indices[taken])), known.shape)
    known = (known - chooses).tocsr()
    known.eliminate_zeros()
    return Judged(known.astype(np.float32), chooses, split.validation, cold)


def source_tower(content: np.ndarray, seed: int, shuffled: bool) -> ContentTower:
    if shuffled:
        content = content[np.random.default_rng(seed).permutation(len(content))]
    baby = shop_of("amazon-baby", load_split("amazon-baby").train, content)
    settings = WarmStartSettings(epochs=8, batch_size=1024, seed=seed)
    tower = new_tower(baby, settings)
    for _ in fit_tower(tower, baby, settings):
        pass
    return tower


def measure(share: float, variant: str, seed: int, cache: Path) -> dict[str, object]:
    baby, sports = contents(cache)
    judged = judged_sports(seed)
    fitted = np.random.default_rng([seed, 4]).random(judged.known.shape[0]) < share
    train = (sp.diags(fitted.astype(np.float32)) @ judged.known).tocsr().astype(np.float32)
    train.eliminate_zeros()
    shop = shop_of("amazon-sports", train, sports)
    settings = WarmStartSettings(epochs=EPOCHS[share], batch_size=512 if share < 0.5 else 1024, seed=seed)
    tower = new_tower(shop, settings)
    leave = LEAVE[variant]
    if leave is not None:
        transfer(source_tower(baby, seed, "shuffled" in variant), tower, leave=leave)
    start = time.perf_counter()
    curve = [judged.recalls(tower.fitted(shop))]
    for _ in fit_tower(tower, shop, settings):
        curve.append(judged.recalls(tower.fitted(shop)))
    best = int(np.argmax([point["chooses"] for point in curve]))
    return {
        "share": share,
        "variant": variant,
        "seed": seed,
        "interactions": int(train.nnz),
        "epoch": best,
        "curve": curve,
        "chosen": curve[best],
        "scalars": {name: getattr(tower, name).tolist() for name in SCALARS},
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; what it holds already is not done again")
    parser.add_argument("--cache", type=Path, default=Path("/tmp"), help="folder for the encoded texts")
    parser.add_argument("--shares", type=float, nargs="+", choices=list(EPOCHS), default=list(EPOCHS))
    parser.add_argument("--variants", nargs="+", choices=list(LEAVE), default=["scratch", "warm"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    done = {(row["share"], row["variant"], row["seed"]) for row in rows}
    for seed in given.seeds:
        for share in given.shares:
            for variant in given.variants:
                if (share, variant, seed) in done:
                    continue
                row = measure(share, variant, seed, given.cache)
                with given.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(share, variant, seed, row["epoch"], row["chosen"], round(row["seconds"], 1), flush=True)


if __name__ == "__main__":
    main()
