"""Stage: a shopper's past, and the vector that stands for the shopper in the space of the items."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from service.bundle.reader import Bundle
from service.bundle.signatures import USER_TOWER
from service.item_tables import ItemTables
from service.neighborhood import History, last_events
from service.onnx_model import OnnxModel

SHORTEST = 8
"""Events of the shortest padded history."""

Past = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]
"""Item rows (n,) and unix seconds (n,) of a shopper's events, oldest first."""


class Shoppers:
    """The bundle's shoppers and its user tower."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._tower = OnnxModel(bundle.model_path(USER_TOWER))
        self.as_of = bundle.manifest.as_of
        """Unix seconds that the ages of the bundle's events count from."""
        self.history_lengths = _lengths(bundle.manifest.history_length)
        """Lengths (L) that a history is padded to, ascending: few shapes, each warmed up, and little padding."""

    def __len__(self) -> int:
        return len(self._bundle.user_ids)

    def row(self, user_id: str) -> int | None:
        """The user row of an id, None for a shopper whom the bundle does not know."""
        return self._bundle.user_ids.row(user_id)

    def past(self, user_row: int) -> Past:
        """The whole past of a shopper whom the bundle knows; it may be empty."""
        start, end = self._bundle.history_offsets[user_row : user_row + 2]
        return self._bundle.history_items[start:end], self._bundle.history_times[start:end]

    def history(self, rows: npt.NDArray[np.int32], times: npt.NDArray[np.int64], *, now: int) -> History:
        """The last of the events `rows` (n,) at `times` (n,), newest first, padded to one of `history_lengths`."""
        longest = self.history_lengths[-1]
        length = next(size for size in self.history_lengths if size >= min(len(rows), longest))
        return last_events(rows, times, now=now, length=length)

    def vector(self, history: History, tables: ItemTables) -> npt.NDArray[np.float32]:
        """(dim,) the shopper as the user tower sees the history. Raises ModelError."""
        vector: npt.NDArray[np.float32] = self.vectors([history], tables)[0]
        return vector

    def vectors(self, histories: list[History], tables: ItemTables) -> npt.NDArray[np.float32]:
        """(b, dim) of several histories of the same padded length, in one call. Raises ModelError."""
        rows = np.array([history.rows for history in histories])
        feeds = {
            # (b, L, dim); padding is whatever row 0 holds, masked
            "history_vectors": tables.history_vectors(rows.ravel()).reshape(*rows.shape, -1),
            "history_mask": np.array([history.mask for history in histories]),
            "history_age_days": np.array([history.age_days for history in histories]),
        }
        vectors: npt.NDArray[np.float32] = self._tower.run("user_vector", feeds)
        return vectors

    def warm_up(self, tables: ItemTables) -> None:
        """Call the user tower once in every shape, so that no shopper waits for the first call."""
        for length in self.history_lengths:
            one = np.array([0], np.int32), np.array([self.as_of], np.int64)
            self.vector(last_events(*one, now=self.as_of, length=length), tables)


def _lengths(longest: int) -> tuple[int, ...]:
    """Powers of two from SHORTEST, and last `longest` itself."""
    lengths = []
    length = SHORTEST
    while length < longest:
        lengths.append(length)
        length *= 2
    return (*lengths, longest)
