"""Items a batch is held against: one that the shopper does not have, or a set that the batch shares."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

Rows = npt.NDArray[np.int64]

ROUNDS = 20
"""Draws before a shopper who has nearly everything keeps an item he has."""


def unseen_items(random: np.random.Generator, train: sp.csr_matrix, users: Rows) -> Rows:
    """For each of `users` (B,) a uniform item that he has not in `train` (n, m, indices sorted): (B,).

    Drawn for all at once; who drew an item he has draws again, at most ROUNDS times.
    """
    num_items = train.shape[1]
    owner = np.repeat(np.arange(train.shape[0], dtype=np.int64), np.diff(train.indptr))
    known = owner * num_items + train.indices
    drawn = random.integers(0, num_items, len(users))
    open_ = np.arange(len(users))
    for _ in range(ROUNDS):
        keys = users[open_] * num_items + drawn[open_]
        place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        open_ = open_[known[place] == keys]
        if not len(open_):
            break
        drawn[open_] = random.integers(0, num_items, len(open_))
    return drawn


class NegativeDraw:
    """Draws the items that a batch shares, in proportion to q, and tells how often each was to be expected."""

    def __init__(self, train: sp.csr_matrix, count: int, power: float) -> None:
        """q is proportional to the items' degree in `train` (n, m), at least 1, to `power`.

        With power 0 the draw is without replacement, so that `count` of at least m are all items, once each.
        """
        self._num_items = train.shape[1]
        self._count = min(count, self._num_items) if power == 0 else count
        degree = np.asarray(train.sum(0)).ravel().astype(np.float64)
        chance = np.maximum(degree, 1.0) ** power
        self._cumulative = None if power == 0 else np.cumsum(chance) / chance.sum()
        self._log_expected = torch.from_numpy(np.log(self._count * chance / chance.sum()).astype(np.float32))

    def __call__(self, random: np.random.Generator, positives: Rows) -> tuple[Rows, Tensor]:
        """Drawn items (N,), and the (row, column) pairs (2, p) int64 where a row's positive (B,) is a drawn item."""
        if self._cumulative is None:
            drawn = random.choice(self._num_items, self._count, replace=False)
        else:
            drawn = np.minimum(np.searchsorted(self._cumulative, random.random(self._count)), self._num_items - 1)
        order = np.argsort(drawn, kind="stable")
        low, high = (np.searchsorted(drawn[order], positives, side) for side in ("left", "right"))
        row = np.repeat(np.arange(len(positives)), high - low)
        offset = np.arange(len(row)) - np.repeat(np.cumsum(high - low) - (high - low), high - low)
        return drawn, torch.from_numpy(np.stack([row, order[np.repeat(low, high - low) + offset]]))

    def log_expected(self, drawn: Rows) -> Tensor:
        """log(N q_j) of drawn items (N,), float32."""
        return self._log_expected[torch.from_numpy(drawn)]
