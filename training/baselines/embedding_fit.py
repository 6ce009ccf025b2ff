"""Fit an embedding model by Adam on one of three losses, with early stopping and a way to be taken up again.

A step gathers only the rows of its batch from the final table; the gradient is dense again when the model's own
propagation carries it back to the free vectors. All that an epoch draws is drawn at its start, from (seed, epoch).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from service.errors import DataError
from training.baselines.draws import NegativeDraw, unseen_items
from training.baselines.embedding_model import EmbeddingModel
from training.baselines.losses import bpr, sampled_softmax, top_k_threshold, top_k_weight
from training.baselines.vector_recall import vector_recall
from training.checkpoint import load_checkpoint, save_checkpoint
from training.evaluation.result import Epoch

K = 20
"""Early stopping looks at validation recall@K."""

OnEpoch = Callable[[int, int, Sequence[Epoch]], None]
"""Epochs done, most epochs, the curve so far."""


class EmbeddingSettings(BaseModel):
    """How a learned baseline is fitted."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    loss: Literal["bpr", "softmax", "slatk"] = "softmax"
    """Pairwise BPR on inner products; sampled softmax or SL@K on cosines."""
    dim: int = Field(64, ge=1)
    """Width of the vectors."""
    max_epochs: int = Field(200, ge=1)
    """Most epochs; the validation split chooses how many are kept."""
    evaluate_every: int = Field(2, ge=1)
    """Epochs between two looks at validation recall@20."""
    patience: int = Field(5, ge=1)
    """Looks without a new best before fitting stops."""
    learning_rate: float = Field(0.003, gt=0)
    """Adam's step size."""
    batch_size: int = Field(4096, ge=1)
    """Interactions a step."""
    regularization: float = Field(0.0, ge=0)
    """Weight of half the squared length of the free vectors of a step's shoppers and items, a mean over the batch."""
    temperature: float = Field(0.15, gt=0)
    """Divides the cosine (softmax, slatk)."""
    negatives: int = Field(1024, ge=1)
    """Items drawn for each step and shared by its batch (softmax, slatk)."""
    negative_power: float = Field(0.0, ge=0)
    """Items are drawn in proportion to degree to this power and corrected for it (softmax, slatk); 0 is uniform."""
    weight_temperature: float = Field(1.0, gt=0)
    """Softness of SL@K's weight."""
    top_k: int = Field(20, ge=1)
    """The K of SL@K."""
    seed: int = Field(0, ge=0)
    """Seeds vectors, order and negatives."""


