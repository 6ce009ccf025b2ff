"""Full-ranking metrics: every item is a candidate, only what the shopper already has is masked. Never sampled.

Recall@k is hits / |relevant|; NDCG@k is binary with the ideal over min(|relevant|, k). Ties are broken by a seeded
permutation of the items, so that a constant score cannot look like a good one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Scores = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]
"""User rows (b,) -> scores (b, items); larger is better."""


@dataclass(frozen=True)
class Ranking:
    """The top items of some shoppers, best first."""

    users: npt.NDArray[np.int64]
    """(m,) user rows."""
    rows: npt.NDArray[np.int64]
    """(m, k) item rows; -1 where fewer than k items could be ranked."""


def rank_all(scores: Scores, users: npt.NDArray[np.int64], seen: sp.csr_matrix, *, k: int, seed: int = 0) -> Ranking:
    """Rank every item for `users`, masking `seen` (users, items), in blocks of bounded memory."""
    permutation = np.random.default_rng(seed).permutation(seen.shape[1])
    block = max(1, 40_000_000 // max(seen.shape[1], 1) // 4)
    tops = [
        _top(scores(users[start : start + block]), seen[users[start : start + block]], permutation, k)
        for start in range(0, len(users), block)
    ]
    return Ranking(users, np.concatenate(tops) if tops else np.empty((0, k), np.int64))


def _top(
    scores: npt.NDArray[np.float32], seen: sp.csr_matrix, permutation: npt.NDArray[np.int64], k: int
) -> npt.NDArray[np.int64]:
    masked = np.array(scores, np.float32)
    masked[seen.nonzero()] = -np.inf
    shuffled = masked[:, permutation]
    k_here = min(k, shuffled.shape[1])
    # A stable full order of the best k: partition by value, then sort by value; ties keep the permuted order.
    part = np.sort(np.argpartition(-shuffled, k_here - 1, axis=1)[:, :k_here], axis=1)
    value = np.take_along_axis(shuffled, part, 1)
    order = np.argsort(-value, axis=1, kind="stable")
    rows = permutation[np.take_along_axis(part, order, 1)]
    rows[np.isneginf(np.take_along_axis(value, order, 1))] = -1
    out = np.full((len(scores), k), -1, np.int64)
    out[:, :k_here] = rows
    return out


def hits(ranking: Ranking, relevant: sp.csr_matrix) -> npt.NDArray[np.bool_]:
    """Which ranked items are relevant: (m, k)."""
    out = np.zeros(ranking.rows.shape, bool)
    for i, user in enumerate(ranking.users):
        out[i] = np.isin(ranking.rows[i], relevant.indices[relevant.indptr[user] : relevant.indptr[user + 1]])
    return out


def per_user(ranking: Ranking, relevant: sp.csr_matrix, ks: Sequence[int]) -> dict[str, npt.NDArray[np.float64]]:
    """`recall@k` and `ndcg@k` for each shopper: name -> (m,). `relevant` (users, items) binary."""
    hit = hits(ranking, relevant)
    count = np.diff(relevant.indptr)[ranking.users]
    if (count == 0).any():
        raise ValueError("every ranked shopper needs at least one relevant item")
    gain = 1.0 / np.log2(np.arange(2, ranking.rows.shape[1] + 2))
    ideal = np.concatenate([[0.0], np.cumsum(gain)])
    out: dict[str, npt.NDArray[np.float64]] = {}
    for k in ks:
        out[f"recall@{k}"] = hit[:, :k].sum(1) / count
        out[f"ndcg@{k}"] = (hit[:, :k] * gain[:k]).sum(1) / ideal[np.minimum(count, k)]
    return out


def interval95(values: npt.NDArray[np.float64], *, seed: int = 0, draws: int = 1000) -> tuple[float, float]:
    """Bootstrap 95 % interval of the mean over shoppers."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
