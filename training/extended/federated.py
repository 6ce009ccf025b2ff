"""Federated averaging (McMahan et al. 2017, arXiv:1602.05629), simulated: shoppers stay with their client.

The model holds item vectors E (n, d) and biases b (n,) alone. A shopper is the aggregate of the history, so there is
no user vector that could leave a client, and a new shopper needs no round of training:

    u = unit( Σ_{j in shown} unit(E_j) )        logit(u, i) = u · unit(E_i) / τ + b_i        (`history_softmax`)

A round: the server sends the model to the clients drawn; each runs local epochs of SGD on a softmax that hides a
share of every history and learns to find it; the server takes the average, weighted by the clients' interactions.

With `clip` the average is instead over clipped changes, every client alike, and with `noise` it is DP-FedAvg (McMahan
et al. 2018, arXiv:1710.06963): each client joins a round with probability q, the sum of changes of norm at most C gets
Gaussian noise of deviation z C, and is divided by q K. What that guarantees a whole client is `privacy.epsilon`.

Left out: secure aggregation. The server of this simulation sees every client's weights; in the field their sum alone
would have to reach it (Bonawitz et al. 2017). Without it the noise protects who reads the model, not from the server.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from training.extended.history_softmax import Items, hidden_softmax

Shard = npt.NDArray[np.int64]
"""User rows of one client."""
State = tuple[Tensor, Tensor]
"""E (n, d) and b (n,)."""


class FederatedSettings(BaseModel):
    """How a model is learned over clients."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    dim: int = Field(64, ge=2)
    """Width of item vectors."""
    rounds: int = Field(40, ge=1)
    """Times the server averages."""
    local_epochs: int = Field(1, ge=1)
    """Passes a client makes over its shoppers in a round."""
    batch_size: int = Field(256, ge=1)
    """Shoppers a step."""
    learning_rate: float = Field(10.0, gt=0)
    """Step size of the clients' SGD."""
    server_rate: float = Field(1.0, gt=0)
    """What the server multiplies the averaged change with; 1 takes the average itself."""
    participation: float = Field(1.0, gt=0, le=1)
    """Share of clients in a round: drawn without replacement, or each by itself where `clip` is set."""
    temperature: float = Field(0.2, gt=0)
    """Divides the cosine between shopper and item."""
    negatives: int = Field(500, ge=1)
    """Items drawn uniformly for a step and shared by its shoppers."""
    hidden_share: float = Field(0.5, gt=0, lt=1)
    """Share of a history that a step hides."""
    clip: float | None = Field(None, gt=0)
    """Largest L2 norm of one client's change."""
    noise: float = Field(0.0, ge=0)
    """z: deviation of the noise on the sum of changes, as a multiple of `clip`."""
    seed: int = 0
    """Seeds the first model, who takes part, what is hidden and the noise."""


@dataclass(frozen=True)
class Round:
    """What one round did."""

    number: int
    clients: int
    steps: int
    """SGD steps of all clients together."""
    bytes_sent: int
    """Down and up: every client gets the float32 model and returns one like it."""
    clipped: int
    """Clients whose change was longer than `clip`."""


def start(num_items: int, settings: FederatedSettings) -> State:
    """The model that the first round sends out."""
    generator = torch.Generator().manual_seed(settings.seed)
    vectors = torch.randn(num_items, settings.dim, generator=generator) / math.sqrt(settings.dim)
    return vectors, torch.zeros(num_items)


def items_of(state: State, settings: FederatedSettings) -> Items:
    """The model as `history_softmax` takes it."""
    return Items(vectors=state[0], prior=state[1], temperature=settings.temperature)


