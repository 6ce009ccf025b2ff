"""The re-ranker: the graph's last attention layer, from a shopper's events to each candidate, computed online.

    a_ch  = softmax over events h of q_c · k_h / √d_h + Σ_r w_r edge_chr - decay log(1 + age_h) - order log(1 + place_h)
    f_c   = what each head attended to (v_h · c), the item graph's edges summed and at their best, the likeness of the
            candidate to single events, retrieval score, popularity
    score = retrieval score + MLP(f_c)

The MLP's last layer starts at zero, where re-ranking is retrieval: the layer has to earn what it changes. Everything is
dense and padded; there is no scatter, so the ONNX graph runs on any provider.

Shapes: b requests, C candidates, L history events (newest first), R relations, d width of the vectors, H heads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

NEGATIVE = -1e4
"""Stands for minus infinity in the masked softmax; finite, so that an empty history gives no NaN."""


class Reranker(nn.Module):
    """Scores and attention of candidates; inputs and outputs as `service.bundle.signatures`."""

    def __init__(self, *, dim: int, num_relations: int, heads: int = 4, head_dim: int = 16, hidden: int = 32) -> None:
        super().__init__()
        self.heads, self.head_dim, self.dim = heads, head_dim, dim
        self.query = nn.Linear(dim, heads * head_dim, bias=False)
        self.key = nn.Linear(dim, heads * head_dim, bias=False)
        self.edge_weight = nn.Parameter(torch.ones(num_relations, heads))
        self.decay = nn.Parameter(torch.full((heads,), 0.1))
        self.order = nn.Parameter(torch.full((heads,), 0.1))
        num_features = heads + 3 * num_relations + 5
        self.feature_mean: Tensor
        self.feature_scale: Tensor
        self.register_buffer("feature_mean", torch.zeros(num_features))
        self.register_buffer("feature_scale", torch.ones(num_features))
        self.mlp = nn.Sequential(nn.Linear(num_features, hidden), nn.GELU(), nn.Linear(hidden, 1))
        last = self.mlp[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(
        self,
        candidate_vectors: Tensor,
        candidate_scores: Tensor,
        candidate_popularity: Tensor,
        history_vectors: Tensor,
        history_mask: Tensor,
        history_age_days: Tensor,
        edges: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """(b, C, d), (b, C), (b, C), (b, L, d), (b, L), (b, L), (b, C, L, R) -> scores (b, C), attention (b, C, L).

        Attention is the mean over heads; it sums to one over a shopper's events, and is zero where there are none.
        Each candidate's score depends on itself and the history alone, so padding candidates changes nothing.
        """
        features, attention = self.features(
            candidate_vectors,
            candidate_scores,
            candidate_popularity,
            history_vectors,
            history_mask,
            history_age_days,
            edges,
        )
        normal = (features - self.feature_mean) / self.feature_scale
        return candidate_scores + self.mlp(normal).squeeze(-1), attention

    def features(
        self,
        candidate_vectors: Tensor,
        candidate_scores: Tensor,
        candidate_popularity: Tensor,
        history_vectors: Tensor,
        history_mask: Tensor,
        history_age_days: Tensor,
        edges: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """What the MLP sees, (b, C, F), and the attention (b, C, L); arguments as `forward`."""
        mask = history_mask[:, None, :]  # (b, 1, L)
        place = torch.cumsum(history_mask, 1) - 1.0
        unit_candidates = unit(candidate_vectors[..., :-1])
        unit_history = unit(history_vectors[..., :-1])
        q = self.query(_padded(unit_candidates)).unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)
        k = self.key(_padded(unit_history)).unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)
        logits = q @ k.transpose(-1, -2) / math.sqrt(self.head_dim)  # (b, H, C, L)
        logits = logits + (edges @ self.edge_weight).permute(0, 3, 1, 2)
        fade = self.decay[:, None] * torch.log1p(history_age_days)[:, None, :]
        fade = fade + self.order[:, None] * torch.log1p(place.clamp(min=0.0))[:, None, :]
        logits = logits - fade[:, :, None, :] + (1.0 - mask[:, None]) * NEGATIVE
        attention = torch.softmax(logits, -1) * mask[:, None]  # (b, H, C, L)

        likeness = (unit_candidates @ unit_history.transpose(-1, -2)) * mask  # (b, C, L)
        attended = (attention * likeness[:, None]).sum(-1).transpose(1, 2)  # (b, C, H)
        recent = mask[..., None] * torch.exp(-0.5 * history_age_days)[:, None, :, None]
        features = torch.cat(
            [
                attended,
                edges.sum(2),
                edges.amax(2),
                (edges * recent).sum(2),
                likeness.amax(-1, keepdim=True),
                (likeness.sum(-1) / mask.sum(-1).clamp(min=1.0))[..., None],
                candidate_scores[..., None],
                torch.log(candidate_popularity + 0.3)[..., None],
                torch.log1p(mask.sum(-1)).expand_as(candidate_scores)[..., None],
            ],
            -1,
        )
        return features, attention.mean(1)


def unit(x: Tensor) -> Tensor:
    """Unit rows; a zero row stays zero."""
    return x / x.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-6)


def _padded(x: Tensor) -> Tensor:
    """Back to the width of the stored vectors, whose last column carries popularity and not direction."""
    return torch.nn.functional.pad(x, (0, 1))
