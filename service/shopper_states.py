"""Stage: what shoppers did lately, so that the next answer reflects it. The contract, and the store of one process.

Several processes share their shoppers' states through Redis (`redis_states.py`). `docs/STATE.md` says what is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.bounded_table import BoundedTable
from service.domain import FeedbackEvent
from service.state_codec import NOBODY, ShopperState, event_digest, pack, seen_adding, seen_holds, state_key, state_of

EVENT_COST = 41
"""Bytes that Python takes for a packed event beside its own: the object and its place in a tuple."""
SHOPPER_COST = 600
"""Bytes that Python takes for a shopper beside their events: key, entry, their places in the table."""


@dataclass(frozen=True, slots=True)
class StateLookup:
    """What is known of one shopper."""

    state: ShopperState
    available: bool = True
    """False where the shared store did not answer: the state is what this process knows by itself."""


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What became of the events of one call."""

    new: tuple[FeedbackEvent, ...]
    """Those that were not known, in the order of the call but grouped by shopper."""
    duplicates: int
    """How many were known by their id, or came twice in the call."""
    shared: bool
    """Whether all that share the store know of them: False where the store did not answer."""

    @property
    def accepted(self) -> int:
        """How many were not known."""
        return len(self.new)


class ShopperStates(Protocol):
    """What is kept of shoppers between their requests. No method raises for anything that a store holds or does."""

    @property
    def state(self) -> str:
        """A word or two for /readyz; nothing is waited for."""
        ...

    def peek(self, user_id: str) -> StateLookup | None:
        """What `get` would answer, where it need ask no one; None where it has to."""
        ...

    async def get(self, user_id: str) -> StateLookup:
        """What a shopper did lately."""
        ...

    async def append(self, events: Sequence[FeedbackEvent]) -> AppendResult:
        """Keep some events, of any shoppers. An event counts once, by its shopper and id, however often it comes."""
        ...

    async def close(self) -> None:
        """Let go of what is shared. What was appended stays."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """What a table holds of one shopper."""

    state: ShopperState = NOBODY
    seen: bytes = b""
    """Digests of the event ids accepted here (see `state_codec`)."""

    @property
    def cost(self) -> int:
        """Bytes that it takes, to within a quarter."""
        return SHOPPER_COST + len(self.seen) + sum(len(data) + EVENT_COST for data in self.state.packed)

    def adding(self, user_id: str, events: Sequence[FeedbackEvent]) -> tuple[Kept, list[FeedbackEvent]]:
        """With some events of the shopper, and those of them that were not known."""
        seen, new = self.seen, []
        for event in events:
            digest = event_digest(event.event_id)
            if not seen_holds(seen, digest):
                seen = seen_adding(seen, digest)
                new.append(event)
        packed = [pack(event) for event in new]
        return Kept(state_of(user_id, (*self.state.packed, *packed)), seen), new


def by_shopper(events: Sequence[FeedbackEvent]) -> dict[str, list[FeedbackEvent]]:
    """User id -> their events in the order given."""
    groups: dict[str, list[FeedbackEvent]] = {}
    for event in events:
        groups.setdefault(event.user_id, []).append(event)
    return groups


class MemoryStates:
    """The store of one process: what is appended here is known here, and gone when the process ends."""

    state = "ok (this process only)"

    def __init__(
        self,
        *,
        max_shoppers: int,
        max_bytes: int,
        ttl_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Shoppers are forgotten `ttl_seconds` after their last event, or the least recently used first where there
        are more than `max_shoppers` or they take more than `max_bytes`."""
        self._ttl = ttl_seconds
        self._clock = clock
        self._table: BoundedTable[tuple[float, Kept]] = BoundedTable(most_entries=max_shoppers, most_bytes=max_bytes)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def bytes(self) -> int:
        """Bytes that the shoppers take, to within a quarter."""
        return self._table.bytes

    def peek(self, user_id: str) -> StateLookup:
        """See `ShopperStates`. There is never anyone to ask."""
        return StateLookup(self._kept(state_key(user_id)).state)

    async def get(self, user_id: str) -> StateLookup:
        """See `ShopperStates`."""
        return self.peek(user_id)

    async def append(self, events: Sequence[FeedbackEvent]) -> AppendResult:
        """See `ShopperStates`. `shared` is True: nobody else could know."""
        accepted: list[FeedbackEvent] = []
        for user_id, theirs in by_shopper(events).items():
            key = state_key(user_id)
            kept, new = self._kept(key).adding(user_id, theirs)
            self._table.put(key, (self._clock() + self._ttl, kept), kept.cost)
            accepted += new
        return AppendResult(tuple(accepted), len(events) - len(accepted), shared=True)

    async def close(self) -> None:
        """See `ShopperStates`."""

    def _kept(self, key: str) -> Kept:
        entry = self._table.get(key)
        if entry is None:
            return Kept()
        expires, kept = entry
        if self._clock() < expires:
            return kept
        self._table.drop(key)
        return Kept()
