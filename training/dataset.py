"""What models are fitted on: interactions by row and split, and the item graph, read from a work folder."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from service.neighborhood import SECONDS_A_DAY, Relation
from training.stage import require

TRAIN, VALIDATION, TEST = 0, 1, 2
UNTOLD = -1


@dataclass(frozen=True)
class Interactions:
    """Who interacted with what and when; aligned arrays, in time order as they come from the `split` stage."""

    user_row: npt.NDArray[np.int32]
    item_row: npt.NDArray[np.int32]
    timestamp: npt.NDArray[np.int64]
    """Unix seconds."""
    split: npt.NDArray[np.int8]
    """0 train, 1 validation, 2 test."""
    num_users: int = UNTOLD
    """Users of the shop; as many as the rows show where it is not told."""
    num_items: int = UNTOLD
    """Items of the shop; as many as the rows show where it is not told."""

    def __post_init__(self) -> None:
        """Count users and items where the caller did not tell how many there are."""
        for size, rows in (("num_users", self.user_row), ("num_items", self.item_row)):
            if getattr(self, size) == UNTOLD:
                object.__setattr__(self, size, int(rows.max(initial=-1)) + 1)

    def __len__(self) -> int:
        return len(self.user_row)

    def where(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Interactions:
        """The rows of a mask (rows,), or some rows by number in that order; over the same users and items."""
        return Interactions(
            self.user_row[keep],
            self.item_row[keep],
            self.timestamp[keep],
            self.split[keep],
            self.num_users,
            self.num_items,
        )

    def within(self, splits: Collection[int]) -> Interactions:
        """The interactions of some splits, over the same users and items."""
        return self.where(np.isin(self.split, list(splits)))

    def matrix(self) -> sp.csr_matrix:
        """Binary (users, items) float32; repeated purchases count once."""
        ones = np.ones(len(self.user_row), np.float32)
        matrix = sp.csr_matrix((ones, (self.user_row, self.item_row)), (self.num_users, self.num_items))
        matrix.sum_duplicates()
        matrix.data[:] = 1.0
        matrix.sort_indices()
        return matrix

    def as_of(self) -> int:
        """Unix seconds of the newest interaction; 0 where there is none."""
        return int(self.timestamp.max()) if len(self.timestamp) else 0

    def popularity(self, half_life_share: float) -> npt.NDArray[np.float32]:
        """Interactions an item, each halved for every `half_life_share` of the time span that it is old: (items,)."""
        span = max(float(self.as_of() - self.timestamp.min()), SECONDS_A_DAY) if len(self.timestamp) else 1.0
        age = (self.as_of() - self.timestamp) / (half_life_share * span)
        return np.bincount(self.item_row, weights=0.5**age, minlength=self.num_items).astype(np.float32)


@dataclass(frozen=True)
class Dataset:
    """Everything a fit reads."""

    interactions: Interactions
    content: npt.NDArray[np.float32]
    """(items, c): what the model knows of an item before anyone bought it, the fused vector and that of its words."""
    relations: dict[str, Relation]
    """Relation name -> item graph of that edge type."""


STORED: tuple[str, ...] = ("text_knn", "image_knn")
"""Edge types by content, which the `graphs` stage has made."""
CO_PURCHASE, LINEAR = "co_purchase", "linear"
"""Edge types by behaviour, which every fit makes of the interactions it is given (`co_purchase.py`, `linear.py`)."""
LEARNED: tuple[str, ...] = (CO_PURCHASE, LINEAR)
RELATIONS: tuple[str, ...] = (*STORED, *LEARNED)
"""Edge types that the re-ranker sees, in this order."""


def load_interactions(work: Path) -> Interactions:
    """Read the `split` stage."""
    with np.load(require(work, "split") / "interactions.npz", allow_pickle=False) as arrays:
        user_row, item_row = arrays["user_row"], arrays["item_row"]
        timestamp, split = arrays["timestamp"], arrays["split"]
    ingest = require(work, "ingest")
    num_users, num_items = (
        int(pl.scan_parquet(ingest / name).select(pl.len()).collect().item())
        for name in ("users.parquet", "items.parquet")
    )
    return Interactions(user_row, item_row, timestamp, split, num_users, num_items)


def load_relation(path: Path) -> Relation:
    """Read one constant-degree item graph."""
    with np.load(path, allow_pickle=False) as arrays:
        return Relation(arrays["neighbors"].astype(np.int32), arrays["weights"].astype(np.float32))


def load_dataset(work: Path) -> Dataset:
    """Read the stages `split`, `fusion`, `lexical_embeddings` and `graphs` of a work folder."""
    graphs = require(work, "graphs")
    content = [
        np.load(require(work, stage) / name, allow_pickle=False).astype(np.float32)
        for stage, name in (("fusion", "fused.npy"), ("lexical_embeddings", "vectors.npy"))
    ]
    return Dataset(
        interactions=load_interactions(work),
        content=np.concatenate(content, axis=1),
        relations={name: load_relation(graphs / f"{name}.npz") for name in STORED},
    )


def relation_matrix(relation: Relation, *, weighted: bool = True) -> sp.csr_matrix:
    """Symmetric-normalised adjacency (items, items) of a constant-degree graph: max(A, Aᵀ), then D^-1/2 A D^-1/2.

    Without weights every edge counts 1.
    """
    n, degree = relation.neighbors.shape
    rows = np.repeat(np.arange(n), degree)
    cols, weights = relation.neighbors.ravel(), relation.weights.ravel()
    kept = (cols >= 0) & (weights > 0)
    values = weights[kept] if weighted else np.ones(int(kept.sum()), np.float32)
    matrix = sp.csr_matrix((values, (rows[kept], cols[kept])), (n, n))
    matrix = matrix.maximum(matrix.T)
    total = np.asarray(matrix.sum(1)).ravel()
    scale = sp.diags(1.0 / np.sqrt(np.maximum(total, 1e-12)))
    return (scale @ matrix @ scale).tocsr().astype(np.float32)


def degree_normalised(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """R̂ = D_u^-1/2 R D_i^-1/2 of a binary (users, items) matrix."""
    users = np.asarray(matrix.sum(1)).ravel()
    items = np.asarray(matrix.sum(0)).ravel()
    return (
        (sp.diags(1 / np.sqrt(np.maximum(users, 1))) @ matrix @ sp.diags(1 / np.sqrt(np.maximum(items, 1))))
        .tocsr()
        .astype(np.float32)
    )
