"""Fit the re-ranker on candidates of a first stage that has not seen their labels.

The first stage was fitted on the training split; its candidates are labelled by the validation split. Users are
dealt into two folds, each judged by a re-ranker fitted on the other, which chooses the number of epochs; none is a
choice, and then re-ranking leaves the order of retrieval as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from service.neighborhood import Relation, edges
from training.dataset import Interactions
from training.fit import Tables, relevant_items
from training.histories import Histories, histories, past_of, user_vectors
from training.ranking_metrics import Ranking, hits, per_user, rank_all
from training.reranker import Reranker


class RerankSettings(BaseModel):
    """How candidates are re-ranked, and how the re-ranker is fitted."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_candidates: int = Field(200, ge=1)
    """Items retrieved for each shopper (C)."""
    max_epochs: int = Field(8, ge=0)
    """Most epochs; two folds of shoppers choose how many are kept, none among them."""
    learning_rate: float = Field(0.003, gt=0)
    """Adam's step size."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's weight decay."""
    batch_size: int = Field(64, ge=1)
    """Shoppers a step."""
    max_users: int = Field(3000, ge=2)
    """Most shoppers to fit on, drawn by seed."""
    seed: int = 0
    """Seeds weights, folds and order."""


@dataclass(frozen=True)
class FirstStage:
    """Everything that retrieval and re-ranking need of one fitted first stage."""

    tables: Tables
    relations: tuple[Relation, ...]
    history: Histories
    vectors: npt.NDArray[np.float32]
    """(users, dim)."""
    seen: sp.csr_matrix

    @classmethod
    def of(cls, tables: Tables, relations: tuple[Relation, ...], known: Interactions, *, length: int) -> FirstStage:
        """Shoppers as they stand after the interactions `known`."""
        history = histories(past_of(known), now=known.as_of(), length=length)
        vectors = user_vectors(history, tables.history_vectors, tables.decay_per_day)
        return cls(tables, relations, history, vectors, known.matrix())

    def retrieve(self, users: npt.NDArray[np.int64], *, k: int) -> Ranking:
        """The exact k best items by inner product, without what the shopper has."""
        return rank_all(lambda rows: self.vectors[rows] @ self.tables.item_vectors.T, users, self.seen, k=k)

    def inputs(self, user: int, candidates: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float32]]:
        """One shopper's re-ranker inputs, without the batch dimension; names as the ONNX signature."""
        history, t = self.history.of(user), self.tables
        rows = np.maximum(candidates, 0).astype(np.int32)
        return {
            "candidate_vectors": t.item_vectors[rows],
            "candidate_scores": t.item_vectors[rows] @ self.vectors[user],
            "candidate_popularity": t.popularity[rows],
            "history_vectors": t.history_vectors[history.rows],
            "history_mask": history.mask,
            "history_age_days": history.age_days,
            "edges": edges(rows, history, self.relations),
        }

    def batches(self, ranking: Ranking, size: int) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """Stacked re-ranker inputs of consecutive shoppers; histories are cut to the longest of the batch."""
        for start in range(0, len(ranking.users), size):
            part = slice(start, start + size)
            users = ranking.users[part]
            longest = max(1, int(self.history.mask[users].sum(1).max(initial=0)))
            each = [self.inputs(int(user), rows) for user, rows in zip(users, ranking.rows[part], strict=True)]
            stacked = {name: np.stack([inputs[name] for inputs in each]) for name in each[0]}
            for name in ("history_vectors", "history_mask", "history_age_days"):
                stacked[name] = stacked[name][:, :longest]
            stacked["edges"] = stacked["edges"][:, :, :longest]
            yield part, {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in stacked.items()}


@torch.no_grad()
def rerank(model: Reranker, stage: FirstStage, ranking: Ranking, *, batch_size: int = 64) -> Ranking:
    """The same candidates in the re-ranker's order; equal scores stay in retrieval order."""
    model.eval()
    out = ranking.rows.copy()
    for part, inputs in stage.batches(ranking, batch_size):
        scores = model(**inputs)[0].numpy().copy()
        scores[ranking.rows[part] < 0] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")
        out[part] = np.take_along_axis(ranking.rows[part], order, 1)
    return Ranking(ranking.users, out)


