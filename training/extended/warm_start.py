"""Cross-domain warm start: a shop that has data teaches a new one what can be taught without common items.

Both shops describe items in one content space c. What is learned on top of it holds for either: the projection W, how
far to look along text and image neighbours (g), how popularity and history weigh (ρ, a) and the temperature τ. An
item's own vector stays behind, there is no such item in the other shop.

    e_i = keep_i · ID_i + W c_i          z = e + Σ_r g_r Â_r e          weight_j = deg_j^-a
    logit(u, i) = u · unit(z_i) / τ + ρ log(1 + deg_i)                  u as in `history_softmax`

keep is 0 for items without interactions, and in training for a random share, so that content learns to stand alone.
`transfer` takes any module; what belongs to the items of one shop is named and left.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from service.errors import DataError
from training.extended.history_softmax import Items, hidden_softmax
from training.sparse import Pattern, aggregate

IDENTITY = "identity"
"""The parameter that belongs to the items of one shop."""


class WarmStartSettings(BaseModel):
    """How a content tower is fitted, on the first shop and on the second."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    dim: int = Field(64, ge=2)
    """Width of item vectors."""
    epochs: int = Field(12, ge=1)
    """Passes over the shoppers."""
    batch_size: int = Field(1024, ge=1)
    """Shoppers a step."""
    learning_rate: float = Field(0.003, gt=0)
    """Adam's step size."""
    negatives: int = Field(500, ge=1)
    """Items drawn uniformly for a step and shared by its shoppers."""
    hidden_share: float = Field(0.5, gt=0, lt=1)
    """Share of a history that a step hides."""
    identity_dropout: float = Field(0.3, ge=0, lt=1)
    """Share of items that lose their own vector in a step."""
    temperature: float = Field(0.15, gt=0)
    """Where the learned temperature starts."""
    seed: int = 0
    """Seeds weights, order, hidden items and negatives."""


@dataclass(frozen=True)
class Shop:
    """What a tower is fitted on; raises DataError where the parts are not of the same items."""

    train: sp.csr_matrix
    """Binary (users, items)."""
    content: Tensor
    """(items, c) float32."""
    relations: tuple[Pattern, ...]
    """Normalised (items, items), the same kinds in the same order in both shops."""

    def __post_init__(self) -> None:
        items = self.train.shape[1]
        for name, found in (("content", self.content.shape[0]), *(("relations", r.shape[0]) for r in self.relations)):
            if found != items:
                raise DataError(
                    f"{found} items beside {items} of train", where=name, todo="Build both from one catalog"
                )

    @cached_property
    def degree(self) -> Tensor:
        """Interactions an item: (items,)."""
        return torch.from_numpy(np.asarray(self.train.sum(0), np.float32).ravel())


class ContentTower(nn.Module):
    """See the module's docstring."""

    def __init__(self, num_items: int, content_dim: int, num_relations: int, dim: int, temperature: float) -> None:
        super().__init__()
        self.identity = nn.Parameter(torch.randn(num_items, dim) * 0.05)
        self.content = nn.Linear(content_dim, dim, bias=False)
        nn.init.normal_(self.content.weight, std=0.1)
        self.gain = nn.Parameter(torch.ones(num_relations))
        self.degree_exponent = nn.Parameter(torch.tensor(0.5))
        self.popularity_gain = nn.Parameter(torch.tensor(0.7))
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))

    def items(self, shop: Shop, keep: Tensor) -> Items:
        """Vectors, prior and weights of all items: keep (n, 1) in {0, 1}."""
        e = keep * self.identity + self.content(shop.content)
        z = e
        for gain, edges in zip(self.gain, shop.relations, strict=True):
            z = z + gain * aggregate(edges, edges.prior, e)
        log_degree = torch.log1p(shop.degree)
        weight = torch.exp(-self.degree_exponent * log_degree)
        return Items(z, self.popularity_gain * log_degree, torch.exp(self.log_temperature), weight)

    def fitted(self, shop: Shop) -> Items:
        """Items as they are ranked: an item without interactions stands on content and neighbours alone."""
        with torch.no_grad():
            return self.items(shop, (shop.degree > 0).float()[:, None])


def new_tower(shop: Shop, settings: WarmStartSettings) -> ContentTower:
    """A tower for a shop, from seeded random weights."""
    torch.manual_seed(settings.seed)
    return ContentTower(
        shop.content.shape[0], shop.content.shape[1], len(shop.relations), settings.dim, settings.temperature
    )


def transfer(source: nn.Module, target: nn.Module, *, leave: Collection[str] = (IDENTITY,)) -> list[str]:
    """Copy every parameter of `source` but `leave` into `target`; returns the names of those copied.

    Raises DataError where one is missing or of another shape: then the shops do not share a content space.
    """
    theirs, ours = dict(source.named_parameters()), dict(target.named_parameters())
    names = [name for name in theirs if name not in leave]
    for name in names:
        if name not in ours or ours[name].shape != theirs[name].shape:
            shape = tuple(ours[name].shape) if name in ours else "nothing"
            raise DataError(
                f"{tuple(theirs[name].shape)} does not fit {shape}",
                where=name,
                todo="Give both shops the same content space, relations and width",
            )
    with torch.no_grad():
        for name in names:
            ours[name].copy_(theirs[name])
    return names


def fit_tower(tower: ContentTower, shop: Shop, settings: WarmStartSettings) -> Iterator[float]:
    """Fit in place; yields the mean loss after each epoch. An epoch's randomness depends on (seed, epoch) alone."""
    optimizer = torch.optim.Adam(tower.parameters(), lr=settings.learning_rate)
    known = (shop.degree > 0).float()[:, None]
    users = np.flatnonzero(np.diff(shop.train.indptr) > 1)
    for epoch in range(settings.epochs):
        rng = np.random.default_rng([settings.seed, epoch])
        order = rng.permutation(users)
        losses = []
        for first in range(0, len(order), settings.batch_size):
            batch = shop.train[order[first : first + settings.batch_size]]
            dropped = torch.from_numpy(rng.random((len(known), 1)) >= settings.identity_dropout)
            loss = hidden_softmax(
                tower.items(shop, known * dropped),
                batch,
                negatives=settings.negatives,
                hidden_share=settings.hidden_share,
                rng=rng,
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        yield float(np.mean(losses)) if losses else 0.0
