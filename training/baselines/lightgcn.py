"""LightGCN (He et al. 2020, arXiv:2002.02126): free vectors averaged along the edges of the user-item graph.

    E⁽ᵏ⁺¹⁾ = Â E⁽ᵏ⁾,   final = 1/(L+1) Σₖ E⁽ᵏ⁾,   Â = D^-½ [0 R; Rᵀ 0] D^-½

No transform, no non-linearity: `final` is linear in E and Â is symmetric, so that the gradient with respect to E is
the same propagation of the gradient with respect to `final`. Autograd keeps no layer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor

from training.baselines.embedding_fit import EmbeddingSettings, FittedEmbeddings, OnEpoch, fit_embeddings
from training.baselines.embedding_model import EmbeddingModel
from training.dataset import degree_normalised
from training.sparse import csr_times


class Adjacency:
    """A sparse (n, m) matrix with 32-bit indices."""

    def __init__(self, matrix: sp.csr_matrix) -> None:
        csr = matrix.tocsr()
        self._crow = torch.from_numpy(csr.indptr.astype(np.int32))
        self._col = torch.from_numpy(csr.indices.astype(np.int32))
        self._values = torch.from_numpy(csr.data.astype(np.float32))

    def __matmul__(self, x: Tensor) -> Tensor:
        """(m, d) float32 -> (n, d), without gradient."""
        return csr_times(self._crow, self._col, self._values, x)


class UserItemGraph:
    """Â of a binary (n, m) matrix of interactions, as CSR over n + m rows with 32-bit indices."""

    def __init__(self, train: sp.csr_matrix, layers: int) -> None:
        self.layers = layers
        normalised = degree_normalised(train)
        self._adjacency = Adjacency(sp.bmat([[None, normalised], [normalised.T, None]], format="csr"))

    def mean_of_layers(self, x: Tensor) -> Tensor:
        """1/(L+1) Σₖ Âᵏ x: (n + m, d) float32 -> (n + m, d), without gradient.

        Horner's form, x + Â(x + Â(x + …)), keeps one layer at a time.
        """
        total = x
        for _ in range(self.layers):
            total = (self._adjacency @ total).add_(x)
        return total.mul_(1 / (self.layers + 1)) if self.layers else x.clone()


class _Propagate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: UserItemGraph, x: Tensor) -> Tensor:
        ctx.graph = graph
        return graph.mean_of_layers(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        return None, ctx.graph.mean_of_layers(grads[0])


def propagate(graph: UserItemGraph, x: Tensor) -> Tensor:
    """The mean of all layers: (n + m, d) -> (n + m, d); differentiable in x."""
    out: Tensor = _Propagate.apply(graph, x)  # type: ignore[no-untyped-call]
    return out


class LightGcn(EmbeddingModel):
    """LightGCN over the interactions `train` (n, m)."""

    def __init__(self, train: sp.csr_matrix, *, dim: int, layers: int, seed: int) -> None:
        super().__init__(train.shape[0], train.shape[1], dim, seed)
        self.graph = UserItemGraph(train, layers)

    def training_table(self) -> Tensor:
        """(n + m, d)."""
        return propagate(self.graph, self.ego)


class LightGcnSettings(EmbeddingSettings):
    """How LightGCN is fitted."""

    layers: int = Field(3, ge=0)
    """Products with the graph; 0 is matrix factorisation."""


def fit_lightgcn(
    train: sp.csr_matrix,
    settings: LightGcnSettings,
    *,
    validation: sp.csr_matrix | None = None,
    epochs: int | None = None,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch = lambda done, most, curve: None,
) -> FittedEmbeddings:
    """Fit LightGCN; arguments as `fit_embeddings` has them."""
    model = LightGcn(train, dim=settings.dim, layers=settings.layers, seed=settings.seed)
    return fit_embeddings(
        model, train, settings, validation=validation, epochs=epochs, checkpoint=checkpoint, on_epoch=on_epoch
    )
