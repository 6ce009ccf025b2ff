"""The live catalogue's records: what a shop said of its items since a bundle was published. Contract and semantics.

Every store keeps one record an item, numbers the changes, and tells what changed since a number, so that each
process follows. `sqlite_catalog_store.py` keeps them in a file, `redis_catalog_store.py` in Redis; both merge
by the rules here.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson
from pydantic import TypeAdapter, ValidationError

from service.domain import ItemChange
from service.errors import CatalogFullError, InvalidQueryError, PlotPointeError
from service.logs import RateLimit

log = logging.getLogger(__name__)

MOST_IMAGE_BYTES = 1 << 20
"""Longest picture of one item."""


@dataclass(frozen=True, slots=True)
class LiveRecord:
    """All that was said of one item, later words over earlier ones. None: nothing was said."""

    item_id: str
    title: str | None = None
    description: str | None = None
    category: str | None = None
    brand: str | None = None
    price: float | None = None
    in_stock: bool | None = None
    hidden: bool | None = None
    image_url: str | None = None
    attributes: Mapping[str, str] | None = None
    image_digest: str = ""
    """Names the picture, which the store keeps apart (`CatalogStore.image`); empty where there is none."""
    deleted: bool = False
    """A tombstone: the item is in no answer, whatever a bundle says; nothing else is known of it."""
    created_seq: int = 0
    """Number of the change that first spoke of the item."""
    updated_seq: int = 0
    """Number of the last change."""
    content_seq: int = 0
    """Number of the last change after which an answer computed before is wrong or incomplete: the item came, went,
    came back into stock or sight, or is said to look or to read otherwise. 0 where none was of that kind."""
    created_at: float = 0.0
    """Unix seconds, by the clock of whoever wrote."""
    updated_at: float = 0.0


class CatalogStore(Protocol):
    """Records shared by every process of one tenant. Each method raises UnavailableError where the store does not
    answer in time; a change that raised it may or may not have been kept, and can be sent again."""

    async def upsert(self, changes: Sequence[ItemChange]) -> int:
        """Say something of some items; a deleted one begins anew. The number of the newest change of the store.

        It is durable when this returns. What says nothing new is no change. Raises CatalogFullError, and
        InvalidQueryError for a picture of more than MOST_IMAGE_BYTES; nothing of the call is kept then.
        """
        ...

    async def patch(self, changes: Sequence[ItemChange]) -> int:
        """The same, but what is deleted stays deleted."""
        ...

    async def delete(self, item_ids: Sequence[str]) -> int:
        """Leave a tombstone for each; ids that no record knows may be those of a bundle."""
        ...

    async def since(self, sequence: int) -> tuple[list[LiveRecord], int]:
        """The records that changed after a number, in the order of their last change, and the newest number.

        0 gives all of them. Where nothing changed, the number is the one given.
        """
        ...

    async def image(self, record: LiveRecord) -> bytes | None:
        """The picture that a record names; None where it has none, or there is another by now."""
        ...

    async def close(self) -> None:
        """Let go of the store. What was kept stays."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a store may hold."""

    max_items: int
    """Records, tombstones included."""
    max_image_bytes: int
    """Bytes of all pictures together."""

    def check(self, before: Sequence[int], after: Sequence[int]) -> None:
        """Raises CatalogFullError where a change makes more than this; items and bytes of pictures, before and after.

        What makes nothing more is let through, so that a store whose bounds were narrowed can be emptied.
        """
        if after[0] > max(before[0], self.max_items):
            raise _full(f"the live catalogue would hold {after[0]:,} items, and may hold {self.max_items:,}")
        if after[1] > max(before[1], self.max_image_bytes):
            raise _full(f"the live pictures would take {after[1]:,} bytes, and may take {self.max_image_bytes:,}")


def _full(what: str) -> CatalogFullError:
    return CatalogFullError(what, todo="Publish a bundle with these items and begin the live catalogue anew")


def image_digest(image: bytes) -> str:
    """32 hexadecimal digits that name a picture."""
    return hashlib.blake2b(image, digest_size=16).hexdigest()


def check_images(changes: Sequence[ItemChange]) -> None:
    """Raises InvalidQueryError for a picture that is too long to keep."""
    for place, change in enumerate(changes):
        if change.image is not None and len(change.image) > MOST_IMAGE_BYTES:
            raise InvalidQueryError(
                f"a picture of {len(change.image):,} bytes is longer than {MOST_IMAGE_BYTES:,}",
                where=f"items[{place}].image",
                todo="Send a smaller one; 512 by 512 pixels are more than enough",
            )


