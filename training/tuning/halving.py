"""Asynchronous successive halving (Li et al. 2018, arXiv:1810.05934) over the records of a search.

At epochs first, first * r, first * r**2 ... a trial goes on where its validation recall is among the best 1/r of all
trials that came that far. Ray's own ASHA forgets its comparisons when a search is taken up again; here they are read
from the records each time, so a search goes on comparing with what it has seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.evaluation.result import Epoch
from training.tuning.records import Trial


class Halving:
    """When a trial stops. `first` epochs are never stopped before; `reduction` 1 stops none."""

    def __init__(self, first: int, reduction: int) -> None:
        self.first = first
        self.reduction = reduction

    def stops(self, curve: Sequence[Epoch], number: int, others: Sequence[Trial]) -> bool:
        """Whether trial `number` with `curve` so far ends here, beside what `others` had at the same epoch."""
        done = len(curve)
        if not self._is_rung(done):
            return False
        mine = best_until(curve, done)
        rivals = [
            best_until(trial.curve, done) for trial in others if trial.number != number and len(trial.curve) >= done
        ]
        if not rivals:
            return False
        return bool(mine < np.quantile([*rivals, mine], 1 - 1 / self.reduction))

    def _is_rung(self, epoch: int) -> bool:
        if self.reduction == 1:
            return False
        rung = self.first
        while rung < epoch:
            rung *= self.reduction
        return rung == epoch


def best_until(curve: Sequence[Epoch], epoch: int) -> float:
    """The best validation recall@20 of the first `epoch` epochs."""
    return max((e.validation_recall_at_20 or 0.0 for e in curve[:epoch]), default=0.0)
