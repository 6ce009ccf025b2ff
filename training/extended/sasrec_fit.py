"""Fit SASRec: after each event, find the next one among all items, or among shared uniform negatives.

The loss is cross-entropy and not the paper's binary one: with one negative a positive the latter overrates popular
items (Klenitskiy & Vasilev 2023, arXiv:2309.07602; gSASRec, Petrov & Macdonald 2023, arXiv:2308.07192). Events of one
moment have no order among themselves; each epoch draws one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from service.neighborhood import SECONDS_A_DAY
from training.checkpoint import load_checkpoint, save_checkpoint
from training.dataset import Interactions
from training.extended.sasrec import NEGATIVE, Clock, SasRec
from training.fit import Curve
from training.histories import Past, past_of
from training.ranking_metrics import Scores, per_user, rank_all, to_find
from training.threads import torch_threads

Loss = Literal["softmax", "bce"]


class SasRecSettings(BaseModel):
    """How SASRec is built and fitted."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    dim: int = Field(64, ge=4)
    """Width of item vectors."""
    blocks: int = Field(2, ge=1)
    """Layers of self-attention."""
    heads: int = Field(2, ge=1)
    """Attention heads a layer; they divide the width."""
    length: int = Field(50, ge=1)
    """Newest events of a shopper that the model looks at."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """Share of values dropped after the embeddings, in the attention and after each layer."""
    clock: Clock = "both"
    """What tells events apart in time: their place in the order, their age at the request, both, or none."""
    temperature: float = Field(0.15, ge=0)
    """Divides the cosine between what is wanted and an item; 0 takes the paper's inner product instead."""
    loss: Loss = "softmax"
    """Cross-entropy over items, or `bce`, the paper's binary loss with one negative an event."""
    negatives: int = Field(1000, ge=1)
    """Items drawn for each step and shared by its batch; as many as the shop has, or more, take all of them."""
    batch_size: int = Field(256, ge=1)
    """Shoppers a step."""
    learning_rate: float = Field(0.003, gt=0)
    """Adam's step size."""
    max_epochs: int = Field(20, ge=1)
    """Most epochs; the validation split chooses how many are kept."""
    patience: int = Field(3, ge=1)
    """Epochs without a clearly better validation recall@20 (by 0.2 %) before fitting stops."""
    seed: int = 0
    """Seeds weights, order within a moment, batches, dropout and negatives."""

    @model_validator(mode="after")
    def _heads_fit(self) -> SasRecSettings:
        if self.dim % self.heads:
            raise ValueError(f"heads must divide dim, got {self.heads} and {self.dim}")
        return self


