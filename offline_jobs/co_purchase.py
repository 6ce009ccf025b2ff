"""Items that the same shoppers bought, from training purchases alone.

    weight(i, j) = n_ij / sqrt(n_i · n_j)      n_i: shoppers who bought i, n_ij: who bought both

The top k a row of RᵀR, made a block of items at a time so that memory stays bounded whatever the shop.
"""

from __future__ import annotations

import itertools

import numpy as np
import scipy.sparse as sp
from rich.console import Console
from rich.progress import track

from offline_jobs.co_bought import Interactions
from offline_jobs.knn import Knn
from offline_jobs.knn_exact import in_parallel
from training.dataset import TRAIN

BLOCK_PRODUCTS = 2_000_000
"""Products of one block, a thread: at most so many numbers of RᵀR are in its memory (about 50 bytes each, sorted)."""

WEIGHT_BITS = 30
"""A float32 from 0 to 1, read as an integer, is at most `ONE`, orders as the float does, and needs so many bits."""
ONE = int(np.float32(1).view(np.int32))


def co_purchase(rows: Interactions, num_items: int, *, k: int, max_items_per_user: int) -> Knn:
    """The k items with most shoppers in common in split 0, normalised; ties go to the lower item_row.

    Of a shopper with more than `max_items_per_user` items the latest count: few shoppers would else make most pairs.
    """
    train = _latest(rows.where(rows.split == TRAIN), max_items_per_user)
    neighbors = np.full((num_items, k), -1, np.int32)
    weights = np.zeros((num_items, k), np.float32)
    users, user = np.unique(train.user_row, return_inverse=True)
    shape = (len(users), num_items)
    R = sp.csr_matrix((np.ones(len(user), np.int32), (user, train.item_row)), shape=shape)
    columns = R.T.tocsr()
    bought_by = np.bincount(train.item_row, minlength=num_items)  # n_i
    products = columns @ np.bincount(user, minlength=len(users)).astype(np.int64)
    ends = np.searchsorted(np.cumsum(products), np.arange(0, products.sum(), BLOCK_PRODUCTS), side="right")
    col_bits = max(num_items - 1, 1).bit_length()
    edges = np.unique(np.concatenate([ends, np.arange(0, num_items, 1 << (63 - WEIGHT_BITS - col_bits)), [num_items]]))

    def one(block: tuple[int, int]) -> None:
        start, end = block
        shared = (columns[start:end] @ R).tocoo()
        other = shared.row + start != shared.col
        row, col, n = shared.row[other], shared.col[other], shared.data[other]
        weight = (n / np.sqrt(bought_by[start + row].astype(np.float64) * bought_by[col])).astype(np.float32)
        # Row, falling weight and column in one number: sorting numbers is far faster than ordering by three keys.
        key = row.astype(np.int64) << WEIGHT_BITS | ONE - weight.view(np.int32)
        key = key << col_bits | col
        key.sort()
        row = key >> (WEIGHT_BITS + col_bits)
        place = np.arange(len(key)) - np.searchsorted(row, row, side="left")
        key, row, place = key[place < k], row[place < k], place[place < k]
        neighbors[start + row, place] = key & (1 << col_bits) - 1
        falling = key >> col_bits & (1 << WEIGHT_BITS) - 1
        weights[start + row, place] = (ONE - falling).astype(np.int32).view(np.float32)

    blocks = list(itertools.pairwise(edges.tolist()))
    for _ in track(
        in_parallel(one, blocks),
        description="co_purchase",
        total=len(blocks),
        console=Console(stderr=True),
        transient=True,
    ):
        pass
    return Knn(neighbors, weights, is_exact=True, recall=1.0)


def _latest(rows: Interactions, most: int) -> Interactions:
    """At most `most` rows a user, the latest; equal times keep the lower item_row."""
    order = np.lexsort((rows.item_row, -rows.timestamp, rows.user_row))
    user = rows.user_row[order]
    first = np.searchsorted(user, user, side="left")
    mask = np.zeros(len(rows), dtype=np.bool_)
    mask[order[np.arange(len(order)) - first < most]] = True
    return rows.where(mask)
