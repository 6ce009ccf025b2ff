"""The re-ranker: what the shopper's events say for each candidate, along the item graph, computed online.

Two answers are blended as shares of the candidates, each divided by its weighted mean (Σx²/Σx), so that neither's scale
matters. The first sums the linear item graph over the history, z_c = Σ_h w_h M_hc; the second is the softmax of the
retrieval score, g_c:

    base_c = log( z_c Σz/Σz² + b · g_c Σg/Σg² + ε )

Candidates attend to the history, each head with its own sharpness, edge weights, decay and order; what the heads find,
the item graph's edges summed and at their best, likeness and popularity go through a small network:

    a_ch   = softmax over events h of  s cos(c, h) + Σ_r w_r edge_chr - decay log(1 + age_h) - order log(1 + place_h)
    score  = base_c + MLP(f_c)

The MLP's last layer starts at zero, where the score is the blend alone: the layer has to earn what it changes. Nothing
in it depends on the axes of the vectors, so a re-ranker fitted beside one first stage serves another one of its kind.
Everything is dense and padded; there is no scatter, so the ONNX graph runs on any provider.

Shapes: b requests, C candidates, L history events (newest first), R relations (the linear one last), d width of the
vectors, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NEGATIVE = -1e4
"""Stands for minus infinity: the logit of a padded event, the retrieval score of a padded candidate."""
SMALL = 1e-6
"""ε: the least share that a candidate has."""


class Reranker(nn.Module):
    """Scores and attention of candidates; inputs and outputs as `service.bundle.signatures`."""

    def __init__(self, *, num_relations: int, heads: int = 4, hidden: int = 32) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.linspace(1.0, 8.0, heads))
        self.edge_weight = nn.Parameter(torch.ones(num_relations, heads))
        self.decay = nn.Parameter(torch.full((heads,), 0.1))
        self.order = nn.Parameter(torch.full((heads,), 0.1))
        self.linear_decay = nn.Parameter(torch.zeros(()))
        self.blend = nn.Parameter(torch.zeros(()))
        self.softness = nn.Parameter(torch.zeros(()))
        num_features = 2 * heads + 3 * num_relations + 7
        self.feature_mean: Tensor
        self.feature_scale: Tensor
        self.active: Tensor
        self.register_buffer("feature_mean", torch.zeros(num_features))
        self.register_buffer("feature_scale", torch.ones(num_features))
        self.register_buffer("active", torch.ones(()))
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
        Padded candidates have the score NEGATIVE and no edges: they change nothing for the others.
        """
        likeness = unit(candidate_vectors[..., :-1]) @ unit(history_vectors[..., :-1]).transpose(-1, -2)
        return self.score(likeness, candidate_scores, candidate_popularity, history_mask, history_age_days, edges)

    def score(
        self,
        likeness: Tensor,
        candidate_scores: Tensor,
        candidate_popularity: Tensor,
        history_mask: Tensor,
        history_age_days: Tensor,
        edges: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, from the cosines of candidates and events (b, C, L)."""
        base, features, attention = self.features(
            likeness, candidate_scores, candidate_popularity, history_mask, history_age_days, edges
        )
        normal = (features - self.feature_mean) / self.feature_scale
        reranked = base + self.mlp(normal).squeeze(-1)
        return self.active * reranked + (1.0 - self.active) * candidate_scores, attention

    def features(
        self,
        likeness: Tensor,
        candidate_scores: Tensor,
        candidate_popularity: Tensor,
        history_mask: Tensor,
        history_age_days: Tensor,
        edges: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The blend (b, C), what the MLP sees (b, C, F), and the attention (b, C, L); arguments as `score`."""
        mask = history_mask[:, None, :]  # (b, 1, L)
        place = (torch.cumsum(history_mask, 1) - 1.0).clamp(min=0.0)
        late = torch.log1p(history_age_days)
        likeness = likeness * mask
        fade = (
            self.decay[:, None] * late[:, None, :] + self.order[:, None] * torch.log1p(place)[:, None, :]
        )  # (b, H, L)
        logits = self.sharpness[:, None, None] * likeness[:, None] + (edges @ self.edge_weight).permute(0, 3, 1, 2)
        logits = logits - fade[:, :, None, :] + (1.0 - mask[:, None]) * NEGATIVE
        attention = torch.softmax(logits, -1) * mask[:, None]  # (b, H, C, L)
        linear = edges[..., -1]  # (b, C, L)
        found = share((linear * torch.exp(-self.linear_decay * late)[:, None, :]).sum(-1).clamp(min=0.0))
        near = torch.exp((candidate_scores - candidate_scores.amax(1, keepdim=True)) * torch.exp(self.softness))
        near = share(near)
        recent = mask[..., None] * torch.exp(-0.5 * history_age_days)[:, None, :, None]
        features = torch.cat(
            [
                (attention * likeness[:, None]).sum(-1).transpose(1, 2),  # (b, C, H)
                (attention * linear[:, None]).sum(-1).transpose(1, 2),
                edges.sum(2),
                edges.amax(2),
                (edges * recent).sum(2),
                likeness.amax(-1, keepdim=True),
                (likeness.sum(-1) / mask.sum(-1).clamp(min=1.0))[..., None],
                torch.log(found + SMALL)[..., None],
                torch.log(near + SMALL)[..., None],
                (candidate_scores - candidate_scores.amax(1, keepdim=True)).clamp(min=-50.0)[..., None],
                torch.log(candidate_popularity + 0.3)[..., None],
                torch.log1p(mask.sum(-1)).expand_as(candidate_scores)[..., None],
            ],
            -1,
        )
        return torch.log(found + torch.exp(self.blend) * near + SMALL), features, attention.mean(1)


def share(x: Tensor) -> Tensor:
    """Each of x >= 0 (b, C) over the mean that x itself weighs, Σx²/Σx; zeros where all are zero."""
    return x * x.sum(1, keepdim=True) / x.square().sum(1, keepdim=True).clamp(min=1e-12)


def unit(x: Tensor) -> Tensor:
    """Unit rows; a zero row stays zero, and so does its gradient."""
    return x / x.square().sum(-1, keepdim=True).clamp(min=1e-12).sqrt()
