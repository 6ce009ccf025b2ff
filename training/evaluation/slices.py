"""Where a model is good: at popular and at rare items, for shoppers who are well known and for those who are not.

Items are sliced by how many shoppers have them in training; shoppers by how many items they have there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from training.ranking_metrics import Ranking, gains

HEAD, MID = 0.2, 0.3
"""Shares of the items with training interactions; the rest is the tail."""
ACTIVITY = (1, 5, 10, 20)
"""Fewest training items of each bucket of shoppers."""

PerShopper = dict[str, npt.NDArray[np.float64]]


def item_slices(known: sp.csr_matrix) -> dict[str, npt.NDArray[np.bool_]]:
    """`items/head`, `items/mid`, `items/tail`, `items/cold` -> mask (items,). Equal degrees stand in item order."""
    degree = np.bincount(known.indices, minlength=known.shape[1])
    order = np.argsort(-degree, kind="stable")
    warm = int(np.count_nonzero(degree))
    edges = [0, round(HEAD * warm), round((HEAD + MID) * warm), warm, known.shape[1]]
    masks = {}
    for name, first, last in zip(("head", "mid", "tail", "cold"), edges, edges[1:], strict=False):
        masks[f"items/{name}"] = np.zeros(known.shape[1], bool)
        masks[f"items/{name}"][order[first:last]] = True
    return masks


def user_slices(known: sp.csr_matrix, users: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.bool_]]:
    """`users/1-4`, `users/5-9`, `users/10-19`, `users/20+` -> mask over `users` (m,)."""
    count = np.diff(known.indptr)[users]
    masks = {}
    for low, high in zip(ACTIVITY, (*ACTIVITY[1:], None), strict=True):
        name = f"users/{low}+" if high is None else f"users/{low}-{high - 1}"
        masks[name] = (count >= low) & (count < (high if high is not None else np.inf))
    return masks


def sliced(
    ranking: Ranking,
    hit: npt.NDArray[np.bool_],
    relevant: sp.csr_matrix,
    known: sp.csr_matrix,
    whole: Mapping[str, npt.NDArray[np.float64]],
    ks: Sequence[int],
) -> dict[str, PerShopper]:
    """Slice -> metric -> (m,), NaN for shoppers who are not in the slice; slices without any shopper are left out.

    A slice of items keeps the ranking over all items and asks only for the shopper's relevant items of that slice.
    """
    out: dict[str, PerShopper] = {}
    for name, mask in item_slices(known).items():
        inside = relevant.multiply(mask[None, :]).tocsr()
        inside.eliminate_zeros()
        count = np.diff(inside.indptr)[ranking.users]
        some = count > 0
        if some.any():
            found = gains(hit[some] & mask[ranking.rows[some]], count[some], ks)
            out[name] = {metric: _spread(values, some) for metric, values in found.items()}
    for name, some in user_slices(known, ranking.users).items():
        if some.any():
            out[name] = {metric: np.where(some, values, np.nan) for metric, values in whole.items()}
    return out


def _spread(values: npt.NDArray[np.float64], where: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    out = np.full(len(where), np.nan)
    out[where] = values
    return out
