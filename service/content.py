"""What is known of content as vectors: a text or picture that was encoded, and an item that came after the bundle."""

from __future__ import annotations

from collections.abc import Mapping
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
class Links:
    """Some item rows and a weight for each; rows ascend, so that one is found by bisection."""

    rows: npt.NDArray[np.int32]
    """(n,) distinct item rows of the bundle, ascending."""
    weights: Vector
    """(n,) weights, as the item graph has them."""


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item that the bundle does not hold, as the model would see it: everything retrieval and re-ranking need."""

    content: Content
    item_vector: Vector
    """(dim,) the item as a candidate."""
    history_vector: Vector
    """(dim,) the item as an event of a shopper's history."""
    neighbor_rows: npt.NDArray[np.int32]
    """(n,) the bundle's items nearest by content, best first; fewer than K only in a tiny catalog."""
    neighbor_weights: Vector
    """(n,) their cosines."""
    links_to: Mapping[str, Links]
    """Relation name -> edges from the bundle's items to this one: what the re-ranker sees of it as a candidate."""
    links_from: Mapping[str, Links]
    """Relation name -> edges from this item to the bundle's: what the re-ranker sees of it as an event."""
