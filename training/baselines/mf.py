"""Matrix factorisation: a shopper's and an item's vector are free, nothing is propagated.

With the BPR loss this is BPR-MF (Rendle et al. 2009, arXiv:1205.2618).
"""

from __future__ import annotations

from pathlib import Path

import scipy.sparse as sp
from torch import Tensor

from training.baselines.embedding_fit import EmbeddingSettings, FittedEmbeddings, OnEpoch, fit_embeddings
from training.baselines.embedding_model import EmbeddingModel


class MatrixFactorization(EmbeddingModel):
    """The final vectors are the free ones."""

    def training_table(self) -> Tensor:
        """(n + m, d)."""
        return self.ego


def fit_mf(
    train: sp.csr_matrix,
    settings: EmbeddingSettings,
    *,
    validation: sp.csr_matrix | None = None,
    epochs: int | None = None,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch = lambda done, most, curve: None,
) -> FittedEmbeddings:
    """Fit matrix factorisation; arguments as `fit_embeddings` has them."""
    model = MatrixFactorization(train.shape[0], train.shape[1], settings.dim, settings.seed)
    return fit_embeddings(
        model, train, settings, validation=validation, epochs=epochs, checkpoint=checkpoint, on_epoch=on_epoch
    )
