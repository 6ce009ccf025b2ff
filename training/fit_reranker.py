"""Fit the re-ranker on candidates of first stages that have not seen their labels.

A lesson is a first stage and later or hidden interactions that label its candidates. Shoppers are dealt into two
folds, each judged by a re-ranker fitted on the other, which chooses the number of epochs; none is a
choice, and so is to leave the order of retrieval as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from service.neighborhood import Relation, edges, no_places
from training.co_purchase import co_purchase_graph
from training.dataset import Interactions
from training.histories import Histories, histories, past_of, user_vectors
from training.ranking_metrics import Ranking, hits, per_user, rank_all, to_find
from training.reranker import NEGATIVE, Reranker
from training.tables import Tables


class RerankSettings(BaseModel):
    """How candidates are re-ranked, and how the re-ranker is fitted."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_candidates: int = Field(200, ge=1)
    """Items retrieved for each shopper (C)."""
    max_epochs: int = Field(12, ge=0)
    """Most epochs; two folds of shoppers choose how many are kept, none among them."""
    learning_rate: float = Field(0.003, gt=0)
    """Adam's step size."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's weight decay."""
    batch_size: int = Field(64, ge=1)
    """Shoppers a step."""
    max_users: int = Field(10_000, ge=2)
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
    places: npt.NDArray[np.int32]
    """Scratch of `edges`."""

    @classmethod
    def of(cls, tables: Tables, stored: tuple[Relation, ...], known: Interactions, *, length: int) -> FirstStage:
        """Shoppers as they stand after the interactions `known`, from which the relations by behaviour are made."""
        history = histories(past_of(known), now=known.as_of(), length=length)
        vectors = user_vectors(history, tables.history_vectors, tables.decay_per_day)
        seen = known.matrix()
        return cls(
            tables,
            (*stored, co_purchase_graph(seen), tables.linear),
            history,
            vectors,
            seen,
            no_places(known.num_items),
        )

    def retrieve(self, users: npt.NDArray[np.int64], *, k: int, among: npt.NDArray[np.bool_] | None = None) -> Ranking:
        """The exact k best items by inner product, without what the shopper has; of `among` (items,) alone."""
        items = self.tables.item_vectors.T
        return rank_all(lambda rows: self.vectors[rows] @ items, users, self.seen, k=k, among=among)

    def edges(self, user: int, candidates: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The item graph between one shopper's events and some candidates: (C, L, R); none for a candidate of -1."""
        history, there = self.history.of(user), candidates >= 0
        out = np.zeros((len(candidates), len(history.rows), len(self.relations)), np.float32)
        out[there] = edges(candidates[there].astype(np.int32), history, self.relations, self.places)
        return out

    def batches(self, ranking: Ranking, size: int) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """Arguments of `Reranker.score` for consecutive shoppers; histories are cut to the longest of the batch."""
        for start in range(0, len(ranking.users), size):
            part = slice(start, start + size)
            users, t = ranking.users[part], self.tables
            longest = max(1, int(self.history.mask[users].sum(1).max(initial=0)))
            rows, events = np.maximum(ranking.rows[part], 0), self.history.rows[users, :longest]
            candidates, past = (
                _unit(table[index, :-1]) for table, index in ((t.item_vectors, rows), (t.history_vectors, events))
            )
            scores = np.einsum("bcd,bd->bc", t.item_vectors[rows], self.vectors[users])
            near = [
                self.edges(int(user), row)[:, :longest] for user, row in zip(users, ranking.rows[part], strict=True)
            ]
            inputs = {
                "likeness": candidates @ past.transpose(0, 2, 1),
                "candidate_scores": np.where(ranking.rows[part] < 0, NEGATIVE, scores).astype(np.float32),
                "candidate_popularity": t.popularity[rows],
                "history_mask": self.history.mask[users, :longest],
                "history_age_days": self.history.age_days[users, :longest],
                "edges": np.stack(near),
            }
            yield part, {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in inputs.items()}


def _unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Unit rows (..., d); a zero row stays zero."""
    out: npt.NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-6)
    return out


@torch.no_grad()
def rerank_scores(
    model: Reranker, stage: FirstStage, ranking: Ranking, *, batch_size: int = 64
) -> npt.NDArray[np.float32]:
    """The re-ranker's score of each candidate, (m, C) as `ranking.rows`; -inf where there is none."""
    model.eval()
    parts = [model.score(**inputs)[0].numpy() for _, inputs in stage.batches(ranking, batch_size)]
    scores = np.concatenate(parts) if parts else np.zeros(ranking.rows.shape, np.float32)
    return np.where(ranking.rows < 0, np.float32(-np.inf), scores)


def rerank(model: Reranker, stage: FirstStage, ranking: Ranking) -> Ranking:
    """The same candidates in the re-ranker's order; equal scores stay in retrieval order."""
    order = np.argsort(-rerank_scores(model, stage, ranking), axis=1, kind="stable")
    return Ranking(ranking.users, np.take_along_axis(ranking.rows, order, 1))


@dataclass
class RerankCurve:
    """Cross-fitted recall@20, of retrieval alone and after each number of epochs, none among them."""

    retrieval: float
    recall_at_20: list[float]

    @property
    def best_epochs(self) -> int:
        """Number of epochs with the best recall; 0 where the blend is best as it starts."""
        return int(np.argmax(self.recall_at_20))

    @property
    def active(self) -> bool:
        """Whether re-ranking is better than leaving the order of retrieval as it is."""
        return max(self.recall_at_20) > self.retrieval


@dataclass(frozen=True)
class _Examples:
    """Shoppers with something to find among their candidates, in batches of like history length."""

    inputs: list[dict[str, Tensor]]
    """Arguments of `Reranker.score`."""
    hit: list[npt.NDArray[np.bool_]]
    """(b, C) which candidates are to be found."""
    wanted: list[npt.NDArray[np.int64]]
    """(b,) how many items each shopper is to find, among the candidates or not."""

    @classmethod
    def of(cls, stage: FirstStage, ranking: Ranking, relevant: sp.csr_matrix, size: int) -> _Examples:
        """Of those shoppers of the ranking who have anything to find in it."""
        hit = hits(ranking, relevant)
        useful = np.flatnonzero(hit.any(1))
        order = useful[np.argsort(stage.history.mask[ranking.users[useful]].sum(1), kind="stable")]
        ranking, hit = Ranking(ranking.users[order], ranking.rows[order]), hit[order]
        count = np.diff(relevant.indptr)[ranking.users].astype(np.int64)
        batches = list(stage.batches(ranking, size))
        return cls(
            [inputs for _, inputs in batches], [hit[part] for part, _ in batches], [count[part] for part, _ in batches]
        )

    def __add__(self, other: _Examples) -> _Examples:
        return _Examples(self.inputs + other.inputs, self.hit + other.hit, self.wanted + other.wanted)

    @torch.no_grad()
    def found(self, model: Reranker) -> float:
        """The sum of recall@20 over the shoppers."""
        model.eval()
        total = 0.0
        for inputs, hit, wanted in zip(self.inputs, self.hit, self.wanted, strict=True):
            best = np.argsort(-model.score(**inputs)[0].numpy(), axis=1, kind="stable")[:, :20]
            total += float((np.take_along_axis(hit, best, 1).sum(1) / wanted).sum())
        return total

    def epochs(self, model: Reranker, settings: RerankSettings, count: int) -> Iterator[float]:
        """Fit in place; yield the mean loss after each epoch: cross entropy of what is to be found over candidates."""
        if not self.inputs:
            return
        self._standardise(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        rng = np.random.default_rng(settings.seed)
        for _ in range(count):
            model.train()
            losses = []
            for index in rng.permutation(len(self.inputs)):
                scores, _attention = model.score(**self.inputs[index])
                target = torch.from_numpy(self.hit[index].astype(np.float32))
                target = target / target.sum(1, keepdim=True)
                loss = -(target * torch.log_softmax(scores, 1)).sum(1).mean()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(loss.item())
            yield float(np.mean(losses))

    @torch.no_grad()
    def _standardise(self, model: Reranker) -> None:
        """Set the mean and scale of the MLP's inputs from all candidates."""
        features = torch.cat([model.features(**inputs)[1].flatten(0, 1) for inputs in self.inputs])
        model.feature_mean.copy_(features.mean(0))
        model.feature_scale.copy_(features.std(0).clamp(min=1e-3))


@dataclass(frozen=True)
class Lesson:
    """A first stage, and interactions that it has not seen."""

    stage: FirstStage
    labels: Interactions
    known: Interactions
    """What the first stage was fitted on."""

    def examples(self, settings: RerankSettings) -> tuple[list[_Examples], float, int]:
        """Shoppers with any of the labels to find, in two folds; recall@20 of retrieval summed over them; how many.

        A shopper is in the same fold of every lesson.
        """
        relevant, users = to_find(self.known.matrix(), self.labels.matrix())
        rng = np.random.default_rng(settings.seed)
        fold = rng.permutation(self.known.num_users) % 2
        if len(users) > settings.max_users:
            users = np.sort(rng.choice(users, settings.max_users, replace=False))
        if not len(users):
            return [], 0.0, 0
        ranking = self.stage.retrieve(users, k=settings.num_candidates)
        retrieval = per_user(ranking, relevant, [20])["recall@20"].sum()
        parts = [_part(ranking, fold[users] == f) for f in (0, 1)]
        return [_Examples.of(self.stage, p, relevant, settings.batch_size) for p in parts], float(retrieval), len(users)


def fit_reranker(
    lessons: Sequence[Lesson],
    settings: RerankSettings,
    *,
    on_epoch: Callable[[int, int], None] = lambda done, most: None,
) -> tuple[Reranker, RerankCurve]:
    """Fit on the shoppers of all lessons who have any of the labels among their candidates."""
    folds, retrieval, shoppers = [_Examples([], [], []), _Examples([], [], [])], 0.0, 0
    for lesson in lessons:
        examples, found_alone, count = lesson.examples(settings)
        folds = [mine + more for mine, more in zip(folds, examples, strict=True)] if examples else folds
        retrieval, shoppers = retrieval + found_alone, shoppers + count
    num_relations = len(lessons[0].stage.relations)
    if not shoppers:
        return _new(num_relations, settings), RerankCurve(0.0, [0.0])
    found = np.zeros(settings.max_epochs + 1)
    for f in (0, 1):
        model = _new(num_relations, settings)
        found[0] += folds[f].found(model)
        for done, _ in enumerate(folds[1 - f].epochs(model, settings, settings.max_epochs), 1):
            found[done] += folds[f].found(model)
            on_epoch(f * settings.max_epochs + done, 3 * settings.max_epochs)
    curve = RerankCurve(retrieval / shoppers, (found / shoppers).tolist())
    final = _new(num_relations, settings)
    for done, _ in enumerate((folds[0] + folds[1]).epochs(final, settings, curve.best_epochs), 1):
        on_epoch(2 * settings.max_epochs + done, 3 * settings.max_epochs)
    final.active.fill_(float(curve.active))
    return final.eval(), curve


def _new(num_relations: int, settings: RerankSettings) -> Reranker:
    torch.manual_seed(settings.seed)
    return Reranker(num_relations=num_relations)


def _part(ranking: Ranking, chosen: npt.NDArray[np.bool_]) -> Ranking:
    return Ranking(ranking.users[chosen], ranking.rows[chosen])
