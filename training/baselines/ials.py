"""iALS (Hu, Koren & Volinsky 2008, doi:10.1109/ICDM.2008.22): least squares over every pair, by `implicit`."""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.sparse as sp
from threadpoolctl import ThreadpoolController

from training.ranking_metrics import Scores


def ials(
    train: sp.csr_matrix,
    *,
    factors: int = 128,
    regularization: float = 0.05,
    alpha: float = 1.0,
    iterations: int = 15,
    seed: int = 0,
    threads: int = 0,
) -> Scores:
    """Minimise Σ_ui c_ui (r_ui - x_u·y_i)² + regularization (Σ_u |x_u|² + Σ_i |y_i|²) by alternating least squares.

    c is `alpha` where there is an interaction and 1 elsewhere. `train` (users, items) binary float32. `threads` 0
    takes every core; the result is the same for any number of them.
    """
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        factors=factors,
        regularization=regularization,
        alpha=alpha,
        iterations=iterations,
        random_state=seed,
        num_threads=threads,
    )
    # ALS runs its own threads; BLAS threads beneath them only fight.
    with _libraries().limit(limits=1, user_api="blas"):
        model.fit(train.astype(np.float32, copy=False), show_progress=False)
    users, items = model.user_factors, model.item_factors
    return lambda rows: np.asarray(users[rows] @ items.T, np.float32)


@cache
def _libraries() -> ThreadpoolController:
    """The process's BLAS libraries: finding them takes as long as a round of ALS on a small shop."""
    return ThreadpoolController()
