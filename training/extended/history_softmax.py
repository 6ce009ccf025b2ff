"""The model of item vectors alone: a shopper is what they bought, and learning finds the hidden part of a history.

    u = unit( Σ_{j in history} a_j unit(z_j) )          logit(u, i) = u · unit(z_i) / τ + prior_i

A step hides a share of every history and takes the softmax of each hidden item among uniform negatives that the step
shares, with the log correction that makes them estimate the full softmax. n items, d width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from training.ranking_metrics import Scores
from training.sparse import Pattern, aggregate


@dataclass(frozen=True)
class Items:
    """What a logit needs of the items; differentiable where its tensors are."""

    vectors: Tensor
    """z (n, d)."""
    prior: Tensor
    """(n,)."""
    temperature: float | Tensor
    """τ."""
    weight: Tensor | None = None
    """a (n,): how much an event of the item counts; None counts all alike."""


def hidden_softmax(
    items: Items, histories: sp.csr_matrix, *, negatives: int, hidden_share: float, rng: np.random.Generator
) -> Tensor:
    """Mean of -log softmax over the hidden interactions of binary (shoppers, n); 0 where there is nothing to hide."""
    coo = histories.tocoo()
    hidden = rng.random(coo.nnz) < hidden_share
    shown = sp.csr_matrix((coo.data[~hidden], (coo.row[~hidden], coo.col[~hidden])), coo.shape)
    hidden &= np.diff(shown.indptr)[coo.row] > 0
    drawn = torch.from_numpy(rng.integers(0, histories.shape[1], negatives))
    user, positive = (torch.from_numpy(part[hidden].astype(np.int64)) for part in (coo.row, coo.col))
    if not len(user):
        return (items.vectors.sum() + items.prior.sum()) * 0.0
    unit = F.normalize(items.vectors, dim=1)
    events = unit if items.weight is None else unit * items.weight[:, None]
    pattern = Pattern(shown)
    shoppers = F.normalize(aggregate(pattern, pattern.prior, events), dim=1).index_select(0, user)
    near = (shoppers * unit.index_select(0, positive)).sum(1) / items.temperature
    near = near + items.prior.index_select(0, positive)
    far = shoppers @ unit.index_select(0, drawn).T / items.temperature + items.prior.index_select(0, drawn)
    correction = math.log(histories.shape[1] / negatives)
    return (torch.logsumexp(torch.cat([near[:, None], far + correction], 1), 1) - near).mean()


@torch.no_grad()
def history_scores(items: Items, histories: sp.csr_matrix) -> Scores:
    """The model as scores of every item, each shopper being the aggregate of the row in binary (users, n)."""
    unit = F.normalize(items.vectors, dim=1)
    events = (unit if items.weight is None else unit * items.weight[:, None]).numpy()
    table = (unit / items.temperature).numpy().T
    prior = items.prior.numpy()

    def scores(users: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        shoppers = np.asarray(histories[users] @ events)
        shoppers /= np.maximum(np.linalg.norm(shoppers, axis=1, keepdims=True), 1e-12)
        return np.asarray(shoppers @ table + prior, np.float32)

    return scores
