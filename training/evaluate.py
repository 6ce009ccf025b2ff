"""Judge a fitted model on held-out interactions, beside simple models on the same split, with intervals."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.bundle.manifest import Evaluation
from training import baselines
from training.dataset import Interactions
from training.evaluation.judge import KS, judge_model
from training.fit_reranker import FirstStage, rerank
from training.ranking_metrics import Ranking, Scores, to_find
from training.reranker import Reranker

Details = dict[str, dict[str, dict[str, float]]]
"""Model name -> metric -> {mean, low, high}."""


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
) -> tuple[Evaluation, Details]:
    """Rank every item for each warm shopper with held-out items that are new to him; `known` is masked.

    The model is judged as it is served: retrieval of `num_candidates`, then the re-ranker's order; an item that
    retrieval missed scores nothing.
    """
    seen, judged = known.matrix(), held_out.matrix()
    _, users = to_find(seen, judged)
    details: Details = {}

    def measure(name: str, ranks: Scores | Ranking, retrieved: Ranking | None = None) -> None:
        result, _ = judge_model(
            "model", name, ranks, seen, judged, dataset="work", protocol="B", seed=settings.seed, retrieved=retrieved
        )
        details[name] = {metric: estimate.model_dump() for metric, estimate in result.metrics.items()}

    if len(users):
        candidates = first.retrieve(users, k=num_candidates)
        measure("retrieval alone", candidates)
        measure("served", rerank(reranker, first, candidates), candidates)
        for baseline, scores in _baselines(known, settings).items():
            measure(baseline, scores)
    means = {
        model: {metric: round(value["mean"], 5) for metric, value in metrics.items()}
        for model, metrics in details.items()
    }
    served = means.pop("served", {})
    return Evaluation(protocol=protocol, users=len(users), metrics=served, baselines=means), details


def _baselines(known: Interactions, settings: EvaluateSettings) -> dict[str, Scores]:
    matrix = known.matrix()
    counts = np.asarray(matrix.sum(0)).ravel().astype(np.float32)
    fitted: dict[str, Scores] = {"popularity": baselines.popularity(counts), "ItemKNN": baselines.item_knn(matrix)}
    if settings.ials_factors:
        fitted["iALS"] = baselines.ials(matrix, factors=settings.ials_factors, seed=settings.seed)
    fitted["RP3beta"] = baselines.rp3beta(matrix, alpha=0.3, beta=0.1, neighbors=1000)
    if np.count_nonzero(counts) <= settings.ease_max_items:
        fitted["EASE"] = baselines.ease(matrix, ridge=settings.ease_ridge)
    else:
        fitted["sparse EASE"] = baselines.sparse_ease(matrix, ridge=settings.ease_ridge, neighbors=100)
    return fitted


def page(evaluation: Evaluation, details: Details) -> str:
    """The comparison as a table that a person reads."""
    lines = [f"Held-out interactions of {evaluation.users} warm shoppers. {evaluation.protocol.capitalize()}.", ""]
    lines.append(f"{'model':<18}" + "".join(f"{f'{m}@{k}':>26}" for k in KS for m in ("recall", "ndcg")))
    for model, metrics in details.items():
        cells = (metrics[f"{m}@{k}"] for k in KS for m in ("recall", "ndcg"))
        row = (f"{c['mean']:.4f} [{c['low']:.4f}, {c['high']:.4f}]" for c in cells)
        lines.append(f"{model:<18}" + "".join(f"{cell:>26}" for cell in row))
    for metric, value in details.get("served", {}).items():
        if metric.startswith("candidate_"):
            lines.append(
                f"\nRetrieval finds {value['mean']:.1%} of the held-out items ({metric.removeprefix('candidate_')})."
            )
    return "\n".join(lines)