def merged(before: LiveRecord | None, change: ItemChange) -> LiveRecord:
    """A record with a change over it, numbers and times aside. Attributes that are given replace those before; an empty
    picture takes the picture away."""
    base = LiveRecord(change.item_id)
    if before is not None and not before.deleted:
        base = before
    elif before is not None:
        base = replace(base, created_seq=before.created_seq, created_at=before.created_at)
    said: dict[str, Any] = {name: getattr(change, name) for name in _SAID if getattr(change, name) is not None}
    if change.attributes is not None:
        said["attributes"] = dict(change.attributes)
    if change.image is not None:
        said["image_digest"] = image_digest(change.image) if change.image else ""
    return replace(base, **said)


def tombstone(before: LiveRecord | None, item_id: str) -> LiveRecord:
    """The record of a deleted item."""
    created = (before.created_seq, before.created_at) if before is not None else (0, 0.0)
    return LiveRecord(item_id, deleted=True, created_seq=created[0], created_at=created[1])


def is_change(before: LiveRecord | None, after: LiveRecord) -> bool:
    """Whether anything else is said than before."""
    return before is None or any(getattr(before, name) != getattr(after, name) for name in _BODY)


def is_new_content(before: LiveRecord | None, after: LiveRecord) -> bool:
    """Whether the change is one that `LiveRecord.content_seq` counts.

    The first word on an item may well be its price, and the item one of a bundle's: no answer is wrong by that.
    """
    if before is None:
        before = LiveRecord(after.item_id)
    if any(getattr(before, name) != getattr(after, name) for name in _CONTENT):
        return True
    seen_again = before.hidden is True and not after.hidden
    in_stock_again = before.in_stock is False and after.in_stock is not False
    return seen_again or in_stock_again


def body_of(record: LiveRecord) -> bytes:
    """What a record says, without its id, numbers and times, as JSON."""
    return orjson.dumps({name: value for name in _BODY if (value := getattr(record, name)) is not None})


def record_of(item_id: str, body: bytes, sequences: Sequence[int], times: Sequence[float]) -> LiveRecord | None:
    """The record that `body_of` wrote, with its created, updated and content numbers and its created and updated
    times; None for what is none."""
    numbers = dict(zip(_NUMBERS, (*sequences, *times), strict=True))
    try:
        said = {name: value for name, value in orjson.loads(body).items() if name in _BODY}
        # By way of JSON, for a strict reader takes no dataclass out of a dict.
        return _RECORD.validate_json(orjson.dumps(said | numbers | {"item_id": item_id}), strict=True)
    except (orjson.JSONDecodeError, AttributeError, ValidationError):
        return None


class CatalogFollower:
    """Calls `poll` again and again while the service runs, and knows whether it works."""

    def __init__(self, poll: Callable[[], Awaitable[object]], *, poll_seconds: float = 0.1) -> None:
        """`poll` shows what the store has that is not shown; it raises UnavailableError where the store is away."""
        self._poll = poll
        self._seconds = poll_seconds
        self._limit = RateLimit()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.state = "not started"
        """`ok`, or `unavailable`: what was shown last is shown still. `stopped` after `close`, or a fault."""

    async def open(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop."""
        self._closing = True  # a poll may take a cancellation for a failure of its own
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while not self._closing:
                await self._once()
                await asyncio.sleep(self._seconds)
        finally:
            self.state = "stopped"

    async def _once(self) -> None:
        try:
            await self._poll()
            self.state = "ok"
        except PlotPointeError as error:
            self.state = "unavailable"
            if self._limit.allows():
                log.warning("the live catalogue cannot be followed (%s); it stays as it was", error)


_SAID = (
    "title",
    "description",
    "category",
    "brand",
    "price",
    "in_stock",
    "hidden",
    "image_url",
    "attributes",
)
_BODY = (*_SAID, "image_digest", "deleted")
_CONTENT = ("title", "description", "category", "brand", "image_digest", "deleted")
_NUMBERS = ("created_seq", "updated_seq", "content_seq", "created_at", "updated_at")
_RECORD = TypeAdapter(LiveRecord)
