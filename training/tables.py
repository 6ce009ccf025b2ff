"""A fitted model as plain tables: what is served, and what every later stage reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.neighborhood import SECONDS_A_DAY, Relation
from training.dataset import LINEAR, Interactions, load_relation
from training.histories import histories, past_of, user_vectors
from training.ranking_metrics import per_user, rank_all, to_find


@dataclass(frozen=True)
class Tables:
    """What a fitted GAT leaves for serving: plain tables."""

    item_vectors: npt.NDArray[np.float32]
    """(items, dim): unit vector / temperature, and the popularity logit in the last column."""
    history_vectors: npt.NDArray[np.float32]
    """(items, dim): what one event of the item adds to a shopper; 0 in the last column."""
    behaviour: npt.NDArray[np.float32]
    """(items, dim) unit rows by interactions alone; zero rows for items without any."""
    popularity: npt.NDArray[np.float32]
    """(items,) recency-weighted interactions."""
    decay_per_day: float
    """How fast an event of a shopper's history loses weight."""
    linear: Relation
    """The linear item graph of the interactions that were fitted on."""

    def decaying(self, decay_per_day: float) -> Tables:
        """The same with another decay."""
        return replace(self, decay_per_day=decay_per_day)


def side_by_side(members: Sequence[Tables]) -> Tables:
    """One model of several: vectors beside one another, so that an inner product is the mean of the members'."""
    first, share = members[0], 1 / math.sqrt(len(members))

    def wide(tables: Sequence[npt.NDArray[np.float32]], scale: float) -> npt.NDArray[np.float32]:
        last = np.mean([table[:, -1:] for table in tables], axis=0)
        return np.concatenate([*(table[:, :-1] * np.float32(scale) for table in tables), last], axis=1)

    return replace(
        first,
        item_vectors=wide([m.item_vectors for m in members], share),
        history_vectors=wide([m.history_vectors for m in members], 1.0),
        behaviour=wide([m.behaviour for m in members], share),
    )


def validation_recall(tables: Tables, train: Interactions, judged: Interactions, length: int) -> float:
    """recall@20 of `judged` for shoppers and items of `train`, items already in `train` masked."""
    relevant, users = to_find(train.matrix(), judged.matrix())
    if not len(users):
        return 0.0
    vectors = user_vectors(
        histories(past_of(train), now=train.as_of(), length=length), tables.history_vectors, tables.decay_per_day
    )
    ranking = rank_all(lambda rows: vectors[rows] @ tables.item_vectors.T, users, train.matrix(), k=20)
    return float(per_user(ranking, relevant, [20])["recall@20"].mean())


def choose_decay(tables: Tables, train: Interactions, validation: Interactions, length: int) -> float:
    """The decay of a history event's weight, per day, with the best validation recall@20; 0 is among the choices."""
    span_days = max((train.as_of() - int(train.timestamp.min())) / SECONDS_A_DAY, 1.0)
    choices = [0.0, *(math.log(2) / (span_days * share) for share in (1.0, 0.5, 0.25, 0.1, 0.05))]
    if train.as_of() == int(train.timestamp.min()):
        return 0.0
    recalls = [validation_recall(tables.decaying(decay), train, validation, length) for decay in choices]
    return choices[int(np.argmax(recalls))]


ARRAYS = ("item_vectors", "history_vectors", "behaviour", "popularity")


def save_tables(directory: Path, tables: Tables) -> None:
    """Write `item_vectors.npy` and the other tables, and `linear.npz`, into a folder."""
    for name in ARRAYS:
        np.save(directory / f"{name}.npy", getattr(tables, name), allow_pickle=False)
    save_relation(directory, LINEAR, tables.linear)


def save_relation(directory: Path, name: str, relation: Relation) -> None:
    """Write `<name>.npz` as `load_relation` reads it."""
    np.savez(directory / f"{name}.npz", neighbors=relation.neighbors, weights=relation.weights)


def load_tables(directory: Path, decay_per_day: float) -> Tables:
    """Read what `save_tables` has written."""
    arrays = {name: np.load(directory / f"{name}.npy", allow_pickle=False) for name in ARRAYS}
    return Tables(**arrays, decay_per_day=decay_per_day, linear=load_relation(directory / f"{LINEAR}.npz"))
