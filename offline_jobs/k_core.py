"""k-core: the largest set of interactions in which every user and every item has at least k distinct partners."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

Codes = npt.NDArray[np.int64]


class CoreSize(NamedTuple):
    """How much a k-core holds; interactions are distinct (user, item) pairs."""

    k: int
    users: int
    items: int
    interactions: int


def k_core(interactions: pl.DataFrame, k: int) -> pl.Series:
    """Which rows stay, as a boolean series. Degrees count distinct partners, so repeat purchases do not help.

    Each round drops the users and items below k; the rounds end when none is, and the result does not depend
    on their order.
    """
    if interactions.is_empty():
        return pl.Series("stays", np.ones(0, dtype=bool))
    user, item = _codes(interactions)
    pair_user, pair_item = _core(*_pairs(user, item), k)
    in_user, in_item = np.zeros(user.max() + 1, dtype=bool), np.zeros(item.max() + 1, dtype=bool)
    in_user[pair_user], in_item[pair_item] = True, True
    return pl.Series("stays", in_user[user] & in_item[item])


def core_sizes(interactions: pl.DataFrame, ks: tuple[int, ...]) -> list[CoreSize]:
    """What each k-core would keep, `ks` ascending: a larger core lies within a smaller one."""
    if interactions.is_empty():
        return [CoreSize(k, 0, 0, 0) for k in ks]
    pair_user, pair_item = _pairs(*_codes(interactions))
    sizes = []
    for k in ks:
        pair_user, pair_item = _core(pair_user, pair_item, k)
        sizes.append(CoreSize(k, len(np.unique(pair_user)), len(np.unique(pair_item)), len(pair_user)))
    return sizes


def _codes(interactions: pl.DataFrame) -> tuple[Codes, Codes]:
    """Users and items numbered from 0, int64 (rows,) each."""
    codes = interactions.select(
        (pl.col(name).rank("dense") - 1).cast(pl.Int64).alias(name) for name in ("user_id", "item_id")
    )
    return codes["user_id"].to_numpy(), codes["item_id"].to_numpy()


def _pairs(user: Codes, item: Codes) -> tuple[Codes, Codes]:
    """Every (user, item) once."""
    num_items = int(item.max()) + 1
    pairs = np.unique(user * num_items + item)
    return pairs // num_items, pairs % num_items


def _core(pair_user: Codes, pair_item: Codes, k: int) -> tuple[Codes, Codes]:
    """The pairs of the k-core, given distinct pairs."""
    while len(pair_user):
        keep = (np.bincount(pair_user)[pair_user] >= k) & (np.bincount(pair_item)[pair_item] >= k)
        if keep.all():
            break
        pair_user, pair_item = pair_user[keep], pair_item[keep]
    return pair_user, pair_item