@dataclass(frozen=True)
class FittedEmbeddings:
    """Vectors whose inner product is the score, and how they came about."""

    users: npt.NDArray[np.float32]
    """(n, d)."""
    items: npt.NDArray[np.float32]
    """(m, d)."""
    curve: tuple[Epoch, ...]
    """Every epoch that was run; its seconds are those of learning, without the look at validation."""
    epochs: int
    """Epochs of the kept vectors."""

    def __call__(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """A `Scores`: user rows (b,) -> scores (b, m) float32."""
        scores: npt.NDArray[np.float32] = self.users[rows] @ self.items.T
        return scores


class EmbeddingFit:
    """One model on its way: what a step and an epoch do."""

    def __init__(self, model: EmbeddingModel, train: sp.csr_matrix, settings: EmbeddingSettings) -> None:
        """`train` (n, m) binary float32 with sorted indices."""
        self.model, self.train, self.settings = model, train, settings
        self.optimizer = torch.optim.Adam([model.ego], lr=settings.learning_rate, fused=True)
        self._user = np.repeat(np.arange(train.shape[0]), np.diff(train.indptr))
        self._draw = NegativeDraw(train, settings.negatives, settings.negative_power)

    def epoch(self, number: int) -> float:
        """One pass over the interactions; returns the mean loss. Draws depend on (seed, number) alone."""
        random = np.random.default_rng([self.settings.seed, number])
        self.model.start_epoch(random)
        order = random.permutation(self.train.nnz)
        users, positives = self._user[order], self.train.indices[order].astype(np.int64)
        steps = max(1, math.ceil(len(order) / self.settings.batch_size))
        parts = [slice(len(order) * step // steps, len(order) * (step + 1) // steps) for step in range(steps)]
        if self.settings.loss == "bpr":
            negatives = unseen_items(random, self.train, users)
            rows = torch.from_numpy(np.stack([users, positives, negatives]))
            rows[1:] += self.model.num_users
            losses = [self._step(self._bpr(rows[:, part])) * (part.stop - part.start) for part in parts]
        else:
            threshold = self._threshold(random) if self.settings.loss == "slatk" else None
            losses = [
                self._step(self._softmax(users[part], positives[part], random, threshold)) * (part.stop - part.start)
                for part in parts
            ]
        return sum(losses) / len(order)

    def _step(self, loss: Tensor) -> float:
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach())

    def _bpr(self, rows: Tensor) -> Tensor:
        return bpr(*self._gather(rows).unbind()) + self._length(rows)

    def _softmax(
        self,
        users: npt.NDArray[np.int64],
        positives: npt.NDArray[np.int64],
        random: np.random.Generator,
        threshold: Tensor | None,
    ) -> Tensor:
        s = self.settings
        drawn, own = self._draw(random, positives)
        rows = torch.from_numpy(np.concatenate([users, positives + self.model.num_users, drawn + self.model.num_users]))
        unit = F.normalize(self._gather(rows), dim=1)
        of_users, of_positives, of_drawn = unit.tensor_split((len(users), 2 * len(users)))
        weight = None
        if threshold is not None:
            weight = top_k_weight(of_users, of_positives, threshold[torch.from_numpy(users)], s.weight_temperature)
        loss = sampled_softmax(
            of_users,
            of_positives,
            of_drawn,
            self._draw.log_expected(drawn),
            own,
            temperature=s.temperature,
            weight=weight,
        )
        return loss + self._length(rows[: 2 * len(users)].view(2, -1))

    def _gather(self, rows: Tensor) -> Tensor:
        """Rows of the final table; unlike indexing, the backward of `embedding` adds in one order and at full width."""
        return F.embedding(rows, self.model.training_table())

    def _length(self, rows: Tensor) -> Tensor | float:
        """The penalty of the free vectors (k, B)."""
        if not self.settings.regularization:
            return 0.0
        return self.settings.regularization / 2 * F.embedding(rows, self.model.ego).square().sum() / rows.shape[1]

    def _threshold(self, random: np.random.Generator) -> Tensor:
        users, items = self.vectors()
        drawn = torch.from_numpy(random.permutation(len(items))[: self.settings.negatives])
        return top_k_threshold(users, items, self.train, drawn, self.settings.top_k)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Vectors of shoppers (n, d) and items (m, d) whose inner product is the score."""
        table = self.model.table().detach()
        if self.settings.loss != "bpr":
            table = F.normalize(table, dim=1)
        return table[: self.model.num_users], table[self.model.num_users :]


def fit_embeddings(
    model: EmbeddingModel,
    train: sp.csr_matrix,
    settings: EmbeddingSettings,
    *,
    validation: sp.csr_matrix | None = None,
    epochs: int | None = None,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch = lambda done, most, curve: None,
) -> FittedEmbeddings:
    """Fit `model` on `train` (n, m) binary. With `validation` (n, m), stop early and keep the best epoch.

    Without it, exactly `epochs` are run, `settings.max_epochs` where that is not told. With `checkpoint`, a folder,
    each epoch is saved there and a later call with the same arguments goes on after the last one saved.
    Raises DataError where `train` holds nothing.
    """
    if not train.nnz:
        raise DataError(
            "no interaction to learn from", where="train", todo="Check what the split left in the training part"
        )
    fit = EmbeddingFit(model, train, settings)
    most = settings.max_epochs if epochs is None else epochs
    curve: list[Epoch] = []
    best: dict[str, Tensor] = {}
    if checkpoint is not None and (state := load_checkpoint(checkpoint, model, fit.optimizer)) is not None:
        best, curve = state.best, [Epoch(**one) for one in json.loads(state.note)]
    for number in range(len(curve), most):
        if _stalled(curve, settings.patience):
            break
        start = time.perf_counter()
        loss = fit.epoch(number)
        seconds = time.perf_counter() - start
        recall = None
        if validation is not None and ((number + 1) % settings.evaluate_every == 0 or number + 1 == most):
            recall = vector_recall(*fit.vectors(), train, validation, K)
        curve.append(Epoch(epoch=number + 1, loss=loss, validation_recall_at_20=recall, seconds=round(seconds, 3)))
        if validation is not None and best_epoch(curve) == number + 1:
            best = {name: value.detach().clone() for name, value in model.state_dict().items()}
        if checkpoint is not None:
            save_checkpoint(checkpoint, model, fit.optimizer, best, json.dumps([one.model_dump() for one in curve]))
        on_epoch(number + 1, most, curve)
    if best:
        model.load_state_dict(best)
    users, items = fit.vectors()
    return FittedEmbeddings(users.numpy().copy(), items.numpy().copy(), tuple(curve), best_epoch(curve))


def best_epoch(curve: Sequence[Epoch]) -> int:
    """The first epoch with the best validation recall@20; the last one where none was looked at."""
    looked = [(one.validation_recall_at_20, -one.epoch) for one in curve if one.validation_recall_at_20 is not None]
    return -max(looked)[1] if looked else len(curve)


def _stalled(curve: Sequence[Epoch], patience: int) -> bool:
    looked = [one for one in curve if one.validation_recall_at_20 is not None]
    return len(looked) > patience and best_epoch(curve) < looked[-patience].epoch
