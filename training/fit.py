"""Fit the GAT: each epoch hides half of the interactions, propagates the rest and learns to find the hidden ones.

The loss looks only at hidden edges, so no target edge ever takes part in message passing. Negatives are shared by
the batch, uniform, with the log correction that makes them estimate the full softmax.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from service.neighborhood import SECONDS_A_DAY
from training.checkpoint import load_checkpoint, save_checkpoint
from training.dataset import RELATIONS, Dataset, Interactions, degree_normalised, relation_matrix
from training.gat import Gat
from training.histories import histories, past_of, user_vectors
from training.ranking_metrics import per_user, rank_all
from training.sparse import Pattern
from training.threads import SMALL, torch_threads

log = logging.getLogger(__name__)


class FitSettings(BaseModel):
    """How the GAT is fitted."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    dim: int = Field(128, ge=8)
    """Width of item and user vectors; the last column carries popularity, the rest the learned vector."""
    heads: int = Field(4, ge=1)
    """Attention heads a relation."""
    head_dim: int = Field(8, ge=1)
    """Width of a head's queries and keys."""
    max_epochs: int = Field(24, ge=1)
    """Most epochs; the validation split chooses how many are kept."""
    patience: int = Field(3, ge=1)
    """Epochs without a clearly better validation recall@20 (by 0.2 %) before fitting stops."""
    learning_rate: float = Field(0.003, gt=0)
    """Adam's step size."""
    temperature: float = Field(0.15, gt=0)
    """Divides the cosine between shopper and item."""
    batch_size: int = Field(6000, ge=1)
    """Hidden interactions a step."""
    negatives: int = Field(1500, ge=1)
    """Items drawn for each step and shared by its batch."""
    hidden_share: float = Field(0.5, gt=0, lt=1)
    """Share of the interactions hidden in an epoch."""
    identity_dropout: float = Field(0.3, ge=0, lt=1)
    """Share of items that lose their own vector in a step, so that content learns to stand alone."""
    popularity_half_life: float = Field(0.35, gt=0)
    """Age at which a purchase counts half for popularity, as a share of the data's time span."""
    history_length: int = Field(50, ge=1)
    """Most past events of a shopper that the model looks at."""
    seed: int = 0
    """Seeds weights, hidden edges and negatives."""


@dataclass(frozen=True)
class Tables:
    """What a fitted GAT leaves for serving: plain tables."""

    item_vectors: npt.NDArray[np.float32]
    """(items, dim): unit vector / temperature, and the popularity logit in the last column."""
    history_vectors: npt.NDArray[np.float32]
    """(items, dim): what one event of the item adds to a shopper; 0 in the last column."""
    behaviour: npt.NDArray[np.float32]
    """(items, dim) unit rows by interactions alone; zero rows for items without any."""
    popularity: npt.NDArray[np.float32]
    """(items,) recency-weighted interactions."""
    decay_per_day: float
    """How fast an event of a shopper's history loses weight."""


@dataclass
class Curve:
    """What the epochs showed."""

    loss: list[float] = field(default_factory=list)
    recall_at_20: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def best_epochs(self) -> int:
        """Number of epochs with the best validation recall."""
        return int(np.argmax(self.recall_at_20)) + 1

    def stalled(self, patience: int) -> bool:
        """Whether the last `patience` epochs brought no clearly better recall than the best before them."""
        before, last = self.recall_at_20[:-patience], self.recall_at_20[-patience:]
        return bool(before) and max(last) < 1.002 * max(before)


