"""The item tower: a vector for an item that no one has bought yet, from its content and its nearest known items.

    v = unit( W2 gelu(W1 [c, n]) + P c + g n ),   c fused content, n = unit( Σ_k w_k unit(neighbor_k) )

Fitted to give back the GAT's own vectors of items with interactions, each hidden from its own neighborhood.
Shapes: b items, K neighbors, d width of the stored vectors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.reranker import unit


class ItemTower(nn.Module):
    """fused (b, 128), neighbor_vectors (b, K, d), neighbor_weights (b, K) -> item vector (b, d) of an unbought item."""

    def __init__(self, *, dim: int, fused_dim: int, temperature: float, unseen_popularity: float) -> None:
        super().__init__()
        width = dim - 1
        self.project = nn.Linear(fused_dim, width, bias=False)
        self.near = nn.Parameter(torch.ones(()))
        self.hidden = nn.Linear(fused_dim + width, 128)
        self.out = nn.Linear(128, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.temperature = temperature
        self.unseen_popularity = unseen_popularity

    def forward(self, fused: Tensor, neighbor_vectors: Tensor, neighbor_weights: Tensor) -> Tensor:
        """See the class."""
        direction = self.direction(fused, around(neighbor_vectors, neighbor_weights))
        prior = torch.full_like(direction[:, :1], self.unseen_popularity)
        return torch.cat([direction / self.temperature, prior], 1)

    def direction(self, fused: Tensor, near: Tensor) -> Tensor:
        """The unit vector alone, from content (b, 128) and the mean of the neighbors (b, d - 1): (b, d - 1)."""
        hidden = self.out(F.gelu(self.hidden(torch.cat([fused, near], 1))))
        return unit(self.project(fused) + self.near * near + hidden)


def around(neighbor_vectors: Tensor, neighbor_weights: Tensor) -> Tensor:
    """n: the unit weighted mean of the neighbors' directions, (b, K, d), (b, K) -> (b, d - 1); zero without any."""
    return unit((neighbor_weights[..., None] * unit(neighbor_vectors[..., :-1])).sum(1))


def fit_item_tower(
    tower: ItemTower,
    fused: Tensor,
    item_vectors: Tensor,
    neighbors: Tensor,
    weights: Tensor,
    known: Tensor,
    *,
    steps: int = 400,
    seed: int = 0,
) -> float:
    """Fit on `known` (w,) item rows; returns the mean cosine to the GAT's vectors over the last tenth of the steps.

    fused (n, 128), item_vectors (n, d), neighbors (n, K) with -1 where there is none, weights (n, K).
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(tower.parameters(), lr=0.003)
    target = unit(item_vectors[known, :-1])
    near = torch.cat(
        [
            around(item_vectors[neighbors[rows].clamp(min=0)], weights[rows] * (neighbors[rows] >= 0))
            for rows in torch.split(known, 4096)
        ]
    )
    cosines = []
    for _ in range(steps):
        drawn = torch.randint(0, len(known), (512,), generator=generator)
        direction = tower.direction(fused[known[drawn]], near[drawn])
        cosine = (direction * target[drawn]).sum(1).mean()
        optimizer.zero_grad()
        (1.0 - cosine).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        cosines.append(cosine.item())
    return sum(cosines[-steps // 10 :]) / max(1, steps // 10)
