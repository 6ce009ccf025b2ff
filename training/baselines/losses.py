"""What the learned baselines minimise, for a batch of B interactions (u, i) and vectors of width d.

    BPR       −log σ(s_ui − s_uj), one drawn item j for each pair (Rendle et al. 2009, arXiv:1205.2618)
    softmax   −log exp(s_ui) / (exp(s_ui) + Σ_j exp(s_uj) / (N q_j)), N items drawn by q and shared by the batch: an
              estimate of the softmax over all items (logQ correction: Bengio and Senécal 2003; Yi et al. 2019)
    SL@K      σ((s_ui − β_u)/τ_w) · softmax(u, i), β_u the score of the K-th best item for u (Yang et al. 2025,
              arXiv:2508.05673): what is far below the top K is not worth learning

s is the inner product for BPR, cosine / τ inside the two others; the weight of SL@K looks at the cosine itself. As
published, β_u is the K-th best of u's own items and a sample; here it is looked up before every epoch, with one sample
for all shoppers, where the authors' code looks every 20 epochs; and the positive stands in the softmax's sum, whose
negatives are shared by the batch and corrected by log q.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor


def bpr(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Mean BPR loss of aligned (B, d) vectors, as a scalar."""
    margin = (users * (positives - negatives)).sum(1)
    return F.softplus(-margin).mean()


class _LogPartition(torch.autograd.Function):
    """log Σ_j exp(q · k_j + b_j) over the items that are not the query's own, with its gradient by hand.

    The (B, N) logits are turned into probabilities in place: one such array lives, where autograd would keep three.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, bias: Tensor, own: Tensor) -> Tensor:
        logits = torch.addmm(bias, queries, keys.T)
        logits[own[0], own[1]] = -torch.inf
        peak = logits.amax(1, keepdim=True).clamp(min=-1e30)
        share = logits.sub_(peak).exp_()
        total = share.sum(1, keepdim=True)
        share.div_(total.clamp(min=1e-38))
        ctx.save_for_backward(queries, keys, share)
        return (peak + total.log()).squeeze(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        queries, keys, share = ctx.saved_tensors
        scale = grads[0][:, None]
        return scale * (share @ keys), share.T @ (scale * queries), None, None


def log_partition(queries: Tensor, keys: Tensor, bias: Tensor, own: Tensor) -> Tensor:
    """log Σ_j exp(q · k_j + b_j): (B, d), (N, d), (N,) -> (B,); differentiable in queries and keys.

    `own` (2, p) int64 names the (query, key) pairs that are left out; −inf where nothing is left.
    """
    out: Tensor = _LogPartition.apply(queries, keys, bias, own)  # type: ignore[no-untyped-call]
    return out


def sampled_softmax(
    users: Tensor,
    positives: Tensor,
    negatives: Tensor,
    log_expected: Tensor,
    own: Tensor,
    *,
    temperature: float,
    weight: Tensor | None = None,
) -> Tensor:
    """Mean softmax loss, as a scalar, of unit rows `users`, `positives` (B, d) against shared `negatives` (N, d).

    `log_expected` (N,) is log(N q_j), how often the draw was expected to bring each; `own` (2, p) the (row, drawn item)
    pairs where the drawn item is the row's positive, which the sum must not count twice. `weight` (B,) scales the rows.
    """
    queries = users / temperature
    near = (queries * positives).sum(1)
    far = log_partition(queries, negatives, -log_expected, own)
    loss = torch.logaddexp(near, far) - near
    return (loss if weight is None else weight * loss).mean()


def top_k_weight(users: Tensor, positives: Tensor, threshold: Tensor, temperature: float) -> Tensor:
    """SL@K's σ((s_ui − β_u)/τ_w): unit rows (B, d) twice, β (B,) -> (B,); differentiable in the rows, as published."""
    return torch.sigmoid(((users * positives).sum(1) - threshold) / temperature)


@torch.no_grad()
def top_k_threshold(users: Tensor, items: Tensor, train: sp.csr_matrix, drawn: Tensor, k: int) -> Tensor:
    """β_u (n,): the k-th largest cosine among u's own items and the `drawn` ones (N,), as the paper estimates it.

    `users` (n, d), `items` (m, d) unit rows, `train` (n, m) binary. A drawn item that u has counts once. Biased
    downwards, as the drawn are few; exact where all items are drawn. Where fewer than k are known, the least of them.
    """
    row = np.repeat(np.arange(train.shape[0]), np.diff(train.indptr))
    place = np.full(train.shape[1], -1)
    place[drawn.numpy()] = np.arange(len(drawn))
    beta = torch.empty(train.shape[0])
    most = int(np.diff(train.indptr).max(initial=0))
    block = max(1, 20_000_000 // (len(drawn) + most))
    for start in range(0, train.shape[0], block):
        stop = min(start + block, train.shape[0])
        part = slice(train.indptr[start], train.indptr[stop])
        r, own = row[part] - start, train.indices[part]
        scores = torch.full((stop - start, len(drawn) + most), -torch.inf)
        scores[:, : len(drawn)] = users[start:stop] @ items[drawn].T
        twice = place[own] >= 0
        scores[r[twice], place[own[twice]]] = -torch.inf
        column = len(drawn) + np.arange(part.start, part.stop) - train.indptr[row[part]]
        near = (users.index_select(0, torch.from_numpy(row[part])) * items.index_select(0, torch.from_numpy(own))).sum(
            1
        )
        scores[r, column] = near
        best = scores.topk(min(k, scores.shape[1]), dim=1).values
        beta[start:stop] = torch.where(torch.isinf(best), torch.inf, best).amin(1)
    return beta
