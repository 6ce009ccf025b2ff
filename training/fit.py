"""Fit the GAT: each epoch hides half of the interactions, propagates the rest and learns to find the hidden ones.

The loss looks only at hidden edges, so no target edge ever takes part in message passing. Negatives are shared by
the batch, uniform, with the log correction that makes them estimate the full softmax.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from service.errors import InputError
from service.neighborhood import Relation
from training.checkpoint import load_checkpoint, save_checkpoint
from training.dataset import LINEAR, Dataset, Interactions, degree_normalised, relation_matrix
from training.fit_settings import FitSettings
from training.gat import Gat
from training.sparse import Pattern
from training.spectral import spectral_features
from training.tables import Tables, side_by_side, validation_recall
from training.threads import SMALL, torch_threads

MEMBER_SEED = 1000
"""Between the seeds of two members."""


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


OnEpoch = Callable[[int, int, Curve], None]
"""Called after each epoch with how many are done, how many there are at most, and what they showed."""


class GatFit:
    """One fit on one set of interactions."""

    def __init__(self, dataset: Dataset, train: Interactions, settings: FitSettings, linear: Relation) -> None:
        self.settings = settings
        self.train = train
        self.matrix = train.matrix()
        self.degree = np.asarray(self.matrix.sum(0)).ravel().astype(np.float32)
        self.popularity = train.popularity(settings.popularity_half_life)
        self.linear = linear
        gains = settings.gains()
        graphs = {name: relation_matrix(self._edges(dataset, name)) for name in gains}
        self.relations = [Pattern(graph) for graph in graphs.values()]
        self.content = torch.from_numpy(dataset.content)
        if settings.spectral:
            whole = sum(gain * graphs[name] for name, gain in gains.items())
            features = spectral_features(whole, settings.spectral)
            self.content = torch.cat([self.content, torch.from_numpy(features)], 1)
        self.known = torch.from_numpy((self.degree > 0).astype(np.float32))[:, None]
        self.log_popularity = torch.from_numpy(np.log(self.popularity + 0.3))
        self.full = Pattern(degree_normalised(self.matrix))
        torch.manual_seed(settings.seed)
        self.model = Gat(
            num_items=train.num_items,
            content_dim=self.content.shape[1],
            dim=settings.width,
            gains=list(gains.values()),
            heads=settings.heads,
            head_dim=settings.head_dim,
            rounds=settings.rounds,
            fixed_gains=settings.fixed_gains,
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate)

    def _edges(self, dataset: Dataset, name: str) -> Relation:
        if name == LINEAR:
            kept = slice(None, self.settings.linear_edges)
            return Relation(self.linear.neighbors[:, kept], self.linear.weights[:, kept])
        if name not in dataset.relations:
            raise InputError(
                f"there is no relation {name!r}",
                where="--relations",
                todo=f"There are {', '.join((*dataset.relations, LINEAR))}",
            )
        return dataset.relations[name]

    def epoch(self, number: int) -> float:
        """One pass; returns the mean loss. Its randomness depends on (seed, number) alone, so a resumed fit agrees."""
        s = self.settings
        rng = np.random.default_rng([s.seed, number])
        torch.manual_seed(int(rng.integers(2**31)))
        coo = self.matrix.tocoo()
        hidden = rng.random(coo.nnz) < s.hidden_share
        shown = sp.csr_matrix((coo.data[~hidden], (coo.row[~hidden], coo.col[~hidden])), coo.shape)
        propagate = Pattern(degree_normalised(shown))
        hidden &= (np.diff(shown.indptr) > 0)[coo.row]
        wanted = sp.csr_matrix((coo.data[hidden], (coo.row[hidden], coo.col[hidden])), coo.shape)
        able = rng.permutation(np.flatnonzero(np.diff(wanted.indptr)))
        degree = torch.from_numpy(self.degree)
        losses = []
        for users in np.array_split(able, max(1, math.ceil(len(able) / s.batch_size))):
            if not len(users):
                continue
            keep = self.known * (torch.rand(self.known.shape) >= s.identity_dropout)
            candidates, events = self.model.items(self.content, keep, self.relations, propagate)
            loss = self._loss(
                candidates,
                self.model.shoppers(events, degree, Pattern(shown[users])),
                wanted[users],
                torch.from_numpy(rng.integers(0, self.train.num_items, s.negatives)),
            )
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            losses.append(loss.item())
        return float(np.mean(losses)) if losses else 0.0

    def _loss(self, candidates: Tensor, shoppers: Tensor, wanted: sp.csr_matrix, negative: Tensor) -> Tensor:
        """Sampled softmax: candidates (n, d), shoppers (b, d), wanted (b, n) positives, negative (k,) -> scalar."""
        unit = F.normalize(candidates, dim=1)
        prior = self.model.prior(self.log_popularity)
        of = torch.from_numpy(np.repeat(np.arange(wanted.shape[0]), np.diff(wanted.indptr)))
        positive = torch.from_numpy(wanted.indices.astype(np.int64))

        # index_select and not [...]: the gradient of the latter adds up in an order that differs from run to run.
        def rows(table: Tensor, index: Tensor) -> Tensor:
            return table.index_select(0, index)

        near = (rows(shoppers, of) * rows(unit, positive)).sum(1) / self.settings.temperature + rows(prior, positive)
        far = shoppers @ rows(unit, negative).T / self.settings.temperature + rows(prior, negative)
        correction = math.log(self.train.num_items / len(negative))
        others = torch.logsumexp(far + correction, 1)
        return (torch.logaddexp(rows(others, of), near) - near).mean()

    @torch.no_grad()
    def tables(self) -> Tables:
        """The fitted model as tables, over the full graph."""
        m, s = self.model, self.settings
        candidates, events = m.items(self.content, self.known, self.relations, self.full)
        alone, _ = m.items(self.content, self.known, self.relations, self.full, scale=0.0)
        weighted = events * m.history_weight(torch.from_numpy(self.degree))[:, None]
        weighted = weighted / weighted.norm(dim=1).mean().clamp(min=1e-12)
        prior = m.prior(self.log_popularity)[:, None]
        zero = torch.zeros_like(prior)
        return Tables(
            item_vectors=torch.cat([F.normalize(candidates, dim=1) / s.temperature, prior], 1).numpy(),
            history_vectors=torch.cat([weighted, zero], 1).numpy(),
            behaviour=torch.cat([F.normalize(alone, dim=1) * self.known, zero], 1).numpy(),
            popularity=self.popularity,
            decay_per_day=0.0,
            linear=self.linear,
        )


def fit_gat(
    dataset: Dataset,
    train: Interactions,
    settings: FitSettings,
    linear: Relation,
    *,
    validation: Interactions | None,
    epochs: int | None = None,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch = lambda done, most, curve: None,
) -> tuple[GatFit, Curve]:
    """Fit one network on `train`. With `validation`, stop early and keep the best epoch; else run exactly `epochs`.

    `linear` is the linear item graph of `train`. With `checkpoint`, a folder, each epoch is saved there and a later
    call goes on after the last one saved.
    """
    fit = GatFit(dataset, train, settings, linear)
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
        if validation is None:
            curve.recall_at_20.append(float(number))  # no judge: the last epoch is the best
        elif (number + 1) % settings.judge_every and number + 1 < most:
            curve.recall_at_20.append(curve.recall_at_20[-1] if number else 0.0)
        else:
            curve.recall_at_20.append(validation_recall(fit.tables(), train, validation, settings.history_length))
        curve.seconds.append(round(time.monotonic() - start, 2))
        if curve.best_epochs == number + 1:
            best = {name: value.detach().clone() for name, value in fit.model.state_dict().items()}
        if checkpoint is not None:
            save_checkpoint(checkpoint, fit.model, fit.optimizer, best, json.dumps(curve.__dict__))
        on_epoch(number + 1, most, curve)
    fit.model.load_state_dict(best)
    return fit, curve


def fit_members(
    dataset: Dataset,
    train: Interactions,
    settings: FitSettings,
    linear: Relation,
    *,
    validation: Interactions | None,
    epochs: int | None = None,
    checkpoint: Path,
    on_epoch: OnEpoch = lambda done, most, curve: None,
    on_member: Callable[[int, Gat], None] = lambda member, network: None,
) -> tuple[Tables, Curve]:
    """Fit every member and set them side by side; with `validation`, the first one chooses the epochs of all.

    `on_member` is called with each fitted network.
    """
    tables = []
    chosen = Curve()
    for member in range(settings.members):
        judged = validation if member == 0 else None
        fit, curve = fit_gat(
            dataset,
            train,
            settings.model_copy(update={"seed": settings.seed + MEMBER_SEED * member}),
            linear,
            validation=judged,
            epochs=chosen.best_epochs if member and epochs is None else epochs,
            checkpoint=checkpoint / str(member),
            on_epoch=on_epoch,
        )
        chosen = chosen if member else curve
        tables.append(fit.tables())
        on_member(member, fit.model)
    return side_by_side(tables), chosen
