"""What is kept within a number of entries and of bytes: the least recently used go."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

V = TypeVar("V")


class BoundedTable(Generic[V]):
    """The most recently used entries, within a number of entries and of bytes."""

    def __init__(self, *, most_entries: int, most_bytes: int) -> None:
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._entries: OrderedDict[str, tuple[V, int]] = OrderedDict()
        self.bytes = 0
        """Sum of the costs of the entries."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> V | None:
        """The entry, which is thereby used."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def peek(self, key: str) -> V | None:
        """The entry, which is thereby not used."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def put(self, key: str, value: V, cost: int) -> None:
        """Keep an entry that takes `cost` bytes, in place of the one before; the least recently used make room."""
        self.drop(key)
        self._entries[key] = value, cost
        self.bytes += cost
        while len(self._entries) > self._most_entries or (self.bytes > self._most_bytes and len(self._entries) > 1):
            _, (_, freed) = self._entries.popitem(last=False)
            self.bytes -= freed

    def drop(self, key: str) -> None:
        """Forget an entry, if there is one."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry[1]
