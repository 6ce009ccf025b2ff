"""Protocols: who is judged on what, and what a fit must not have seen.

A  random per user, and B  global time: the kinds `random` and `global-time` of the `split` stage.
C  strict item cold start: `cold_start`; some items have no training interaction at all.
D  slices and figures beyond hits: `slices.py`, `beyond.py`.
E  intervals and corrected tests: `bootstrap.py`, `significance.py`.
F  two stages: the second learns from what `inner_split` hides from the first; what retrieval misses scores nothing.
G  what held-out data may not touch. Banned from whatever is fitted or chosen before the test:
   - metadata that knows the future: `related` (also bought, also viewed), `salesRank`;
   - texts and ratings of reviews that belong to held-out interactions;
   - popularity, co-purchase edges, nearest neighbours by behaviour and fusion pairs from more than the training split;
   - the edge that is to be predicted in the messages that predict it;
   - under B, anything newer than the first held-out interaction; under C, any interaction of a cold item;
   - choices (epochs, settings, blends) made on the test split; metrics over sampled candidates.
   What can be seen in data is checked by `assert_no_leak`, `assert_edges_known` and `assert_past`, by the judge too.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from service.errors import DataError
from service.neighborhood import Relation
from training.dataset import TEST, VALIDATION, Interactions

EDGES = 200_000
"""Edges checked at once."""


def cold_start(interactions: Interactions, *, share: float = 0.1, seed: int = 0) -> Interactions:
    """The same interactions with labels of protocol C.

    Of the items that anyone has, `share` go to validation and as many to test, with every interaction of theirs; the
    other items keep the labels they have, so that warm and cold items are judged side by side.
    """
    items = np.unique(interactions.item_row)
    count = round(share * len(items))
    if count < 1 or 2 * count >= len(items):
        raise DataError(
            f"a share of {share} of {len(items)} items leaves nothing cold or nothing to train on",
            where="cold_start",
            todo="Use more data, or a share between 0 and 0.5",
        )
    chosen = np.random.default_rng(seed).permutation(items)
    label = np.full(interactions.num_items, -1, np.int8)
    label[chosen[:count]], label[chosen[count : 2 * count]] = VALIDATION, TEST
    of_item = label[interactions.item_row]
    return dataclasses.replace(interactions, split=np.where(of_item >= 0, of_item, interactions.split))


def inner_split(
    train: Interactions, *, share: float = 0.2, seed: int = 0, latest: bool = False
) -> tuple[Interactions, Interactions]:
    """What a first stage may see, and what is hidden from it for the second to learn: protocol F.

    Of each shopper's n distinct items floor(share n) are hidden, at least one and never all; the `latest` ones, or any
    by seed. All interactions of a pair stay together; shoppers with one item hide nothing.
    """
    pair = train.user_row.astype(np.int64) * train.num_items + train.item_row
    pairs, back = np.unique(pair, return_inverse=True)
    user = pairs // max(train.num_items, 1)
    key = np.random.default_rng(seed).random(len(pairs))
    if latest:
        newest = np.full(len(pairs), np.iinfo(np.int64).min)
        np.maximum.at(newest, back, train.timestamp)
        order = np.lexsort((key, -newest, user))
    else:
        order = np.lexsort((key, user))
    size = np.bincount(user, minlength=train.num_users)
    place = np.arange(len(pairs)) - np.repeat(np.cumsum(size) - size, size)
    count = np.minimum(np.maximum((share * size).astype(np.int64), 1), size - 1)
    hidden = np.zeros(len(pairs), bool)
    hidden[order] = place < count[user[order]]
    return train.where(~hidden[back]), train.where(hidden[back])


def cold_items(known: sp.csr_matrix) -> npt.NDArray[np.bool_]:
    """Items (items,) that no shopper of `known` has."""
    cold: npt.NDArray[np.bool_] = np.bincount(known.indices, minlength=known.shape[1]) == 0
    return cold


def assert_no_leak(fitted_on: sp.csr_matrix, held_out: sp.csr_matrix, *, where: str = "split") -> None:
    """Raise DataError where a pair of `held_out` (users, items) stands in what a fit saw."""
    both = fitted_on.astype(bool).multiply(held_out.astype(bool)).tocoo()
    if both.nnz:
        raise DataError(
            f"{both.nnz} held-out interactions were fitted on, first user row {both.row[0]}, item row {both.col[0]}",
            where=where,
            todo="Fit on the training split alone",
        )


def assert_past(fitted_on: Interactions, held_out: Interactions, *, where: str = "split") -> None:
    """Raise DataError where something fitted on is not older than everything held out: protocol B."""
    if len(fitted_on) and len(held_out) and fitted_on.as_of() >= int(held_out.timestamp.min()):
        late = int((fitted_on.timestamp >= held_out.timestamp.min()).sum())
        raise DataError(
            f"{late} interactions fitted on are as new as the first held out",
            where=where,
            todo="Split by time, and fit on the past alone",
        )


def assert_edges_known(relation: Relation, known: sp.csr_matrix, *, where: str = "co_purchase") -> None:
    """Raise DataError where an edge joins items that no shopper of `known` has both of: it was learned elsewhere."""
    n, degree = relation.neighbors.shape
    source, target = np.repeat(np.arange(n), degree), relation.neighbors.ravel()
    kept = (target >= 0) & (relation.weights.ravel() > 0) & (source != target)
    source, target = source[kept], target[kept]
    buyers = known.astype(bool).T.tocsr()
    for start in range(0, len(source), EDGES):
        part = slice(start, start + EDGES)
        together = np.asarray(buyers[source[part]].multiply(buyers[target[part]]).sum(1)).ravel()
        if not together.all():
            first = start + int(np.argmin(together))
            raise DataError(
                f"nobody in training has both item rows {source[first]} and {target[first]}, which an edge joins",
                where=where,
                todo="Make the graph from the training split alone",
            )
