"""The network that makes one 128-d item vector of several modalities, each of which may be missing.

    h     = Σ_m  p_m (A_m x_m + a_m) + (1 - p_m) e_m          p_m: presence bit of modality m
    y     = W gelu(norm(h)) + Σ_m p_m (S_m x_m + s_m)         the skip S starts as PCA of text and image
    fused = y / |y|, zero where nothing that says enough alone is present

A missing modality is a presence bit and a learned vector `e`, never a mean vector: items without a photo do not become
alike. `look` is the same network shown the image alone and `meaning` the text alone: all three live in one space, and
for an item with one modality `fused` equals that modality's projection exactly. What is absent is not read at all.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from offline_jobs.array_types import FloatArray
from offline_jobs.item_vectors import IMAGE, TEXT


class Fusion(nn.Module):
    """Vectors of several modalities with presence bits in; fused, look and meaning out."""

    def __init__(
        self, widths: Mapping[str, int], *, hidden: int, dim: int, alone: Collection[str] = (TEXT, IMAGE)
    ) -> None:
        """`widths`: modality name -> width, text and image among them; `alone`: who says enough without the others."""
        super().__init__()
        self.widths = dict(widths)
        self.names = tuple(widths)
        self.alone = tuple(name in alone for name in self.names)
        self.into = nn.ModuleDict({name: nn.Linear(width, hidden) for name, width in widths.items()})
        skips = {name: nn.Linear(width, dim) for name, width in widths.items()}
        self.skip = nn.ModuleDict(skips)
        self.missing = nn.Parameter(torch.zeros(len(widths), hidden))
        self.norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, dim)
        for layer in (self.out, *skips.values()):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def start_at(self, axes: Mapping[str, tuple[FloatArray, FloatArray]]) -> None:
        """Set some modalities' skip to weights (dim, width) and biases (dim,), as `principal_axes` makes them."""
        with torch.no_grad():
            for name, (weight, bias) in axes.items():
                self.skip.get_parameter(f"{name}.weight").copy_(torch.from_numpy(weight))
                self.skip.get_parameter(f"{name}.bias").copy_(torch.from_numpy(bias))

    def forward(self, values: Sequence[Tensor], bits: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """(b, width) and a presence bit (b, 1) a modality to fused, look, meaning (b, dim), unit or zero rows."""
        parts = self.project(values)
        return self.mix(parts, bits), self.mix(parts, self.only(bits, IMAGE)), self.mix(parts, self.only(bits, TEXT))

    def only(self, bits: Sequence[Tensor], *shown: str) -> list[Tensor | None]:
        """The presence bits with every modality but those of `shown` hidden: None there."""
        return [bit if name in shown else None for name, bit in zip(self.names, bits, strict=True)]

    def project(self, values: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The wide layers, shared by the three outputs: hidden (b, hidden) and skip (b, dim) of each modality."""
        return [(self.into[name](x), self.skip[name](x)) for name, x in zip(self.names, values, strict=True)]

    def mix(self, parts: Sequence[tuple[Tensor, Tensor]], bits: Sequence[Tensor | None]) -> Tensor:
        """Unit vectors (b, dim) out of `project`'s parts where the bits (b, 1) are 1; zero where nothing is.

        A modality whose bits are None is absent everywhere.
        """
        hidden = sum(e for e, bit in zip(self.missing, bits, strict=True) if bit is None)
        skip: Tensor | int = 0
        enough: Tensor | int = 0
        for (in_hidden, in_skip), bit, missing, alone in zip(parts, bits, self.missing, self.alone, strict=True):
            if bit is not None:
                hidden = hidden + torch.where(bit > 0, in_hidden, missing)
                skip = skip + torch.where(bit > 0, in_skip, 0.0)
                enough = enough + bit if alone else enough
        y = self.out(functional.gelu(self.norm(hidden))) + skip
        return functional.normalize(y, dim=-1) * (enough > 0)


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
