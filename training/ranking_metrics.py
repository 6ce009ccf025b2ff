"""Full-ranking metrics: every item is a candidate, only what the shopper already has is masked. Never sampled.

Recall@k is hits / |relevant|; NDCG@k is binary with the ideal over min(|relevant|, k) (Järvelin, Kekäläinen 2002).
Ties are broken by a seeded permutation of the items, so that a constant score cannot look like a good one.
Everything runs over blocks of shoppers: memory is a block's scores, never users x items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from service.errors import StageError

Scores = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]
"""User rows (b,) -> scores (b, items); larger is better."""

BLOCK = 10_000_000
"""Scores held at once: 40 MB."""
LOOKUPS = 1_000_000
"""Ranked items looked up at once."""


@dataclass(frozen=True)
class Ranking:
    """The top items of some shoppers, best first."""

    users: npt.NDArray[np.int64]
    """(m,) user rows."""
    rows: npt.NDArray[np.int64]
    """(m, k) item rows; -1 where fewer than k items could be ranked."""


def rank_all(
    scores: Scores,
    users: npt.NDArray[np.int64],
    seen: sp.csr_matrix,
    *,
    k: int,
    seed: int = 0,
    among: npt.NDArray[np.bool_] | None = None,
    on_block: Callable[[int, int], None] = lambda done, total: None,
) -> Ranking:
    """Rank every item for `users`, masking the stored entries of `seen` (users, items), in blocks of bounded memory.

    `among` (items,) leaves some items alone as candidates. Raises StageError where a score is not a number.
    """
    num_items = seen.shape[1]
    place = np.empty(num_items, np.int32)
    place[np.random.default_rng(seed).permutation(num_items)] = np.arange(num_items, dtype=np.int32)
    block = max(1, BLOCK // max(num_items, 1))
    out = np.full((len(users), k), -1, np.int64)
    for start in range(0, len(users), block):
        part = users[start : start + block]
        found = np.require(scores(part), np.float32, ["C", "W"])
        if among is not None:
            found = np.where(among, found, np.float32(-np.inf))
        mask = seen[part]
        at = (np.repeat(np.arange(len(part)), np.diff(mask.indptr)), mask.indices)
        kept = found[at]
        found[at] = -np.inf
        rows, values = _top(found, place, k)
        found[at] = kept  # the block may be the model's own memory
        if np.isnan(values).any():
            raise StageError(
                "the model's scores are not numbers",
                where=f"user row {int(part[np.isnan(values).any(1)][0])}",
                todo="Look at its loss and at its input; a smaller learning rate may help",
            )
        rows[np.isneginf(values)] = -1
        out[start : start + len(part), : rows.shape[1]] = rows
        on_block(start + len(part), len(users))
    return Ranking(users, out)


def _top(
    scores: npt.NDArray[np.float32], place: npt.NDArray[np.int32], k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Rows and scores (b, k) of the k best, equal ones in the order of `place` (items,).

    What a stable sort of all items by (score, place) would begin with, by a partial sort. That one chooses freely
    among items that tie for the last place, so shoppers who have such ties are looked at once more.
    """
    n, k = scores.shape[1], min(k, scores.shape[1])
    value, row = (part.numpy() for part in torch.topk(torch.from_numpy(scores), min(k + 1, n), dim=1))
    if k < n:
        last = value[:, k - 1]
        tied = np.flatnonzero((last == value[:, k]) & ~np.isneginf(last) & ~np.isnan(value[:, 0]))
        value, row = value[:, :k].copy(), row[:, :k].copy()
        if len(tied):
            of, least = scores[tied], last[tied, None]
            order = np.where(of == least, n - 1 - place, np.where(of > least, np.int32(n), np.int32(-1)))
            row[tied] = torch.topk(torch.from_numpy(order), k, dim=1).indices.numpy()
            value[tied] = np.take_along_axis(of, row[tied], 1)
    best = np.lexsort((place[row], -value), axis=1)
    return np.take_along_axis(row, best, 1), np.take_along_axis(value, best, 1)


def to_find(known: sp.csr_matrix, held_out: sp.csr_matrix) -> tuple[sp.csr_matrix, npt.NDArray[np.int64]]:
    """What is to be found: `held_out` without what `known` already has, and the warm shoppers who have any of it."""
    relevant = (held_out - held_out.multiply(known > 0)).tocsr()
    relevant.eliminate_zeros()
    relevant.sort_indices()
    return relevant, np.flatnonzero((np.diff(known.indptr) > 0) & (np.diff(relevant.indptr) > 0))


def hits(ranking: Ranking, relevant: sp.csr_matrix) -> npt.NDArray[np.bool_]:
    """Which ranked items are stored in `relevant` (users, items): (m, k)."""
    num_users, num_items = relevant.shape
    user = np.repeat(np.arange(num_users, dtype=np.int64), np.diff(relevant.indptr))
    wanted = np.sort(user * num_items + relevant.indices)
    out = np.zeros(ranking.rows.shape, bool)
    if not len(wanted):
        return out
    block = max(1, LOOKUPS // max(ranking.rows.shape[1], 1))
    for start in range(0, len(ranking.users), block):
        part = slice(start, start + block)
        rows = ranking.rows[part]
        pair = ranking.users[part, None] * num_items + rows
        found = np.minimum(np.searchsorted(wanted, pair), len(wanted) - 1)
        out[part] = (wanted[found] == pair) & (rows >= 0)
    return out


def per_user(ranking: Ranking, relevant: sp.csr_matrix, ks: Sequence[int]) -> dict[str, npt.NDArray[np.float64]]:
    """`recall@k` and `ndcg@k` for each shopper: name -> (m,). `relevant` (users, items) binary."""
    return gains(hits(ranking, relevant), np.diff(relevant.indptr)[ranking.users], ks)


def gains(
    hit: npt.NDArray[np.bool_], count: npt.NDArray[np.integer], ks: Sequence[int]
) -> dict[str, npt.NDArray[np.float64]]:
    """`recall@k` and `ndcg@k` of hits (m, k) where each shopper has `count` (m,) relevant items, at least one."""
    if (count == 0).any():
        raise ValueError("every ranked shopper needs at least one relevant item")
    gain = 1.0 / np.log2(np.arange(2, max(*ks, hit.shape[1]) + 2))
    ideal = np.concatenate([[0.0], np.cumsum(gain)])
    out: dict[str, npt.NDArray[np.float64]] = {}
    for k in ks:
        out[f"recall@{k}"] = hit[:, :k].sum(1) / count
        out[f"ndcg@{k}"] = hit[:, :k] @ gain[: hit.shape[1]][:k] / ideal[np.minimum(count, k)]
    return out
