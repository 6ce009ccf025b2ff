"""A frozen item graph beside LightGCN, after FREEDOM (Zhou and Shen 2023, arXiv:2211.06924).

    user = LightGCN's,   item = LightGCN's + Sˡ E_items,   S = Σ_modality w · D^-½ A D^-½

A holds each item and its nearest by text or by image, without weights, and never changes. In training an epoch keeps a
share of the user-item edges, drawn without replacement in proportion to 1/√(degree · degree), normalised among
themselves; for use all edges are there. What is left out of FREEDOM is its second loss, BPR between shoppers and
projected raw features.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor

from service.neighborhood import Relation
from training.baselines.embedding_fit import EmbeddingSettings, FittedEmbeddings, OnEpoch, fit_embeddings
from training.baselines.embedding_model import EmbeddingModel
from training.baselines.lightgcn import Adjacency, UserItemGraph, propagate
from training.dataset import degree_normalised


def frozen_item_graph(relations: Mapping[str, Relation], weights: Mapping[str, float]) -> sp.csr_matrix:
    """S (m, m): the weighted sum of the relations named in `weights`, every edge and the item itself counting 1."""
    total: sp.csr_matrix | None = None
    for name, weight in weights.items():
        near = relations[name].neighbors
        row = np.repeat(np.arange(len(near)), near.shape[1])[(near >= 0).ravel()]
        edges = sp.csr_matrix((np.ones(len(row), np.float32), (row, near[near >= 0])), (len(near), len(near)))
        edges = edges + sp.identity(len(near), np.float32, format="csr")
        degree = np.asarray(edges.sum(1)).ravel()
        scale = sp.diags(degree**-0.5)
        part = weight * (scale @ edges @ scale)
        total = part if total is None else total + part
    assert total is not None, "an item graph needs at least one relation"
    return total.tocsr().astype(np.float32)


def degree_sensitive_sample(train: sp.csr_matrix, keep: float, random: np.random.Generator) -> sp.csr_matrix:
    """A share `keep` of the edges of a binary (n, m) matrix, few of those between shoppers and items that have many."""
    chance = degree_normalised(train)
    count = max(1, round(keep * train.nnz))
    # Efraimidis and Spirakis (2006): the smallest Exp(1)/w are a draw without replacement in proportion to w.
    order = np.argpartition(random.exponential(size=train.nnz) / chance.data, count - 1)[:count]
    row = np.repeat(np.arange(train.shape[0]), np.diff(chance.indptr))[order]
    return sp.csr_matrix((np.ones(count, np.float32), (row, chance.indices[order])), train.shape)


class _Multiply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Adjacency, transposed: Adjacency) -> Tensor:
        ctx.transposed = transposed
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transposed @ grads[0], None, None


class FrozenGraph(EmbeddingModel):
    """LightGCN over `train` (n, m) whose items take part in a frozen item graph `item_graph` (m, m)."""

    def __init__(
        self,
        train: sp.csr_matrix,
        item_graph: sp.csr_matrix,
        *,
        dim: int,
        layers: int,
        item_layers: int,
        keep: float,
        seed: int,
    ) -> None:
        """`keep` is the share of user-item edges that an epoch of training sees; 1 leaves none out."""
        super().__init__(train.shape[0], train.shape[1], dim, seed)
        self._train, self._layers, self._keep = train, layers, keep
        self._full = self._shown = UserItemGraph(train, layers)
        power = item_graph
        for _ in range(item_layers - 1):
            power = power @ item_graph
        self._similar, self._similar_back = Adjacency(power), Adjacency(power.T)

    def start_epoch(self, random: np.random.Generator) -> None:
        """Draw the epoch's user-item edges."""
        if self._keep < 1:
            self._shown = UserItemGraph(degree_sensitive_sample(self._train, self._keep, random), self._layers)

    def training_table(self) -> Tensor:
        """(n + m, d), over the epoch's edges."""
        return self._over(self._shown)

    def table(self) -> Tensor:
        """(n + m, d), over all edges."""
        with torch.no_grad():
            return self._over(self._full)

    def _over(self, graph: UserItemGraph) -> Tensor:
        final = propagate(graph, self.ego)
        similar: Tensor = _Multiply.apply(  # type: ignore[no-untyped-call]
            self.ego[self.num_users :], self._similar, self._similar_back
        )
        return torch.cat([final[: self.num_users], final[self.num_users :] + similar])


class FrozenGraphSettings(EmbeddingSettings):
    """How the frozen graph model is fitted."""

    layers: int = Field(2, ge=0)
    """Products with the user-item graph."""
    item_layers: int = Field(1, ge=1)
    """Products with the item graph."""
    text_weight: float = Field(0.9, ge=0, le=1)
    """Share of `text_knn` in the item graph; the rest is `image_knn`."""
    keep: float = Field(0.2, gt=0, le=1)
    """Share of the user-item edges that an epoch of training sees."""


def fit_frozen_graph(
    train: sp.csr_matrix,
    relations: Mapping[str, Relation],
    settings: FrozenGraphSettings,
    *,
    validation: sp.csr_matrix | None = None,
    epochs: int | None = None,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch = lambda done, most, curve: None,
) -> FittedEmbeddings:
    """Fit on `train` with the relations `text_knn` and `image_knn` (m items); other arguments as `fit_embeddings`."""
    graph = frozen_item_graph(relations, {"text_knn": settings.text_weight, "image_knn": 1 - settings.text_weight})
    model = FrozenGraph(
        train,
        graph,
        dim=settings.dim,
        layers=settings.layers,
        item_layers=settings.item_layers,
        keep=settings.keep,
        seed=settings.seed,
    )
    return fit_embeddings(
        model, train, settings, validation=validation, epochs=epochs, checkpoint=checkpoint, on_epoch=on_epoch
    )
