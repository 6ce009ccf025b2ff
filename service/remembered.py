"""What was made of an object, remembered for as long as the same object keeps coming: by identity, and few of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Source = TypeVar("Source")
Made = TypeVar("Made")


class Remembered(Generic[Source, Made]):
    """The most recently used. Sources must not change; each is kept alive, so that its identity is its own."""

    def __init__(self, most: int) -> None:
        """`most`: how many are remembered."""
        self._most = most
        self._kept: OrderedDict[tuple[int, Hashable], tuple[Source, Made]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, source: Source, context: Hashable, make: Callable[[], Made]) -> Made:
        """What `make()` made of `source` in this `context` before, or makes of it now."""
        key = (id(source), context)
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept[1]
        made = make()
        self._kept[key] = source, made
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return made
