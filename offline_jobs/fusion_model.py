"""The network that makes one 128-d item vector of a text and an image vector, either of which may be missing.

    h     = t·(A x_text + a) + (1-t)·m_text + v·(B x_image + b) + (1-v)·m_image      t, v: presence bits
    y     = W gelu(norm(h)) + t·(P x_text + p) + v·(Q x_image + q)                   the skip starts as PCA
    fused = y / |y|, zero where t = v = 0

A missing modality is a presence bit and a learned vector `m`, never a mean vector: items without a photo do not become
alike. `look` is the same network with t = 0 and `meaning` with v = 0, so all three live in one space, and for an item
with one modality `fused` equals that modality's projection exactly.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional


class Fusion(nn.Module):
    """Text and image vectors with presence bits in; fused, look and meaning out."""

    def __init__(self, text_dim: int, image_dim: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.text_in = nn.Linear(text_dim, hidden)
        self.image_in = nn.Linear(image_dim, hidden)
        self.text_missing = nn.Parameter(torch.zeros(hidden))
        self.image_missing = nn.Parameter(torch.zeros(hidden))
        self.norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, dim)
        self.text_skip = nn.Linear(text_dim, dim)
        self.image_skip = nn.Linear(image_dim, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def start_at_pca(self, text: npt.NDArray[np.float32], image: npt.NDArray[np.float32]) -> None:
        """Set the skip to the centred concatenation's principal axes: untrained, the network keeps raw likeness.

        text (n, text_dim) and image (n, image_dim): items that have both.
        """
        joined = np.concatenate([text, image], axis=1, dtype=np.float64)
        mean = joined.mean(axis=0)
        covariance = np.cov(joined - mean, rowvar=False)
        values, vectors = np.linalg.eigh(covariance)
        dim = self.out.out_features
        axes = vectors[:, ::-1][:, :dim].T  # (dim, text_dim + image_dim), largest variance first
        axes = axes * np.sign(axes[np.arange(dim), np.abs(axes).argmax(axis=1)])[:, None]
        axes /= np.sqrt(max(values[::-1][:dim].sum(), 1e-12))
        cut = text.shape[1]
        with torch.no_grad():
            for layer, columns in ((self.text_skip, slice(0, cut)), (self.image_skip, slice(cut, None))):
                layer.weight.copy_(torch.from_numpy(axes[:, columns]).float())
                layer.bias.copy_(torch.from_numpy(-axes[:, columns] @ mean[columns]).float())

    def forward(
        self, text: Tensor, image: Tensor, text_present: Tensor, image_present: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(b, text_dim), (b, image_dim), two bits (b, 1) to fused, look, meaning (b, dim), unit or zero rows."""
        parts = self.project(text, image)
        absent = torch.zeros_like(text_present)
        fused = self.mix(parts, text_present, image_present)
        return fused, self.mix(parts, absent, image_present), self.mix(parts, text_present, absent)

    def project(self, text: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The wide layers, shared by the three outputs: hidden (b, hidden) and skip (b, dim) of text, then of image."""
        return self.text_in(text), self.text_skip(text), self.image_in(image), self.image_skip(image)

    def mix(self, parts: tuple[Tensor, ...], t: Tensor, v: Tensor) -> Tensor:
        """Unit vectors (b, dim) out of `project`'s parts where t, v (b, 1) say what is there; zero where nothing is."""
        text_hidden, text_skip, image_hidden, image_skip = parts
        hidden = t * text_hidden + (1 - t) * self.text_missing
        hidden = hidden + v * image_hidden + (1 - v) * self.image_missing
        y = self.out(functional.gelu(self.norm(hidden))) + t * text_skip + v * image_skip
        return functional.normalize(y, dim=-1) * torch.maximum(t, v)


def softmax_over_pairs(
    left: Tensor,
    right: Tensor,
    left_item: Tensor,
    right_item: Tensor,
    log_share: Tensor,
    *,
    temperature: float,
    popularity: float,
) -> Tensor:
    """In-batch sampled softmax over co-bought pairs, both ways, corrected (logQ) for how often an item is drawn.

    left, right (p, dim): unit vectors of the pair's two items; left_item, right_item (p,): their rows; log_share
    (items,): log of an item's share of the draws. `popularity` 1 estimates the softmax over all items, whose scores
    learn log p(j | i); 0 learns log p(j | i) / p(j), what the pair says beyond the item's popularity.
    Source: Yi et al., Sampling-bias-corrected neural modeling, 2019; the positive was not sampled and stays as it is.
    """
    logits = left @ right.T / temperature
    there = _one_way(logits, left_item, right_item, log_share, popularity)
    back = _one_way(logits.T, right_item, left_item, log_share, popularity)
    return (there + back) / 2


def _one_way(logits: Tensor, query: Tensor, target: Tensor, log_share: Tensor, popularity: float) -> Tensor:
    own = torch.eye(len(target), dtype=torch.bool)
    same = ((target[None, :] == target[:, None]) | (target[None, :] == query[:, None])) & ~own
    share = log_share[target][None, :]
    prior = logits + (1 - popularity) * share
    sampled = prior - share - math.log(len(target))
    return functional.cross_entropy(
        torch.where(own, prior, sampled).masked_fill(same, float("-inf")), torch.arange(len(target))
    )


def align(look: Tensor, meaning: Tensor, temperature: float) -> Tensor:
    """InfoNCE between the two projections of the same items, each (n, dim), both ways."""
    logits = look @ meaning.T / temperature
    own = torch.arange(len(look))
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
