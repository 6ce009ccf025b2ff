"""iALS (Hu, Koren, Volinsky 2008), by `implicit`."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from training.ranking_metrics import Scores


def ials(
    train: sp.csr_matrix, *, factors: int = 128, regularization: float = 0.05, iterations: int = 15, seed: int = 0
) -> Scores:
    """Implicit-feedback alternating least squares; needs the `dev` extra's `implicit`."""
    from implicit.als import AlternatingLeastSquares

    with threadpool_limits(1, "blas"):  # ALS runs its own threads; BLAS threads beneath them only fight
        model = AlternatingLeastSquares(
            factors=factors,
            regularization=regularization,
            iterations=iterations,
            random_state=seed,
            use_gpu=False,
            num_threads=1,
        )
        model.fit(train.astype(np.float32), show_progress=False)
    users, items = np.asarray(model.user_factors), np.asarray(model.item_factors)
    return lambda rows: (users[rows] @ items.T).astype(np.float32)
