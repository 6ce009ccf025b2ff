"""Recall@k of inner products of vectors, quick enough to be looked at every few epochs.

The same number as `ranking_metrics.rank_all` and `per_user` give wherever no two scores are equal.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

BLOCK = 25_000_000
"""Scores held at once, float32."""


@torch.no_grad()
def vector_recall(users: Tensor, items: Tensor, seen: sp.csr_matrix, relevant: sp.csr_matrix, k: int) -> float:
    """Mean recall@k over the shoppers with relevant items, 0 where there is none.

    `users` (n, d), `items` (m, d) float32; `seen` (n, m) is masked; `relevant` (n, m) binary, disjoint from `seen`.
    """
    judged = np.flatnonzero(np.diff(relevant.indptr))
    if not len(judged):
        return 0.0
    num_items = relevant.shape[1]
    row = np.repeat(np.arange(relevant.shape[0]), np.diff(relevant.indptr))
    wanted = np.sort(row * num_items + relevant.indices)
    found = np.zeros(len(judged))
    block = max(1, BLOCK // num_items)
    for start in range(0, len(judged), block):
        part = judged[start : start + block]
        scores = users[torch.from_numpy(part)] @ items.T
        scores[seen[part].nonzero()] = -torch.inf
        value, top = (x.numpy() for x in scores.topk(min(k, num_items), dim=1))
        keys = part[:, None] * num_items + top
        place = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
        found[start : start + block] = ((wanted[place] == keys) & ~np.isneginf(value)).sum(1)
    return float((found / np.diff(relevant.indptr)[judged]).mean())
