"""The live catalogue's records in Redis, which every process of every machine reads and writes."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import SecretStr

from service.catalog_store import (
    Bounds,
    LiveRecord,
    body_of,
    check_images,
    image_digest,
    is_change,
    is_new_content,
    merged,
    record_of,
    tombstone,
)
from service.domain import ItemChange
from service.errors import UnavailableError
from service.redis_catalog_scripts import READ, SINCE, TOUCH, WRITE
from service.redis_link import RedisLink, Word, redis_key

log = logging.getLogger(__name__)

TTL_S = 90 * 86_400
"""Redis forgets the catalogue so long after its last change, and after the last process that read it has begun."""
REFRESH_S = 86_400.0
ITEMS_A_SCRIPT = 200
BYTES_A_SCRIPT = 4 << 20
"""Most of one script: milliseconds of Redis, for which everyone else waits."""
MOST_TRIES = 50
"""How often a change is laid over a record that another process has just changed."""


@dataclass(frozen=True, slots=True)
class _Said:
    """An item and what is said of it; `change` None: that it is no more."""

    item_id: str
    change: ItemChange | None
    revive: bool = True


class RedisCatalogStore:
    """See `service.catalog_store.CatalogStore`. What was acknowledged is as durable as the Redis is made to be.

    Changes are merged here and kept by a script where no one else changed the record meanwhile, else merged anew. A
    call of many items is kept in several pieces: one that fails in the middle has kept those before it.
    """

    def __init__(self, url: SecretStr, *, tenant: str, timeout_ms: int, bounds: Bounds) -> None:
        """Raises InputError for a URL that cannot be understood."""
        self._link = RedisLink(url, timeout_ms=timeout_ms, without="the live catalogue stays as it was")
        self._bounds = bounds
        self._items = redis_key(tenant, "catalog", "item", "")
        self._images = redis_key(tenant, "catalog", "image", "")
        self._order = redis_key(tenant, "catalog", "order")
        self._totals = (redis_key(tenant, "catalog", "sequence"), redis_key(tenant, "catalog", "image-bytes"))
        self._refreshed_at = -REFRESH_S

    async def upsert(self, changes: Sequence[ItemChange]) -> int:
        """See `CatalogStore`."""
        check_images(changes)
        return await self._write([_Said(change.item_id, change) for change in changes])

    async def patch(self, changes: Sequence[ItemChange]) -> int:
        """See `CatalogStore`."""
        check_images(changes)
        return await self._write([_Said(change.item_id, change, revive=False) for change in changes])

    async def delete(self, item_ids: Sequence[str]) -> int:
        """See `CatalogStore`."""
        return await self._write([_Said(item_id, None) for item_id in item_ids])

    async def since(self, sequence: int) -> tuple[list[LiveRecord], int]:
        """See `CatalogStore`."""
        await self._refresh()
        records: list[LiveRecord] = []
        while True:
            reply = await self._link.run(SINCE, [self._order], [self._items, sequence, ITEMS_A_SCRIPT])
            if not reply:
                return records, sequence
            sequence, rows = int(reply[0]), reply[1]
            for row in rows:
                record = _record(row)
                if record is None:
                    log.warning("a record of the live catalogue is none, and is passed over")
                else:
                    records.append(record)
            if len(rows) < ITEMS_A_SCRIPT:
                return records, sequence

    async def image(self, record: LiveRecord) -> bytes | None:
        """See `CatalogStore`."""
        if not record.image_digest:
            return None
        image: bytes | None = await self._link.command("GET", self._images + _key(record.item_id))
        return image if image is not None and image_digest(image) == record.image_digest else None

    async def close(self) -> None:
        """See `CatalogStore`."""
        await self._link.close()

    async def _write(self, said: Sequence[_Said]) -> int:
        latest = 0
        for piece in list(_pieces(said)) or [[]]:
            left: Sequence[_Said] = piece
            for _ in range(MOST_TRIES):
                latest, left = await self._try(left)
                if not left:
                    break
            else:
                raise UnavailableError(
                    "others change the same items of the live catalogue all the time", todo="Send the change again"
                )
        return latest

    async def _try(self, said: Sequence[_Said]) -> tuple[int, list[_Said]]:
        """Keep what no one else changes meanwhile: the newest number, and what is left to do."""
        rows = await self._link.run(READ, [], [self._items, *(_key(one.item_id) for one in said)])
        keys = [self._order, *self._totals]
        args: list[Word] = [
            TTL_S,
            self._bounds.max_items,
            self._bounds.max_image_bytes,
            int(time.time() * 1000),
            time.time(),
        ]
        sent: list[_Said] = []
        for one, row in zip(said, rows, strict=True):
            words = _words(one, row)
            if words:
                sent.append(one)
                keys += [self._items + _key(one.item_id), self._images + _key(one.item_id)]
                args += words
        reply = await self._link.run(WRITE, keys, args)
        if reply[0] == b"full":
            self._bounds.check([int(n) for n in reply[1:3]], [int(n) for n in reply[3:5]])
        return int(reply[1]), [one for one, number in zip(sent, reply[2:], strict=True) if not number]

    async def _refresh(self) -> None:
        """Once a day put off the day on which Redis forgets it all."""
        now = time.monotonic()
        if now - self._refreshed_at < REFRESH_S:
            return
        items: list[bytes] = await self._link.echoed("ZRANGE", self._order, 0, -1)
        for start in range(0, len(items), ITEMS_A_SCRIPT):
            piece = [item.decode("ascii", "replace") for item in items[start : start + ITEMS_A_SCRIPT]]
            names = [prefix + item for prefix in (self._items, self._images) for item in piece]
            await self._link.run(TOUCH, [self._order, *self._totals, *names], [TTL_S])
        self._refreshed_at = now


def _pieces(said: Sequence[_Said]) -> Iterator[list[_Said]]:
    """What one script takes each, no item twice in one: the later of two words has to be laid over the earlier."""
    piece: dict[str, _Said] = {}
    size = 0
    for one in said:
        more = len(one.change.image or b"") if one.change is not None else 0
        if piece and (one.item_id in piece or len(piece) == ITEMS_A_SCRIPT or size + more > BYTES_A_SCRIPT):
            yield list(piece.values())
            piece, size = {}, 0
        piece[one.item_id] = one
        size += more
    if piece:
        yield list(piece.values())


def _words(one: _Said, row: Sequence[bytes]) -> list[Word]:
    """What WRITE is told of an item, given its record; nothing where nothing new is said."""
    before = _record(row)
    if one.change is None:
        after = tombstone(before, one.item_id)
    elif before is not None and before.deleted and not one.revive:
        return []
    else:
        after = merged(before, one.change)
    if not is_change(before, after):
        return []
    image = b"" if one.change is None else one.change.image
    return [
        one.item_id.encode(),
        _key(one.item_id),
        _updated(row),
        body_of(after),
        int(is_new_content(before, after)),
        int(image is not None),
        image or b"",
        int(before is None),
    ]


def _key(item_id: str) -> str:
    """What stands for an item in the names of keys, whatever its id holds."""
    return hashlib.sha256(item_id.encode()).hexdigest()[:32]


def _record(row: Sequence[bytes]) -> LiveRecord | None:
    """The record of a hash's fields (id, body, numbers and times), None for what is none."""
    item_id, body, numbers = row
    try:
        created, updated, content, created_at, updated_at = numbers.split(b" ")
        sequences = (int(created), int(updated), int(content))
        return record_of(item_id.decode(), body, sequences, (float(created_at), float(updated_at)))
    except ValueError:
        return None


def _updated(row: Sequence[bytes]) -> bytes:
    """The number that WRITE finds in the hash of `row`."""
    return row[2].split(b" ")[1] or b"0"