def local_sgd(
    state: State, histories: sp.csr_matrix, settings: FederatedSettings, rng: np.random.Generator
) -> tuple[State, int]:
    """A client's work in a round on its shoppers' (users, items) matrix: the model afterwards, and the steps."""
    vectors, bias = (part.clone().requires_grad_() for part in state)
    steps = 0
    for _ in range(settings.local_epochs):
        order = rng.permutation(histories.shape[0])
        for first in range(0, len(order), settings.batch_size):
            loss = hidden_softmax(
                items_of((vectors, bias), settings),
                histories[order[first : first + settings.batch_size]],
                negatives=settings.negatives,
                hidden_share=settings.hidden_share,
                rng=rng,
            )
            gradients = torch.autograd.grad(loss, (vectors, bias))
            with torch.no_grad():
                for part, gradient in zip((vectors, bias), gradients, strict=True):
                    part.sub_(gradient, alpha=settings.learning_rate)
            steps += 1
    return (vectors.detach(), bias.detach()), steps


def federated_fit(
    train: sp.csr_matrix,
    shards: Sequence[Shard],
    settings: FederatedSettings,
    *,
    state: State | None = None,
    done: int = 0,
) -> Iterator[tuple[State, Round]]:
    """Yield the model after every round. Binary `train` (users, items); clients without interactions are left out.

    A round's randomness depends on (seed, round, client) alone: with the last `state` and `done` rounds a fit that
    was interrupted goes on to the same model.
    """
    clients = [train[shard] for shard in shards]
    clients = [client for client in clients if client.nnz]
    state = start(train.shape[1], settings) if state is None else state
    for number in range(done, settings.rounds):
        rng = np.random.default_rng([settings.seed, number])
        state, what = _round(state, clients, settings, number, rng)
        yield state, what


def _round(
    state: State, clients: Sequence[sp.csr_matrix], settings: FederatedSettings, number: int, rng: np.random.Generator
) -> tuple[State, Round]:
    drawn = _drawn(len(clients), settings, rng)
    total = [torch.zeros_like(part) for part in state]
    steps, clipped = 0, 0
    mass = sum(clients[client].nnz for client in drawn)
    for client in drawn:
        own = np.random.default_rng([settings.seed, number, int(client)])
        after, made = local_sgd(state, clients[client], settings, own)
        steps += made
        if settings.clip is None:
            parts, share = after, clients[client].nnz / mass
        else:
            change = (after[0] - state[0], after[1] - state[1])
            norm = math.sqrt(sum(float(part.square().sum()) for part in change))
            clipped += norm > settings.clip
            parts, share = change, min(1.0, settings.clip / max(norm, 1e-12))
        for sum_of, part in zip(total, parts, strict=True):
            sum_of.add_(part, alpha=share)
    sent = 2 * 4 * len(drawn) * sum(part.numel() for part in state)
    moved = _averaged(state, total, settings, settings.participation * len(clients), len(drawn), rng)
    return moved, Round(number, len(drawn), steps, sent, clipped)


def _drawn(clients: int, settings: FederatedSettings, rng: np.random.Generator) -> Shard:
    if settings.clip is not None:
        return np.flatnonzero(rng.random(clients) < settings.participation)
    return np.sort(rng.choice(clients, max(1, round(settings.participation * clients)), replace=False))


def _averaged(
    state: State,
    total: list[Tensor],
    settings: FederatedSettings,
    expected: float,
    drawn: int,
    rng: np.random.Generator,
) -> State:
    """The server's step. `total` is the weighted average, or with `clip` the sum of changes, `expected` clients."""
    if settings.clip is not None:
        generator = torch.Generator().manual_seed(int(rng.integers(2**63 - 1)))
        spread = settings.noise * settings.clip
        total = [t + spread * torch.randn(t.shape, generator=generator) for t in total] if spread else total
        change = [t / expected for t in total]
    elif settings.server_rate == 1.0 or not drawn:
        return total[0], total[1]
    else:
        change = [t - old for t, old in zip(total, state, strict=True)]
    first, second = (old + settings.server_rate * t for old, t in zip(state, change, strict=True))
    return first, second


def shards_of(
    train: sp.csr_matrix, clients: int, how: Literal["random", "activity"], rng: np.random.Generator
) -> list[Shard]:
    """Users in `clients` parts of equal size: at random, or by activity, so that a client's shoppers are all alike."""
    users = rng.permutation(train.shape[0])
    if how == "activity":
        users = users[np.argsort(np.diff(train.indptr)[users], kind="stable")]
    return list(np.array_split(users, clients))
