"""Judge a fitted model on held-out interactions, beside simple models on the same split, with intervals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.bundle.manifest import Evaluation
from training import baselines
from training.dataset import Interactions
from training.evaluation.judge import KS, Fitted, judge_model
from training.evaluation.result import Epoch, ModelResult, PerUser, Protocol
from training.fit_reranker import FirstStage, rerank
from training.ranking_metrics import Ranking, Scores, to_find
from training.reranker import Reranker

Judged = tuple[ModelResult, PerUser]
RETRIEVAL, SERVED = "retrieval alone", "served"
"""Titles of the first stage, and of both."""


@dataclass(frozen=True)
class About:
    """What results say of where they come from."""

    dataset: str
    protocol: Protocol
    curve: tuple[Epoch, ...] = ()
    """Of the first stage."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """What both stages were fitted with."""
    first_seconds: float = 0.0
    """Of fitting the first stage."""
    fit_seconds: float = 0.0
    """Of both stages, and of the first stages that the re-ranker learned from."""


ABOUT = About("data", "B")


class EvaluateSettings(BaseModel):
    """What a model is judged beside."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    ease_max_items: int = Field(25_000, ge=0)
    """Most items with interactions for which EASE is dense: its memory is their square, its time their cube. Beyond, a
    sparse approximation stands for it."""
    ease_ridge: float = Field(100.0, gt=0)
    """EASE's ridge."""
    ials_factors: int = Field(128, ge=0)
    """Width of iALS; 0 leaves it out."""
    seed: int = 0
    """Seeds tie-breaking, iALS and the bootstrap."""


def judge(
    first: FirstStage,
    reranker: Reranker,
    known: Interactions,
    held_out: Interactions,
    settings: EvaluateSettings,
    *,
    num_candidates: int,
    protocol: str,
    about: About = ABOUT,
) -> tuple[Evaluation, list[Judged]]:
    """Rank every item for each warm shopper with held-out items that are new to him; `known` is masked.

    The model is judged as it is served: retrieval of `num_candidates`, then the re-ranker's order; an item that
    retrieval missed scores nothing. Returns what the manifest tells, and the result of each model.
    """
    seen, judged = known.matrix(), held_out.matrix()
    _, users = to_find(seen, judged)
    found: list[Judged] = []

    def measure(model: str, title: str, of: Fitted | Ranking, retrieved: Ranking | None = None) -> None:
        found.append(
            judge_model(
                model,
                title,
                of,
                seen,
                judged,
                dataset=about.dataset,
                protocol=about.protocol,
                seed=settings.seed,
                retrieved=retrieved,
            )
        )

    if len(users):
        candidates = first.retrieve(users, k=num_candidates)
        retrieved = Fitted(
            candidates,
            parameters=2 * first.tables.item_vectors.size,
            settings=about.settings,
            seconds=about.first_seconds,
        )
        measure("retrieval", RETRIEVAL, retrieved)
        best = rerank(reranker, first, candidates)
        reranked = replace(retrieved, ranks=best, curve=about.curve, seconds=about.fit_seconds)
        measure("served", SERVED, reranked, candidates)
        for model, title, fit in _baselines(known, settings):
            start = time.monotonic()
            scores = fit()
            measure(model, title, Fitted(scores, seconds=time.monotonic() - start))
    means = {
        result.title: {metric: round(estimate.mean, 5) for metric, estimate in result.metrics.items()}
        for result, _ in found
    }
    served = means.pop(SERVED, {})
    return Evaluation(protocol=protocol, users=len(users), metrics=served, baselines=means), found


def _baselines(known: Interactions, settings: EvaluateSettings) -> Iterator[tuple[str, str, Callable[[], Scores]]]:
    matrix = known.matrix()
    counts = np.asarray(matrix.sum(0)).ravel().astype(np.float32)
    yield "popularity", "popularity", lambda: baselines.popularity(counts)
    yield "item-knn", "ItemKNN", lambda: baselines.item_knn(matrix)
    if settings.ials_factors:
        yield "ials", "iALS", lambda: baselines.ials(matrix, factors=settings.ials_factors, seed=settings.seed)
    yield "rp3beta", "RP3beta", lambda: baselines.rp3beta(matrix, alpha=0.3, beta=0.1, neighbors=1000)
    if np.count_nonzero(counts) <= settings.ease_max_items:
        yield "ease", "EASE", lambda: baselines.ease(matrix, ridge=settings.ease_ridge)
    else:
        yield (
            "sparse-ease",
            "sparse EASE",
            lambda: baselines.sparse_ease(matrix, ridge=settings.ease_ridge, neighbors=100),
        )


def page(evaluation: Evaluation, results: Sequence[ModelResult]) -> str:
    """The comparison as a table that a person reads."""
    lines = [f"Held-out interactions of {evaluation.users} warm shoppers. {evaluation.protocol.capitalize()}.", ""]
    lines.append(f"{'model':<18}" + "".join(f"{f'{m}@{k}':>26}" for k in KS for m in ("recall", "ndcg")))
    for result in results:
        cells = (result.metrics[f"{m}@{k}"] for k in KS for m in ("recall", "ndcg"))
        row = (f"{c.mean:.4f} [{c.low:.4f}, {c.high:.4f}]" for c in cells)
        lines.append(f"{result.title:<18}" + "".join(f"{cell:>26}" for cell in row))
    for metric, value in next((r.metrics for r in results if r.title == SERVED), {}).items():
        if metric.startswith("candidate_"):
            name = metric.removeprefix("candidate_")
            lines.append(f"\nRetrieval finds {value.mean:.1%} of the held-out items ({name}).")
    return "\n".join(lines)
