"""SASRec: causal self-attention over a shopper's events (Kang & McAuley 2018, arXiv:1808.09781).

    x_t = √d E[item_t] + P[place_t] + G[gap_t]
    a_ts = softmax over events s <= t of q_t · k_s / √d_h + B_h[age_ts]
    x   <- x + W_o concat_h Σ_s a_ts v_s,   then   x <- x + W_2 relu(W_1 x)       (each on layer-normed x, B times)
    score(t, i) = cos(x_t, E[i]) / τ + g log(popularity_i + .3)

`place` counts from the newest event, so the last one always stands at the same position. The paper has E, P, the
blocks, and an inner product, as τ = 0 has it too, where the cosine stands. Added besides: the popularity term, which
gives an empty history popularity's order; and, where `clock` says so, the age of events. `age_ts` is the time between
event s and the request that output t answers, `gap_t` that between event t and the same request, in buckets of half
octaves (a learned bias, as in TiSASRec, Li et al. 2020, and HSTU, arXiv:2402.17152).

Shapes: b shoppers, T events (oldest first, padded in front), d width, H heads.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Clock = Literal["order", "age", "both", "none"]
"""What tells events apart in time: their place, their age at the request, both, or nothing but the causal mask."""

BUCKETS = 32
"""Buckets of time: 0 for none at all, then half octaves of hours; the last holds 3.7 years and more."""
NEGATIVE = -1e4
"""Stands for minus infinity in the masked softmax."""


class SasRec(nn.Module):
    """Item embeddings, shared by input and output, and the blocks between them."""

    def __init__(
        self,
        *,
        num_items: int,
        dim: int,
        blocks: int,
        heads: int,
        length: int,
        dropout: float,
        clock: Clock,
        temperature: float,
    ) -> None:
        super().__init__()
        self.length, self.clock, self.temperature = length, clock, temperature
        self.item = nn.Parameter(torch.randn(num_items, dim) / math.sqrt(dim))
        self.place = nn.Parameter(0.02 * torch.randn(length, dim))
        self.gap = nn.Parameter(torch.zeros(BUCKETS, dim))
        self.popularity_gain = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList([Block(dim, heads, dropout) for _ in range(blocks)])
        self.norm = nn.LayerNorm(dim)

    def forward(self, rows: Tensor, mask: Tensor, days: Tensor, asked: Tensor) -> Tensor:
        """What the shopper wants after each event: (b, T) int64, float, float, float -> (b, T, d).

        `rows` are items, `mask` is 1 for an event and 0 for padding, `days` tells when the event happened and `asked`
        when the request came that the output answers. Padding gives zeros; later events change no earlier output.
        """
        b, width = rows.shape
        x = self.item.index_select(0, rows.reshape(-1)).view(b, width, -1) * math.sqrt(self.item.shape[1])
        if self.clock in ("order", "both"):
            x = x + self.place[self.length - width :]
        timed = self.clock in ("age", "both")
        if timed:
            x = x + self.gap.index_select(0, bucket(asked - days).reshape(-1)).view_as(x)
        x = self.dropout(x) * mask[..., None]
        causal = torch.ones(width, width, dtype=torch.bool).tril()
        # Padding may see itself, so that no softmax is over nothing.
        visible = causal & (mask[:, None, :] > 0) | torch.eye(width, dtype=torch.bool)
        hidden = torch.where(visible, 0.0, NEGATIVE)[:, None]  # (b, 1, T, T)
        age = bucket(asked[:, :, None] - days[:, None, :]) if timed else None
        for block in self.blocks:
            x = block(x, hidden, age)
        out: Tensor = self.norm(x) * mask[..., None]
        return out

    def scores(self, wanted: Tensor, items: Tensor, log_popularity: Tensor) -> Tensor:
        """What shoppers want (b, d), rows of `item` (k, d) and the log popularity (k,) of these -> (b, k)."""
        wanted, items = self._measured(wanted, items)
        return wanted @ items.T + self.popularity_gain * log_popularity

    def pair_scores(self, wanted: Tensor, items: Tensor, log_popularity: Tensor) -> Tensor:
        """As `scores`, of one item each: (n, d), (n, d), (n,) -> (n,)."""
        wanted, items = self._measured(wanted, items)
        return (wanted * items).sum(1) + self.popularity_gain * log_popularity

    def _measured(self, wanted: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        if not self.temperature:
            return wanted, items
        return F.normalize(wanted, dim=1) / self.temperature, F.normalize(items, dim=1)


class Block(nn.Module):
    """Self-attention and a position-wise network, each on normed input and with a residual."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.network_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.age_bias = nn.Parameter(torch.zeros(BUCKETS, heads))
        self.network = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, hidden: Tensor, age: Tensor | None) -> Tensor:
        """(b, T, d), (b, 1, T, T) of 0 or NEGATIVE, (b, T, T) buckets or None -> (b, T, d)."""
        normed = self.attention_norm(x)
        q, k, v = (
            f(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value)
        )
        logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + hidden  # (b, H, T, T)
        if age is not None:
            bias = self.age_bias.index_select(0, age.reshape(-1)).view(*age.shape, self.heads)
            logits = logits + bias.permute(0, 3, 1, 2)
        attended = self.dropout(torch.softmax(logits, -1)) @ v
        x = x + self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        out: Tensor = x + self.dropout(self.network(self.network_norm(x)))
        return out


def bucket(days: Tensor) -> Tensor:
    """Time in days -> bucket, int64: 0 where no time has passed, then half octaves from one hour on."""
    steps = 1 + torch.floor(2 * torch.log2((days * 24).clamp(min=1.0))).long()
    return torch.where(days > 0, steps.clamp(max=BUCKETS - 1), 0)