class SasRecFit:
    """One fit on one set of interactions."""

    def __init__(self, train: Interactions, settings: SasRecSettings) -> None:
        self.settings, self.train = settings, train
        self.past = past_of(train)
        self.start = int(self.past.times.min(initial=train.as_of()))
        counts = np.bincount(self.past.items, minlength=train.num_items).astype(np.float32)
        self.log_popularity = torch.from_numpy(np.log(counts + np.float32(0.3)))
        torch.manual_seed(settings.seed)
        self.model = SasRec(
            num_items=train.num_items,
            dim=settings.dim,
            blocks=settings.blocks,
            heads=settings.heads,
            length=settings.length,
            dropout=settings.dropout,
            clock=settings.clock,
            temperature=settings.temperature,
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98))

    def epoch(self, number: int) -> float:
        """One pass; returns the mean loss. Its randomness depends on (seed, number) alone, so a resumed fit agrees."""
        s = self.settings
        rng = np.random.default_rng([s.seed, number])
        torch.manual_seed(int(rng.integers(2**31)))
        past = in_any_order(self.past, rng)
        count = np.minimum(np.diff(past.offsets), s.length + 1)
        users = rng.permutation(np.flatnonzero(count > 1))
        # Sequences of like length share a batch, so that little of it is padding.
        users = users[np.argsort(count[users], kind="stable")]
        batches = np.array_split(users, max(1, math.ceil(len(users) / s.batch_size)))
        self.model.train()
        losses = []
        for index in rng.permutation(len(batches)):
            if not len(batches[index]):
                continue
            loss = self._loss(*self._padded(past, batches[index], s.length + 1), rng)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            losses.append(loss.item())
        return float(np.mean(losses)) if losses else 0.0

    def _padded(self, past: Past, users: npt.NDArray[np.int64], length: int) -> tuple[Tensor, Tensor, Tensor]:
        """The last `length` events, oldest first: items (b, T) int64, mask (b, T), days since the start (b, T)."""
        count = np.minimum(past.offsets[users + 1] - past.offsets[users], length)
        width = max(1, int(count.max(initial=0)))
        mask = np.arange(width) >= width - count[:, None]
        index = (past.offsets[users + 1][:, None] - width + np.arange(width))[mask]
        rows, days = np.zeros(mask.shape, np.int64), np.zeros(mask.shape, np.float32)
        rows[mask] = past.items[index]
        days[mask] = (past.times[index] - self.start) / SECONDS_A_DAY
        return torch.from_numpy(rows), torch.from_numpy(mask.astype(np.float32)), torch.from_numpy(days)

    def _loss(self, rows: Tensor, mask: Tensor, days: Tensor, rng: np.random.Generator) -> Tensor:
        """Mean over all events but the first of each shopper; arguments (b, T) as `_padded`."""
        shown = mask[:, :-1]
        wanted = self.model(rows[:, :-1], shown, days[:, :-1], days[:, 1:])
        kept = shown.reshape(-1).nonzero().squeeze(1)
        wanted = wanted.flatten(0, 1).index_select(0, kept)  # (n, d)
        target = rows[:, 1:].reshape(-1).index_select(0, kept)  # (n,)
        if self.settings.loss == "softmax" and self.settings.negatives >= self.train.num_items:
            return F.cross_entropy(self.model.scores(wanted, self.model.item, self.log_popularity), target)
        near = self._pairs(wanted, target)
        if self.settings.loss == "bce":
            drawn = torch.from_numpy(rng.integers(0, self.train.num_items, len(target)))
            return (F.softplus(-near) + F.softplus(self._pairs(wanted, drawn))).mean()
        negative = torch.from_numpy(rng.integers(0, self.train.num_items, self.settings.negatives))
        items, prior = (of.index_select(0, negative) for of in (self.model.item, self.log_popularity))
        far = self.model.scores(wanted, items, prior)
        return sampled_softmax(near, far, negative[None] == target[:, None], self.train.num_items)

    def _pairs(self, wanted: Tensor, rows: Tensor) -> Tensor:
        """The score of one item for each (n, d) of what is wanted: (n,)."""
        items, prior = (of.index_select(0, rows) for of in (self.model.item, self.log_popularity))
        return self.model.pair_scores(wanted, items, prior)

    def scores(self, now: int) -> Scores:
        """Every item for shoppers who ask at `now` (unix seconds), after all events of the fit; none is masked."""
        past = in_any_order(self.past, np.random.default_rng([self.settings.seed, 2**31]))
        asked = (now - self.start) / SECONDS_A_DAY

        @torch.no_grad()
        def scored(users: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
            self.model.eval()
            rows, mask, days = self._padded(past, users, self.settings.length)
            then = torch.cat([days[:, 1:], torch.full_like(days[:, :1], asked)], 1)
            wanted = self.model(rows, mask, days, then)[:, -1]
            out: npt.NDArray[np.float32] = self.model.scores(wanted, self.model.item, self.log_popularity).numpy()
            return out

        return scored

    def recall_at_20(self, judged: Interactions) -> float:
        """recall@20 of `judged` for warm shoppers who ask when it begins, items already bought masked."""
        seen = self.train.matrix()
        relevant, users = to_find(seen, judged.matrix())
        if not len(users):
            return 0.0
        ranking = rank_all(self.scores(int(judged.timestamp.min())), users, seen, k=20)
        return float(per_user(ranking, relevant, [20])["recall@20"].mean())


def sampled_softmax(near: Tensor, far: Tensor, same: Tensor, num_items: int) -> Tensor:
    """Cross-entropy over `num_items`, estimated from k items drawn uniformly: the mean over n targets.

    Scores of the targets (n,) and of the drawn items (n, k); `same` (n, k) tells where a target itself was drawn.
    """
    far = far.masked_fill(same, NEGATIVE) + math.log(num_items / far.shape[1])
    return (torch.logsumexp(torch.cat([near[:, None], far], 1), 1) - near).mean()


def in_any_order(past: Past, rng: np.random.Generator) -> Past:
    """The same events, those of one shopper and moment in a drawn order."""
    user = np.repeat(np.arange(len(past.offsets) - 1), np.diff(past.offsets))
    order = np.lexsort((rng.random(len(user)), past.times, user))
    return Past(past.offsets, past.items[order], past.times[order])


def fit_sasrec(
    train: Interactions,
    settings: SasRecSettings,
    *,
    validation: Interactions | None,
    epochs: int | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, int, Curve], None] = lambda done, most, curve: None,
) -> tuple[SasRecFit, Curve]:
    """Fit on `train`. With `validation`, stop early and keep the best epoch; else run exactly `epochs`.

    With `checkpoint`, a folder, each epoch is saved there and a later call goes on after the last one saved. One
    thread: the same seed gives the same weights bit for bit.
    """
    fit = SasRecFit(train, settings)
    most = settings.max_epochs if epochs is None else epochs
    curve = Curve()
    best: dict[str, Tensor] = {}
    if checkpoint is not None and (state := load_checkpoint(checkpoint, fit.model, fit.optimizer)) is not None:
        best, curve = state.best, Curve(**json.loads(state.note))
    for number in range(len(curve.loss), most):
        if validation is not None and curve.stalled(settings.patience):
            break
        start = time.monotonic()
        with torch_threads(1):
            curve.loss.append(fit.epoch(number))
            if validation is not None:
                curve.recall_at_20.append(fit.recall_at_20(validation))
                if curve.best_epochs == number + 1:
                    best = {name: value.clone() for name, value in fit.model.state_dict().items()}
        curve.seconds.append(time.monotonic() - start)
        if checkpoint is not None:
            save_checkpoint(checkpoint, fit.model, fit.optimizer, best, json.dumps(vars(curve)))
        on_epoch(number + 1, most, curve)
    if best:
        fit.model.load_state_dict(best)
    fit.model.eval()
    return fit, curve
