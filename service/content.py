"""What is known of content as vectors: a text or picture that was encoded, and an item that came after the bundle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Content:
    """A text, a picture, or both, in the space of the bundle's `content`, `look` and `meaning`."""

    fused: Vector
    """(128,) both together; unit length."""
    look: Vector
    """(128,) the picture alone; zero where there is none."""
    meaning: Vector
    """(128,) the text alone; zero where there is none."""


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item that the bundle does not hold, as the model would see it: what retrieval and re-ranking need of it."""

    content: Content
    item_vector: Vector
    """(dim,) the item as a candidate."""
    history_vector: Vector
    """(dim,) the item as an event of a shopper's history."""
    neighbor_rows: npt.NDArray[np.int32]
    """(n,) the bundle's items nearest by content, best first; n is K, fewer in a tiny catalog."""
    neighbor_weights: Vector
    """(n,) what each of them counts for: shares that sum to one."""
