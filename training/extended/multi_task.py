"""Two heads over shared experts: how probable a click is, and which item comes first.

    e_j = relu(W_j2 relu(W_j1 f))                      experts, shared by both heads
    h_t = Σ_j softmax_j(G_t f) e_j                     each head's own mixture (MMoE, Ma et al. 2018)
    z   = MLP_click(h_click),   s = MLP_rank(h_rank)
    p(click | f, place) = σ(z) · seen(place)           seen(0) = 1 (PAL, Guo et al. 2019)
    loss = a BCE(p, click) - b Σ click log softmax over the slate of (s + t(place))

Where an item stood explains part of its clicks; `seen` and `t` take that part, and serving leaves them out: σ(z) is the
probability at the top of the slate. So the log's own order, which put at the top what the old policy liked, is not
learned as a preference. Both losses share the experts, as in JRC (Sheng et al. 2023, arXiv:2208.06164).

Shapes: b slates, C items of each, F features, E experts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EDGE = 10.0
"""Standard deviations from the mean beyond which a feature's value counts no further."""


class MultiTask(nn.Module):
    """The experts, the two heads, and what the place of an item did in the log."""

    def __init__(self, *, num_features: int, num_places: int, experts: int = 4, hidden: int = 32) -> None:
        super().__init__()
        self.feature_mean: Tensor
        self.feature_scale: Tensor
        self.register_buffer("feature_mean", torch.zeros(num_features))
        self.register_buffer("feature_scale", torch.ones(num_features))
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(num_features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
            for _ in range(experts)
        )
        self.gates = nn.ModuleList(nn.Linear(num_features, experts) for _ in range(2))
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(hidden, hidden // 2), nn.ReLU(), nn.Linear(hidden // 2, 1)) for _ in range(2)
        )
        self.looked = nn.Parameter(torch.zeros(num_places - 1))
        self.shown = nn.Parameter(torch.zeros(num_places - 1))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(b, C, F) -> logit of a click at the top (b, C), ranking score (b, C); larger is better in both."""
        # What lies far outside the log counts as its edge, so that no head answers a wild input wildly.
        f = ((features - self.feature_mean) / self.feature_scale).clamp(-EDGE, EDGE)
        expert = torch.stack([one(f) for one in self.experts], -1)  # (b, C, H, E)
        logit, score = (
            head((expert * torch.softmax(gate(f), -1)[:, :, None]).sum(-1)).squeeze(-1)
            for head, gate in zip(self.heads, self.gates, strict=True)
        )
        return logit, score

    def log_seen(self) -> Tensor:
        """log seen(place), (places,): 0 at the top, never above."""
        return F.pad(F.logsigmoid(self.looked), (1, 0))

    def place_scores(self) -> Tensor:
        """t(place), (places,): what a place adds to the ranking score in the log; 0 at the top."""
        return F.pad(self.shown, (1, 0))


class Served(nn.Module):
    """What is exported: features (b, C, F) -> click probability at the top (b, C), ranking score (b, C)."""

    def __init__(self, model: MultiTask) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        logit, score = self.model(features)
        return torch.sigmoid(logit), score


def click_loss(logit: Tensor, log_seen: Tensor, click: Tensor) -> Tensor:
    """Mean cross-entropy of σ(logit) · exp(log_seen) and the clicks; all (b, S)."""
    log_p = F.logsigmoid(logit) + log_seen
    log_not = torch.log1p(-torch.exp(log_p.clamp(max=-1e-6)))
    return -(click * log_p + (1 - click) * log_not).mean()


def rank_loss(score: Tensor, place_score: Tensor, click: Tensor) -> Tensor:
    """Softmax cross-entropy over the slate, mean over slates with a click (0 where none has any); all (b, S)."""
    total = click.sum(1, keepdim=True)
    target = click / total.clamp(min=1.0)
    each = -(target * torch.log_softmax(score + place_score, 1)).sum(1)
    return each.sum() / (total > 0).sum().clamp(min=1)
