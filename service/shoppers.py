"""Stage: a shopper's past, and the vector that stands for the shopper in the space of the items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.bundle.reader import Bundle
from service.bundle.signatures import USER_TOWER
from service.neighborhood import History, last_events
from service.onnx_model import OnnxModel

SHORTEST = 8
"""Events of the shortest padded history."""


@dataclass(frozen=True, slots=True)
class Shopper:
    """One known shopper."""

    seen: npt.NDArray[np.int32]
    """(S,) distinct item rows, ascending: every item of the whole history."""
    history: History
    """The last events, newest first, padded to one of `history_lengths`."""


class Shoppers:
    """The bundle's shoppers and its user tower."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._tower = OnnxModel(bundle.model_path(USER_TOWER))
        self.history_lengths = _lengths(bundle.manifest.history_length)
        """Lengths (L) that a history is padded to, ascending: few shapes, each warmed up, and little padding."""

    def __len__(self) -> int:
        return len(self._bundle.user_ids)

    def row(self, user_id: str) -> int | None:
        """The user row of an id, None for a shopper whom the bundle does not know."""
        return self._bundle.user_ids.row(user_id)

    def shopper(self, user_row: int) -> Shopper:
        """The past of a known shopper; it may be empty."""
        start, end = self._bundle.history_offsets[user_row : user_row + 2]
        rows, times = self._bundle.history_items[start:end], self._bundle.history_times[start:end]
        longest = self.history_lengths[-1]
        length = next(size for size in self.history_lengths if size >= min(len(rows), longest))
        return Shopper(
            seen=np.unique(rows),
            history=last_events(rows, times, now=self._bundle.manifest.as_of, length=length),
        )

    def vector(self, history: History) -> npt.NDArray[np.float32]:
        """(dim,) the shopper as the user tower sees the history. Raises ModelError."""
        vectors = self._bundle.history_vectors[history.rows]  # (L, dim); padding is whatever row 0 holds, masked
        feeds = {
            "history_vectors": vectors[None],
            "history_mask": history.mask[None],
            "history_age_days": history.age_days[None],
        }
        vector: npt.NDArray[np.float32] = self._tower.run("user_vector", feeds)[0]
        return vector

    def warm_up(self) -> None:
        """Call the user tower once in every shape, so that no shopper waits for the first call."""
        for length in self.history_lengths:
            one = np.array([0], np.int32), np.array([self._bundle.manifest.as_of], np.int64)
            self.vector(last_events(*one, now=self._bundle.manifest.as_of, length=length))


def _lengths(longest: int) -> tuple[int, ...]:
    """Powers of two from SHORTEST, and last `longest` itself."""
    lengths = []
    length = SHORTEST
    while length < longest:
        lengths.append(length)
        length *= 2
    return (*lengths, longest)
