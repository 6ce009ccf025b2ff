"""Shoppers' recent events, shared by every process through Redis. What is read often is held here, and kept fresh."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pydantic import SecretStr

from service.bounded_table import BoundedTable
from service.domain import FeedbackEvent
from service.redis_link import RedisDownError, RedisLink, RedisRefusedError, end
from service.redis_state_store import RedisStateStore, parts
from service.shopper_states import AppendResult, Kept, StateLookup, by_shopper
from service.state_codec import pack, state_key, state_of

TRUST_SECONDS = 1.0
"""How long what was read may be repeated while the changes cannot be followed."""
LONGEST_TRUST_SECONDS = 300.0
"""How long it may be repeated while they can: a bound on whatever this module has not thought of."""
BLOCK_MS = 500
"""Longest silence of the stream of notices. A reply, be it empty, shows that nothing was missed until then."""
PATIENCE_MS = 250
"""How much later than that Redis may say so: it looks for who has waited long enough ten times a second."""
RETRY_SECONDS = 0.25
"""Pause after a failure to follow."""
NOTICES_A_READ = 500
MOST_UNSHARED = 10_000
"""Events that wait for Redis to come back; those of the shoppers that have waited longest go first."""


@dataclass(slots=True)
class _Local:
    """What this process holds of one shopper."""

    kept: Kept = field(default_factory=Kept)
    read_at: float = 0.0
    """Monotonic seconds at which Redis was asked for it."""
    epoch: int = -1
    """What the epoch was then: whatever was read in an earlier one may be old."""
    changes: int = 0
    """Notices of the shopper so far: the reply to what was asked before the last of them may be old."""
    stale: bool = True


class _Unshared:
    """Events that Redis did not take, by state key."""

    def __init__(self) -> None:
        self._events: OrderedDict[str, list[FeedbackEvent]] = OrderedDict()
        self._count = 0

    def add(self, events: list[FeedbackEvent]) -> None:
        """Keep some events of one shopper."""
        if not events:
            return
        self._events.setdefault(events[0].user_id, []).extend(events)
        self._count += len(events)
        while self._count > MOST_UNSHARED:
            self._count -= len(self._events.popitem(last=False)[1])

    def packed(self, user_id: str) -> list[bytes]:
        """Those of one shopper, packed."""
        return [pack(event) for event in self._events.get(user_id, ())]

    def groups(self) -> dict[str, list[FeedbackEvent]]:
        """User id -> their events, as they are now."""
        return {user_id: list(events) for user_id, events in self._events.items()}

    def drop(self, part: dict[str, list[FeedbackEvent]]) -> None:
        """Forget what was shared."""
        for user_id, shared in part.items():
            events = self._events.pop(user_id, [])
            rest = [event for event in events if event not in shared]
            self._count -= len(events) - len(rest)
            if rest:
                self._events[user_id] = rest


class RedisStates:
    """See `service.shopper_states.ShopperStates`. `open` it before use, so that it follows what others append.

    Redis slow, gone, full or holding strange values costs what the others did, never an error: this process goes on
    with what it knows, and shares what it could not share when Redis is back.
    """

    def __init__(
        self,
        url: SecretStr,
        *,
        tenant: str,
        timeout_ms: int,
        ttl_seconds: float,
        max_local_shoppers: int,
        max_local_bytes: int,
    ) -> None:
        """Redis forgets a shopper `ttl_seconds` after their last event; the other bounds are of this process.

        Raises InputError for a URL that cannot be understood.
        """
        self._link = RedisLink(url, timeout_ms=timeout_ms, without="shoppers' latest events are known in part")
        self._ear = RedisLink(
            url,
            timeout_ms=timeout_ms + BLOCK_MS + PATIENCE_MS,
            without="others' changes are looked for instead of followed",
            connections=1,
            longest_pause=RETRY_SECONDS,
        )
        self._store = RedisStateStore(self._link, tenant=tenant, ttl_seconds=ttl_seconds)
        self._table: BoundedTable[_Local] = BoundedTable(most_entries=max_local_shoppers, most_bytes=max_local_bytes)
        self._unshared = _Unshared()
        self._epoch = 0
        self._heard_at = -TRUST_SECONDS
        self._follower: asyncio.Task[None] | None = None

    @property
    def state(self) -> str:
        """`ok`, `not following` or `unavailable`, as of the last commands."""
        if self._link.state != "ok":
            return self._link.state
        return "ok" if self._follows(time.monotonic()) else "not following"

    async def open(self) -> None:
        """Begin to follow what others append."""
        self._follower = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """See `ShopperStates`."""
        if self._follower is not None:
            await end(self._follower)
        await self._share_late()
        await self._ear.close()
        await self._link.close()

    def peek(self, user_id: str) -> StateLookup | None:
        """See `ShopperStates`."""
        local = self._table.get(state_key(user_id))
        return StateLookup(local.kept.state) if local is not None and self._fresh(local) else None

    async def get(self, user_id: str) -> StateLookup:
        """See `ShopperStates`. A round trip where the shopper changed since the last, or was not asked for lately."""
        key = state_key(user_id)
        local = self._local(user_id, key)
        if self._fresh(local):
            return StateLookup(local.kept.state)
        epoch, changes, asked_at = self._epoch, local.changes, time.monotonic()
        try:
            packed = await self._store.read(user_id)
        except (RedisDownError, RedisRefusedError):
            return StateLookup(local.kept.state, available=False)
        kept = Kept(state_of(user_id, (*packed, *self._unshared.packed(user_id))), local.kept.seen)
        if self._table.get(key) is local:  # else it was crowded out, and no notice reached it
            local.kept, local.read_at, local.epoch, local.stale = kept, asked_at, epoch, local.changes != changes
            self._table.put(key, local, kept.cost)
        return StateLookup(kept.state)

    async def append(self, events: Sequence[FeedbackEvent]) -> AppendResult:
        """See `ShopperStates`. What Redis does not take is known here at once, and to others when Redis is back."""
        new: list[FeedbackEvent] = []
        shared = True
        for part in parts(by_shopper(events)):
            try:
                new += await self._share(part)
            except (RedisDownError, RedisRefusedError):
                shared = False
                new += await self._keep_unshared(part)
        return AppendResult(tuple(new), len(events) - len(new), shared)

    async def _share(self, part: dict[str, list[FeedbackEvent]]) -> list[FeedbackEvent]:
        """Append in Redis, so that the next `get` reads it from there; those of the events that were new to it."""
        try:
            return await self._store.append(part)
        finally:  # also after a timeout or a cancellation: Redis may have done it all the same
            self._changed(state_key(user_id) for user_id in part)

    async def _keep_unshared(self, part: dict[str, list[FeedbackEvent]]) -> list[FeedbackEvent]:
        """Append here alone; those of the events that were not known here."""
        accepted: list[FeedbackEvent] = []
        for user_id, events in part.items():
            key = state_key(user_id)
            await self.get(user_id)  # a full Redis still says what it has
            local = self._local(user_id, key)
            known = {event.event_id for event in local.kept.state.events}
            local.kept, new = local.kept.adding(user_id, [event for event in events if event.event_id not in known])
            self._table.put(key, local, local.kept.cost)
            self._unshared.add(new)
            accepted += new
        return accepted

    async def _follow(self) -> None:
        """Hear of what others append, until cancelled."""
        while True:
            try:
                last, number = await self._last_notice()
                # What was read before this moment may have changed unheard; what is read from now on is followed.
                self._epoch += 1
                self._link.recovered()
                while True:
                    await self._share_late()
                    last, number = await self._hear(last, number)
            except (RedisDownError, RedisRefusedError):
                self._heard_at = time.monotonic() - TRUST_SECONDS
                await asyncio.sleep(RETRY_SECONDS)

    async def _last_notice(self) -> tuple[bytes, int | None]:
        """Id and number of the newest notice; (0-0, None) where there is none."""
        newest = await self._ear.command("XREVRANGE", self._store.notices, "+", "-", "COUNT", 1)
        return (newest[0][0], _number(newest[0][1])) if newest else (b"0-0", None)

    async def _hear(self, last: bytes, number: int | None) -> tuple[bytes, int | None]:
        """Wait for notices later than `last`, whose number is `number`; id and number of the newest heard."""
        streams = await self._ear.command(
            "XREAD", "COUNT", NOTICES_A_READ, "BLOCK", BLOCK_MS, "STREAMS", self._store.notices, last
        )
        notices = streams[0][1] if streams else []
        for notice, fields in notices:
            last, following = notice, _number(fields)
            if number is not None and following != number + 1:
                self._epoch += 1  # some were dropped before they were heard, or Redis began anew
            number = following
            self._changed(fields.get(b"who", b"").decode("ascii", "replace").split())
        if len(notices) < NOTICES_A_READ:
            self._heard_at = time.monotonic()
        return last, number

    async def _share_late(self) -> None:
        """Share what Redis did not take before, as far as it takes it now."""
        for part in parts(self._unshared.groups()):
            try:
                await self._share(part)
            except (RedisDownError, RedisRefusedError):
                return
            self._unshared.drop(part)

    def _changed(self, keys: Iterable[str]) -> None:
        """What is held of some shoppers is old, and so is any reply that is under way."""
        for key in keys:
            local = self._table.peek(key)
            if local is not None:
                local.stale = True
                local.changes += 1

    def _local(self, user_id: str, key: str) -> _Local:
        """What is held of a shopper; from now on notices reach it."""
        local = self._table.get(key)
        if local is None:
            local = _Local(Kept(state_of(user_id, self._unshared.packed(user_id))))
            self._table.put(key, local, local.kept.cost)
        return local

    def _fresh(self, local: _Local) -> bool:
        now = time.monotonic()
        trust = LONGEST_TRUST_SECONDS if self._follows(now) else TRUST_SECONDS
        return not local.stale and local.epoch == self._epoch and now - local.read_at < trust

    def _follows(self, now: float) -> bool:
        return now - self._heard_at < TRUST_SECONDS


def _number(fields: dict[bytes, bytes]) -> int | None:
    """The number of a notice, None where nobody here wrote it."""
    number = fields.get(b"number", b"")
    return int(number) if number.isdigit() else None
