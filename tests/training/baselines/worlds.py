"""Small random interactions for comparison with slow references."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


def random_interactions(seed: int, *, users: int = 40, items: int = 15) -> sp.csr_matrix:
    """(users, items) binary float32, popularity falling with the row; user 3 and item 5 are without any."""
    rng = np.random.default_rng(seed)
    bought = rng.random((users, items)) < np.linspace(0.6, 0.1, items)
    bought[3], bought[:, 5] = False, False
    return sp.csr_matrix(bought.astype(np.float32))
