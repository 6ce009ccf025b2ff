"""Judge one fitted model: full ranking, slices, figures beyond hits, each metric with its interval.

    result, per_user = judge_model("ease", "EASE", scores, train, test, dataset="baby", protocol="A")
    save_result(run, result, per_user)

The judge masks what is known and nothing else, ranks every other item, and asks for what was held out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from service.errors import DataError
from training.evaluation.beyond import beyond
from training.evaluation.bootstrap import DRAWS, estimates
from training.evaluation.protocols import assert_no_leak, cold_items
from training.evaluation.result import METRICS, Epoch, Estimate, ModelResult, PerUser, Protocol
from training.evaluation.slices import PerShopper, sliced
from training.ranking_metrics import Ranking, Scores, gains, hits, per_user, rank_all, to_find
from training.stage import peak_rss_kib

KS = (10, 20)
LISTED = 20
"""Length of the lists that coverage, Gini, diversity and popularity lift look at."""

Mask = npt.NDArray[np.bool_]
Users = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fitted:
    """A fitted model, and what its fit cost."""

    ranks: Scores | Ranking
    """Scores every item for shoppers; or a finished ranking of every judged shopper, as a re-ranker leaves it."""
    parameters: int = 0
    """Numbers that the fit chose."""
    curve: tuple[Epoch, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    seconds: float = 0.0
    """Of the fit."""


def judge_model(
    model: str,
    title: str,
    judged: Fitted | Scores | Ranking,
    known: sp.csr_matrix,
    held_out: sp.csr_matrix,
    *,
    dataset: str,
    protocol: Protocol,
    seed: int = 0,
    content: npt.NDArray[np.float32] | None = None,
    retrieved: Ranking | None = None,
    draws: int = DRAWS,
    on_block: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[ModelResult, PerUser]:
    """The result of one model, and the metrics of each warm shopper with held-out items that are new to him.

    `known` (users, items) is what was fitted on: it is masked, and what of `held_out` it has is not asked for. Under
    A and C a pair belongs to one split, so such a pair is a leak there. `content` (items, c) serves the diversity of
    lists; `retrieved` are a first stage's candidates, for `candidate_recall@C`. Under C a model that scores is ranked
    among cold items alone and among warm items alone too. Raises DataError where nobody can be judged, where held-out
    pairs are known, and where a ranking lacks a shopper or lists what a shopper already has.
    """
    if protocol != "B":
        assert_no_leak(known, held_out, where=f"{dataset}, protocol {protocol}")
    relevant, users = to_find(known, held_out)
    if not len(users):
        raise DataError("no warm shopper has anything held out", where=dataset, todo="Hold out more interactions")
    fitted = judged if isinstance(judged, Fitted) else Fitted(judged)
    start = time.perf_counter()
    ranking = _ranking(fitted.ranks, users, known, seed, on_block)
    rank_seconds = time.perf_counter() - start
    hit = hits(ranking, relevant)
    whole = gains(hit, np.diff(relevant.indptr)[users], KS)
    parts = {"": dict(whole)} | sliced(ranking, hit, relevant, known, whole, KS)
    if retrieved is not None:
        name = f"recall@{retrieved.rows.shape[1]}"
        found = per_user(_of(retrieved, users, known), relevant, [retrieved.rows.shape[1]])
        parts[""][f"candidate_{name}"] = found[name]
    if protocol == "C" and not isinstance(fitted.ranks, Ranking):
        cold = cold_items(known)
        for part, among in (("candidates/cold", cold), ("candidates/warm", ~cold)):
            parts |= _among(part, fitted.ranks, users, known, relevant, among, seed)
    described = _described(parts, draws)
    result = ModelResult(
        model=model,
        title=title,
        dataset=dataset,
        protocol=protocol,
        seed=seed,
        users=len(users),
        metrics=described.pop(""),
        slices=described,
        beyond=beyond(ranking, known, k=LISTED, content=content),
        fit_seconds=fitted.seconds,
        rank_seconds=rank_seconds,
        peak_rss_mib=peak_rss_kib() / 1024,
        parameters=fitted.parameters,
        curve=fitted.curve,
        settings=dict(fitted.settings),
    )
    return result, PerUser(users.astype(np.int32), {name: whole[name].astype(np.float32) for name in METRICS})


def _ranking(
    ranks: Scores | Ranking, users: Users, known: sp.csr_matrix, seed: int, on_block: Callable[[int, int], None]
) -> Ranking:
    if isinstance(ranks, Ranking):
        return _of(ranks, users, known)
    return rank_all(ranks, users, known, k=max(KS), seed=seed, on_block=on_block)


def _of(ranking: Ranking, users: Users, known: sp.csr_matrix) -> Ranking:
    """The rows of a finished ranking that belong to `users`, after a look for what must not stand in it."""
    order = np.argsort(ranking.users, kind="stable")
    at = (
        order[np.minimum(np.searchsorted(ranking.users[order], users), max(len(order) - 1, 0))] if len(order) else order
    )
    if len(at) != len(users) or (ranking.users[at] != users).any():
        raise DataError("the ranking lacks shoppers who are judged", where="ranking", todo="Rank every warm shopper")
    part = Ranking(users, ranking.rows[at])
    if hits(part, known).any():
        raise DataError("the ranking lists items that the shopper has", where="ranking", todo="Mask what is known")
    return part


def _among(
    name: str, scores: Scores, users: Users, known: sp.csr_matrix, relevant: sp.csr_matrix, among: Mask, seed: int
) -> dict[str, PerShopper]:
    """Slice `name`: some items alone are ranked and asked for; nothing where nobody has any of them held out."""
    inside = relevant.multiply(among[None, :]).tocsr()
    inside.eliminate_zeros()
    some = np.diff(inside.indptr)[users] > 0
    if not some.any():
        return {}
    found = per_user(rank_all(scores, users[some], known, k=max(KS), seed=seed, among=among), inside, KS)
    spread = {metric: np.full(len(users), np.nan) for metric in found}
    for metric, values in found.items():
        spread[metric][some] = values
    return {name: spread}


def _described(parts: Mapping[str, PerShopper], draws: int) -> dict[str, dict[str, Estimate]]:
    """Every figure of every slice from the same resamples."""
    flat = {f"{part}\t{metric}": values for part, of in parts.items() for metric, values in of.items()}
    out: dict[str, dict[str, Estimate]] = {part: {} for part in parts}
    for name, estimate in estimates(flat, draws=draws).items():
        part, metric = name.split("\t")
        out[part][metric] = estimate
    return out