class GatFit:
    """One fit on one set of interactions."""

    def __init__(self, dataset: Dataset, train: Interactions, settings: FitSettings) -> None:
        self.settings = settings
        self.train = train
        self.matrix = train.matrix()
        self.degree = np.asarray(self.matrix.sum(0)).ravel().astype(np.float32)
        self.popularity = train.popularity(settings.popularity_half_life)
        self.relations = [Pattern(relation_matrix(dataset.relations[name])) for name in RELATIONS]
        self.content = torch.from_numpy(dataset.content)
        self.known = torch.from_numpy((self.degree > 0).astype(np.float32))[:, None]
        self.log_popularity = torch.from_numpy(np.log(self.popularity + 0.3))
        self.full = Pattern(degree_normalised(self.matrix))
        torch.manual_seed(settings.seed)
        self.model = Gat(
            num_items=train.num_items,
            content_dim=dataset.content.shape[1],
            dim=settings.dim - 1,
            num_relations=len(RELATIONS),
            heads=settings.heads,
            head_dim=settings.head_dim,
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate)

    def epoch(self, number: int) -> float:
        """One pass; returns the mean loss. Its randomness depends on (seed, number) alone, so a resumed fit agrees."""
        s = self.settings
        rng = np.random.default_rng([s.seed, number])
        torch.manual_seed(int(rng.integers(2**31)))
        coo = self.matrix.tocoo()
        hidden = rng.random(coo.nnz) < s.hidden_share
        shown = sp.csr_matrix((coo.data[~hidden], (coo.row[~hidden], coo.col[~hidden])), coo.shape)
        propagate = Pattern(degree_normalised(shown))
        targets = np.flatnonzero(hidden)
        targets = targets[np.diff(shown.indptr)[coo.row[targets]] > 0]
        rng.shuffle(targets)
        degree = torch.from_numpy(self.degree)
        losses = []
        for batch in np.array_split(targets, max(1, math.ceil(len(targets) / s.batch_size))):
            if not len(batch):
                continue
            keep = self.known * (torch.rand(self.known.shape) >= s.identity_dropout)
            z = self.model.items(self.content, keep, self.relations, propagate)
            users, inverse = np.unique(coo.row[batch], return_inverse=True)
            shoppers = self.model.shoppers(z, degree, Pattern(shown[users]))
            loss = self._loss(
                z,
                shoppers.index_select(0, torch.from_numpy(inverse)),
                torch.from_numpy(coo.col[batch].astype(np.int64)),
                torch.from_numpy(rng.integers(0, self.train.num_items, s.negatives)),
            )
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            losses.append(loss.item())
        return float(np.mean(losses)) if losses else 0.0

    def _loss(self, z: Tensor, shoppers: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Sampled softmax: shoppers (b, d), positive (b,) and shared negative (k,) item rows -> scalar."""
        unit = F.normalize(z, dim=1)
        prior = self.model.prior(self.log_popularity)

        # index_select and not [...]: the gradient of the latter adds up in an order that differs from run to run.
        def rows(of: Tensor, index: Tensor) -> Tensor:
            return of.index_select(0, index)

        near = (shoppers * rows(unit, positive)).sum(1) / self.settings.temperature + rows(prior, positive)
        far = shoppers @ rows(unit, negative).T / self.settings.temperature + rows(prior, negative)
        correction = math.log(self.train.num_items / len(negative))
        return (torch.logsumexp(torch.cat([near[:, None], far + correction], 1), 1) - near).mean()

    @torch.no_grad()
    def tables(self, decay_per_day: float = 0.0) -> Tables:
        """The fitted model as tables, over the full graph."""
        m, s = self.model, self.settings
        unit = F.normalize(m.items(self.content, self.known, self.relations, self.full), dim=1)
        weight = m.history_weight(torch.from_numpy(self.degree))[:, None]
        prior = m.prior(self.log_popularity)[:, None]
        alone = F.normalize(m.items(self.content, self.known, self.relations, self.full, scale=0.0), dim=1) * self.known
        zero = torch.zeros_like(prior)
        return Tables(
            item_vectors=torch.cat([unit / s.temperature, prior], 1).numpy(),
            history_vectors=torch.cat([unit * weight, zero], 1).numpy(),
            behaviour=torch.cat([alone, zero], 1).numpy(),
            popularity=self.popularity,
            decay_per_day=decay_per_day,
        )


def validation_recall(tables: Tables, train: Interactions, judged: Interactions, length: int) -> float:
    """recall@20 of `judged` for shoppers and items of `train`, items already in `train` masked."""
    relevant, users = relevant_items(train, judged)
    if not len(users):
        return 0.0
    vectors = user_vectors(
        histories(past_of(train), now=train.as_of(), length=length), tables.history_vectors, tables.decay_per_day
    )
    ranking = rank_all(lambda rows: vectors[rows] @ tables.item_vectors.T, users, train.matrix(), k=20)
    return float(per_user(ranking, relevant, [20])["recall@20"].mean())


def relevant_items(train: Interactions, judged: Interactions) -> tuple[sp.csr_matrix, npt.NDArray[np.int64]]:
    """What is to be found: `judged` without what `train` already has, and the warm shoppers who have any of it."""
    seen = train.matrix()
    relevant = judged.matrix()
    relevant = (relevant - relevant.multiply(seen)).tocsr()
    relevant.eliminate_zeros()
    relevant.sort_indices()
    return relevant, np.flatnonzero((np.diff(seen.indptr) > 0) & (np.diff(relevant.indptr) > 0))


def fit_gat(
    dataset: Dataset,
    train: Interactions,
    settings: FitSettings,
    *,
    validation: Interactions | None,
    epochs: int | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, int, Curve], None] = lambda done, most, curve: None,
) -> tuple[GatFit, Curve]:
    """Fit on `train`. With `validation`, stop early and keep the best epoch; else run exactly `epochs`.

    With `checkpoint`, a folder, each epoch is saved there and a later call goes on after the last one saved.
    """
    fit = GatFit(dataset, train, settings)
    small = sum(relation.num_edges for relation in fit.relations) < SMALL
    most = settings.max_epochs if epochs is None else epochs
    curve = Curve()
    best: dict[str, Tensor] = {}
    if checkpoint is not None and (state := load_checkpoint(checkpoint, fit.model, fit.optimizer)) is not None:
        best = state.best
        curve = Curve(**json.loads(state.note))
    for number in range(len(curve.loss), most):
        if validation is not None and curve.stalled(settings.patience):
            break
        start = time.monotonic()
        with torch_threads(1 if small else None):
            curve.loss.append(fit.epoch(number))
        if validation is not None:
            curve.recall_at_20.append(validation_recall(fit.tables(), train, validation, settings.history_length))
        else:
            curve.recall_at_20.append(float(number))  # no judge: the last epoch is the best
        curve.seconds.append(round(time.monotonic() - start, 2))
        if curve.best_epochs == number + 1:
            best = {name: value.detach().clone() for name, value in fit.model.state_dict().items()}
        if checkpoint is not None:
            save_checkpoint(checkpoint, fit.model, fit.optimizer, best, json.dumps(curve.__dict__))
        on_epoch(number + 1, most, curve)
    fit.model.load_state_dict(best)
    return fit, curve


def choose_decay(fit: GatFit, validation: Interactions) -> float:
    """The decay of a history event's weight, per day, with the best validation recall@20; 0 is among the choices."""
    span_days = max((fit.train.as_of() - int(fit.train.timestamp.min())) / SECONDS_A_DAY, 1.0)
    choices = [0.0, *(math.log(2) / (span_days * share) for share in (1.0, 0.5, 0.25, 0.1))]
    tables = fit.tables()
    recalls = [
        validation_recall(replace(tables, decay_per_day=decay), fit.train, validation, fit.settings.history_length)
        for decay in choices
    ]
    return choices[int(np.argmax(recalls))]
