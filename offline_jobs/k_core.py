"""k-core: the largest set of interactions in which every user and every item has at least k distinct partners."""

from __future__ import annotations

import numpy as np
import polars as pl


def k_core(interactions: pl.DataFrame, k: int) -> pl.Series:
    """Which rows stay, as a boolean series. Degrees count distinct partners, so repeat purchases do not help.

    Each round drops the users and items below k; the rounds end when none is, and the result does not depend
    on their order.
    """
    codes = interactions.select(
        (pl.col(name).rank("dense") - 1).cast(pl.Int64).alias(name) for name in ("user_id", "item_id")
    )
    user, item = codes["user_id"].to_numpy(), codes["item_id"].to_numpy()
    stays = np.ones(len(user), dtype=bool)
    if not len(user):
        return pl.Series("stays", stays)
    num_items = int(item.max()) + 1
    pairs = np.unique(user * num_items + item)
    pair_user, pair_item = pairs // num_items, pairs % num_items
    while True:
        user_degree = np.bincount(pair_user, minlength=int(user.max()) + 1)
        item_degree = np.bincount(pair_item, minlength=num_items)
        keep = (user_degree[pair_user] >= k) & (item_degree[pair_item] >= k)
        if keep.all():
            break
        pair_user, pair_item = pair_user[keep], pair_item[keep]
    stays = (user_degree[user] >= k) & (item_degree[item] >= k)
    return pl.Series("stays", stays)
