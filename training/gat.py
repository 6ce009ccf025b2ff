"""The graph-attention model, whole: items over the item graph, shoppers as what they bought.

An item starts from content and, where it is known, an identity of its own:

    e_i = keep_i · ID_i + W c_i                        c: content (n, c); keep is 0 for cold items, and for a
                                                       random share of items in training, so one network serves both

One attention layer a relation r (text, image, linear ...), each on its own edges, keeps the edges' prior Â and the
identity of the values; attention only re-weights (queries and keys, H heads averaged):

    α_ij = Â_ij · exp(s_h tanh(q_i · k_j / √d_h)) / Σ_j' Â_ij' exp(...) · Σ_j' Â_ij'
    n_i  = Σ_r g_r Σ_j mean_h(α_ij) e_j

s starts at 0, where the layer is exactly the degree-normalised propagation of LightGCN (He et al. 2020,
arXiv:2002.02126): attention has to earn what it changes. Feature transforms are left out of the values because they
hurt in collaborative filtering (the same paper); the attention form follows GAT (Veličković et al. 2018,
arXiv:1710.10903).

T user-item round trips carry behaviour, their results averaged as in LightGCN; n counts κ times on the way and once
more at the candidate. A shopper is the aggregate of the history, without an ID, so a new one is served as soon as there
is one event:

    i⁰ = e + κ n,   iᵗ⁺¹ = R̂ᵀ R̂ iᵗ,   m = mean_t iᵗ     R̂ = D_u^-1/2 R D_i^-1/2
    u   = unit( Σ_{j in history} (1 + deg_j)^-a m_j )
    logit(u, i) = u · unit(m_i + n_i) / τ + ρ log(p_i + ε)     p: recency-weighted popularity

Shapes: n items, m users, d width, H heads, E edges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.sparse import Pattern, aggregate, aggregate_back, edge_dot


class RelationAttention(nn.Module):
    """One attention layer over one relation: (n, d) -> (n, d). Values keep their identity; heads are averaged."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = head_dim
        if heads:
            self.query = nn.Linear(dim, heads * head_dim, bias=False)
            self.key = nn.Linear(dim, heads * head_dim, bias=False)
            self.sharpness = nn.Parameter(torch.zeros(heads))

    def attention(self, edges: Pattern, x: Tensor) -> Tensor:
        """α averaged over heads, for each edge: (n, d) -> (E,). Without heads it is the prior."""
        if not self.heads:
            return edges.prior
        q, k = self.query(x), self.key(x)
        mass = edges.row_sums(edges.prior)
        total = torch.zeros_like(edges.prior)
        for h in range(self.heads):
            part = slice(h * self.head_dim, (h + 1) * self.head_dim)
            logit = edge_dot(edges, q[:, part], k[:, part]) / math.sqrt(self.head_dim)
            weight = edges.prior * torch.exp(self.sharpness[h] * torch.tanh(logit))
            scale = mass / edges.row_sums(weight).clamp(min=1e-12)
            total = total + weight * edges.per_edge(scale)
        return total / self.heads

    def forward(self, edges: Pattern, x: Tensor) -> Tensor:
        """Aggregate neighbors: (n, d) -> (n, d)."""
        out: Tensor = aggregate(edges, self.attention(edges, x), x)
        return out


class Gat(nn.Module):
    """The item network; see the module's docstring."""

    def __init__(
        self,
        *,
        num_items: int,
        content_dim: int,
        dim: int,
        gains: Sequence[float],
        heads: int,
        head_dim: int,
        rounds: int = 2,
        fixed_gains: bool = False,
    ) -> None:
        """`gains` are where g starts, one a relation; `rounds` is T; with `heads` 0 there is no attention.

        Edges by behaviour know the interactions that training hides, and learned gains come to rely on them: with
        `fixed_gains` g, κ and ρ stay as they are.
        """
        super().__init__()
        self.rounds = rounds
        self.identity = nn.Parameter(torch.randn(num_items, dim) * 0.1)
        self.content = nn.Linear(content_dim, dim, bias=False)
        nn.init.normal_(self.content.weight, std=0.1)
        self.layers = nn.ModuleList(RelationAttention(dim, heads, head_dim) for _ in gains)
        self.gain = nn.Parameter(torch.tensor(list(gains)))
        self.hop = nn.Parameter(torch.tensor(3.0))
        self.degree_exponent = nn.Parameter(torch.tensor(0.5))
        self.popularity_gain = nn.Parameter(torch.tensor(0.7))
        for fixed in (self.gain, self.hop, self.popularity_gain):
            fixed.requires_grad_(not fixed_gains)

    def items(
        self, content: Tensor, keep: Tensor, relations: Sequence[Pattern], user_item: Pattern, *, scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Items as candidates, m + n, and as events, m: both (n, d).

        content (n, c), keep (n, 1) in {0, 1}, relations over (n, n), user_item R̂ over (m, n). `scale` multiplies the
        content part: 0 gives the behaviour-only view of the same network.
        """
        e = keep * self.identity + scale * self.content(content)
        near = torch.zeros_like(e)
        for layer, gain, edges in zip(self.layers, self.gain, relations, strict=True):
            near = near + gain * layer(edges, e)
        trip = e + self.hop * near
        total = trip
        for _ in range(self.rounds):
            trip = aggregate_back(user_item, aggregate(user_item, user_item.prior, trip))
            total = total + trip
        events = total / (self.rounds + 1)
        return events + near, events

    def history_weight(self, degree: Tensor) -> Tensor:
        """How much one event of an item counts: training interactions (n,) -> (n,)."""
        return torch.exp(-self.degree_exponent * torch.log1p(degree))

    def shoppers(self, events: Tensor, degree: Tensor, history: Pattern) -> Tensor:
        """Unit user vectors: events (n, d), degree (n,), history over (m, n) -> (m, d); zero for an empty history."""
        weighted = events * self.history_weight(degree)[:, None]
        return F.normalize(aggregate(history, history.prior, weighted), dim=1)

    def prior(self, log_popularity: Tensor) -> Tensor:
        """The popularity part of the logit: (n,) -> (n,)."""
        return self.popularity_gain * log_popularity
