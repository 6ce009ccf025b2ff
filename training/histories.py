"""Every shopper's last events at once, padded as the service pads them, and the user vectors that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.neighborhood import SECONDS_A_DAY, History
from training.dataset import Interactions


@dataclass(frozen=True)
class Histories:
    """The last L distinct items of m shoppers, newest first; fields as `service.neighborhood.History`, stacked."""

    rows: npt.NDArray[np.int32]
    """(m, L)."""
    mask: npt.NDArray[np.float32]
    """(m, L)."""
    age_days: npt.NDArray[np.float32]
    """(m, L)."""

    def of(self, user_row: int) -> History:
        """One shopper's history."""
        return History(self.rows[user_row], self.mask[user_row], self.age_days[user_row])


@dataclass(frozen=True)
class Past:
    """Every shopper's distinct items in CSR, oldest first: what the bundle stores as history."""

    offsets: npt.NDArray[np.int64]
    items: npt.NDArray[np.int32]
    times: npt.NDArray[np.int64]


def past_of(interactions: Interactions) -> Past:
    """Distinct items a shopper at the time of the last purchase; ties in time stand in item order."""
    n = interactions.num_items
    pair = interactions.user_row.astype(np.int64) * n + interactions.item_row
    order = np.lexsort((interactions.timestamp, pair))
    newest = np.append(pair[order][1:] != pair[order][:-1], True) if len(order) else np.empty(0, bool)
    kept = order[newest]
    user, item, time = interactions.user_row[kept], interactions.item_row[kept], interactions.timestamp[kept]
    order = np.lexsort((item, time, user))
    offsets = np.zeros(interactions.num_users + 1, np.int64)
    np.cumsum(np.bincount(user, minlength=interactions.num_users), out=offsets[1:])
    return Past(offsets, item[order].astype(np.int32), time[order].astype(np.int64))


def histories(past: Past, *, now: int, length: int) -> Histories:
    """Pad every shopper's past to (m, length), newest first. Equals `last_events` shopper by shopper."""
    count = np.diff(past.offsets)
    user = np.repeat(np.arange(len(count)), count)
    place = past.offsets[1:][user] - 1 - np.arange(len(past.items))
    kept = place < length
    shape = (len(count), length)
    rows, mask, age = np.zeros(shape, np.int32), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    at = (user[kept], place[kept])
    rows[at] = past.items[kept]
    mask[at] = 1.0
    age[at] = np.maximum((now - past.times[kept]) / SECONDS_A_DAY, 0.0)
    return Histories(rows, mask, age)


def user_vectors(
    history: Histories, history_vectors: npt.NDArray[np.float32], decay_per_day: float
) -> npt.NDArray[np.float32]:
    """(m, dim) as the user tower computes them: unit aggregate of decayed events, then 1 for the popularity column."""
    weight = history.mask * np.exp(-decay_per_day * history.age_days)
    out = np.empty((len(weight), history_vectors.shape[1]), np.float32)
    for start in range(0, len(weight), 8192):
        part = slice(start, start + 8192)
        out[part] = np.einsum("ml,mld->md", weight[part], history_vectors[history.rows[part]])
    out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
    out[:, -1] = 1.0
    return out