@dataclass
class RerankCurve:
    """Cross-fitted recall@20 after each number of epochs; the first entry is retrieval alone."""

    recall_at_20: list[float]

    @property
    def best_epochs(self) -> int:
        """Number of epochs with the best recall; 0 where retrieval alone is best."""
        return int(np.argmax(self.recall_at_20))


def fit_reranker(
    stage: FirstStage,
    labels: Interactions,
    known: Interactions,
    settings: RerankSettings,
    *,
    on_epoch: Callable[[int, int], None] = lambda done, most: None,
) -> tuple[Reranker, RerankCurve]:
    """Fit on shoppers with any of `labels` among their candidates; `known` is what the first stage was fitted on."""
    relevant, users = relevant_items(known, labels)
    rng = np.random.default_rng(settings.seed)
    if len(users) > settings.max_users:
        users = np.sort(rng.choice(users, settings.max_users, replace=False))
    if len(users) < 2:
        return _new(stage, settings), RerankCurve([0.0])
    ranking = stage.retrieve(users, k=settings.num_candidates)
    fold = rng.permutation(len(users)) % 2
    total = 3 * settings.max_epochs
    recalls = np.zeros((2, settings.max_epochs + 1))
    for f in (0, 1):
        inside: npt.NDArray[np.bool_] = fold == f
        judged = _part(ranking, inside)
        recalls[f, 0] = _recall(judged, relevant)
        model = _new(stage, settings)
        steps = _fit(model, stage, _part(ranking, ~inside), relevant, settings, settings.max_epochs)
        for done, _ in enumerate(steps, 1):
            recalls[f, done] = _recall(rerank(model, stage, judged), relevant)
            on_epoch(f * settings.max_epochs + done, total)
    curve = RerankCurve((np.bincount(fold, minlength=2) @ recalls / len(users)).tolist())
    final = _new(stage, settings)
    for done, _ in enumerate(_fit(final, stage, ranking, relevant, settings, curve.best_epochs), 1):
        on_epoch(2 * settings.max_epochs + done, total)
    return final.eval(), curve


def _new(stage: FirstStage, settings: RerankSettings) -> Reranker:
    torch.manual_seed(settings.seed)
    return Reranker(dim=stage.tables.item_vectors.shape[1], num_relations=len(stage.relations))


def _part(ranking: Ranking, chosen: npt.NDArray[np.bool_]) -> Ranking:
    return Ranking(ranking.users[chosen], ranking.rows[chosen])


def _recall(ranking: Ranking, relevant: sp.csr_matrix) -> float:
    return float(per_user(ranking, relevant, [20])["recall@20"].mean())


def _fit(
    model: Reranker,
    stage: FirstStage,
    ranking: Ranking,
    relevant: sp.csr_matrix,
    settings: RerankSettings,
    epochs: int,
) -> Iterator[float]:
    """Yield the mean loss after each epoch: cross entropy of the labels over the shopper's candidates."""
    hit = hits(ranking, relevant)
    useful = hit.any(1)
    if not epochs or not useful.any():
        return
    # Histories of like length share a batch, so that little of it is padding.
    order = np.flatnonzero(useful)[np.argsort(stage.history.mask[ranking.users[useful]].sum(1), kind="stable")]
    ranking, hit = Ranking(ranking.users[order], ranking.rows[order]), hit[order]
    batches = list(stage.batches(ranking, settings.batch_size))
    _standardise(model, [inputs for _, inputs in batches])
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    rng = np.random.default_rng(settings.seed)
    for _ in range(epochs):
        model.train()
        losses = []
        for index in rng.permutation(len(batches)):
            part, inputs = batches[index]
            scores, _attention = model(**inputs)
            scores = scores.masked_fill(torch.from_numpy(ranking.rows[part] < 0), -1e4)
            target = torch.from_numpy(hit[part].astype(np.float32))
            target = target / target.sum(1, keepdim=True)
            loss = -(target * torch.log_softmax(scores, 1)).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        yield float(np.mean(losses))


@torch.no_grad()
def _standardise(model: Reranker, batches: list[dict[str, Tensor]]) -> None:
    """Set the mean and scale of the MLP's inputs from all candidates that the model is fitted on."""
    features = torch.cat([model.features(**inputs)[0].flatten(0, 1) for inputs in batches])
    model.feature_mean.copy_(features.mean(0))
    model.feature_scale.copy_(features.std(0).clamp(min=1e-3))
