"""What the learned baselines share: one table of vectors for shoppers and items, and what comes out of it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn


class EmbeddingModel(nn.Module, ABC):
    """A free vector for each of n shoppers and m items; a subclass says what the final vectors are."""

    def __init__(self, num_users: int, num_items: int, dim: int, seed: int) -> None:
        """`ego` (n + m, d) float32, shoppers first; both parts start as Glorot and Bengio's (2010) uniform."""
        super().__init__()
        self.num_users = num_users
        self.num_items = num_items
        random = torch.Generator().manual_seed(seed)
        parts = [torch.empty(rows, dim) for rows in (num_users, num_items)]
        for part in parts:
            if part.numel():
                nn.init.xavier_uniform_(part, generator=random)
        self.ego = nn.Parameter(torch.cat(parts))

    def start_epoch(self, random: np.random.Generator) -> None:
        """Draw what an epoch keeps fixed, such as the edges it leaves out."""

    @abstractmethod
    def training_table(self) -> Tensor:
        """Final vectors (n + m, d) of a training step, differentiable in `ego`."""

    def table(self) -> Tensor:
        """Final vectors (n + m, d) for use, without gradient."""
        with torch.no_grad():
            return self.training_table()
