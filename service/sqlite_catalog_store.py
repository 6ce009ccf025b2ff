"""The live catalogue's records in one SQLite file, which every process of a machine reads and writes."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

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
from service.errors import CatalogCorruptError, InputError, UnavailableError

T = TypeVar("T")

APPLICATION_ID = 0x506C6F74
"""What marks the file as one of this module's: `Plot`."""
SCHEMA_VERSION = 1
BUSY_SECONDS = 5.0
"""Longest wait for another process's write. A write takes milliseconds."""

_SCHEMA = f"""
CREATE TABLE item (
    item_id BLOB PRIMARY KEY, body BLOB NOT NULL,
    created_seq INTEGER NOT NULL, updated_seq INTEGER NOT NULL, content_seq INTEGER NOT NULL,
    created_at REAL NOT NULL, updated_at REAL NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX item_by_change ON item (updated_seq);
CREATE TABLE image (item_id BLOB PRIMARY KEY, image BLOB NOT NULL);
CREATE TABLE total (sequence INTEGER NOT NULL, items INTEGER NOT NULL, image_bytes INTEGER NOT NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""
_COLUMNS = "item_id, body, created_seq, updated_seq, content_seq, created_at, updated_at"
_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_MISMATCH})

Change = tuple[str, "ItemChange | None"]
"""An item and what is said of it; None: that it is no more."""


class SqliteCatalogStore:
    """See `service.catalog_store.CatalogStore`. One thread of its own talks to SQLite: the event loop never waits.

    Write-ahead log and `synchronous=FULL`: what was acknowledged outlives the process, and a power cut where the disk
    keeps its word.
    """

    @classmethod
    async def open(cls, path: Path, bounds: Bounds) -> SqliteCatalogStore:
        """Open the file, or make it and its folder.

        Raises CatalogCorruptError for a file that is none of this service's, InputError for a folder in which nothing
        can be kept.
        """
        store = cls(path, bounds)
        await store._do(store._open)
        return store

    def __init__(self, path: Path, bounds: Bounds) -> None:
        self._path = path
        self._bounds = bounds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="live-catalogue")
        self._db: sqlite3.Connection

    async def upsert(self, changes: Sequence[ItemChange]) -> int:
        """See `CatalogStore`."""
        check_images(changes)
        return await self._do(lambda: self._write([(change.item_id, change) for change in changes]))

    async def patch(self, changes: Sequence[ItemChange]) -> int:
        """See `CatalogStore`."""
        check_images(changes)
        return await self._do(lambda: self._write([(change.item_id, change) for change in changes], revive=False))

    async def delete(self, item_ids: Sequence[str]) -> int:
        """See `CatalogStore`."""
        return await self._do(lambda: self._write([(item_id, None) for item_id in item_ids]))

    async def since(self, sequence: int) -> tuple[list[LiveRecord], int]:
        """See `CatalogStore`."""
        records = await self._do(lambda: self._since(sequence))
        return records, max((record.updated_seq for record in records), default=sequence)

    async def image(self, record: LiveRecord) -> bytes | None:
        """See `CatalogStore`."""
        if not record.image_digest:
            return None
        row = await self._do(
            lambda: self._db.execute("SELECT image FROM image WHERE item_id = ?", (record.item_id.encode(),)).fetchone()
        )
        return row[0] if row is not None and image_digest(row[0]) == record.image_digest else None

    async def close(self) -> None:
        """See `CatalogStore`."""
        await self._do(lambda: self._db.close())
        self._thread.shutdown()

    async def _do(self, work: Callable[[], T]) -> T:
        """Run `work` in the thread, and say in this project's words what SQLite raises."""
        with self._translated():
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code in _CORRUPT:
                raise self._corrupt(str(error)) from error
            if code == sqlite3.SQLITE_CANTOPEN:
                raise self._unusable(str(error)) from error
            raise UnavailableError(
                f"the live catalogue cannot be read or written now: {error}",
                where=str(self._path),
                todo="Send the change again; if it stays so, look at the disk's space and permissions",
            ) from error

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        self._db = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA synchronous = FULL")
            with self._transaction():
                self._check_schema()
            self._use_log()
        except BaseException:
            self._db.close()
            self._thread.shutdown(wait=False)
            raise

    def _use_log(self) -> None:
        """Write ahead; of several processes that make the file at once one has to wait, and SQLite does not do it."""
        end = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def _check_schema(self) -> None:
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if (application, version, tables) == (0, 0, 0):
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            # Numbers begin at the time, in milliseconds: above all those of a file that was here before.
            self._db.execute("INSERT INTO total VALUES (?, 0, 0)", (int(time.time() * 1000),))
        elif application != APPLICATION_ID:
            raise self._corrupt("it is the database of another program")
        elif version != SCHEMA_VERSION:
            raise self._corrupt(f"it has format {version}, and this service knows {SCHEMA_VERSION}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _write(self, changes: Sequence[Change], *, revive: bool = True) -> int:
        with self._transaction():
            sequence, *totals = self._db.execute("SELECT sequence, items, image_bytes FROM total").fetchone()
            items, image_bytes = totals
            for item_id, change in changes:
                before = self._record(item_id)
                if change is not None and not revive and before is not None and before.deleted:
                    continue
                after = tombstone(before, item_id) if change is None else merged(before, change)
                if not is_change(before, after):
                    continue
                sequence += 1
                items += before is None
                self._put(after, sequence, before)
                image_bytes += self._put_image(item_id, change)
            self._bounds.check(totals, [items, image_bytes])
            self._db.execute(
                "UPDATE total SET sequence = ?, items = ?, image_bytes = ?", (sequence, items, image_bytes)
            )
        return int(sequence)

    def _put(self, record: LiveRecord, sequence: int, before: LiveRecord | None) -> None:
        now = time.time()
        created = (sequence, now) if before is None else (before.created_seq, before.created_at)
        unchanged = 0 if before is None else before.content_seq
        content = sequence if is_new_content(before, record) else unchanged
        self._db.execute(
            f"INSERT OR REPLACE INTO item ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            (record.item_id.encode(), body_of(record), created[0], sequence, content, created[1], now),
        )

    def _put_image(self, item_id: str, change: ItemChange | None) -> int:
        """Keep, replace or drop an item's picture; by how many bytes there are more."""
        if change is not None and change.image is None:
            return 0
        key = item_id.encode()
        (before,) = self._db.execute(
            "SELECT coalesce(sum(length(image)), 0) FROM image WHERE item_id = ?", (key,)
        ).fetchone()
        self._db.execute("DELETE FROM image WHERE item_id = ?", (key,))
        if change is None or not change.image:
            return -int(before)
        self._db.execute("INSERT INTO image VALUES (?, ?)", (key, change.image))
        return len(change.image) - int(before)

    def _record(self, item_id: str) -> LiveRecord | None:
        row = self._db.execute(f"SELECT {_COLUMNS} FROM item WHERE item_id = ?", (item_id.encode(),)).fetchone()  # noqa: S608
        return None if row is None else self._read(row)

    def _since(self, sequence: int) -> list[LiveRecord]:
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM item WHERE updated_seq > ? ORDER BY updated_seq",  # noqa: S608
            (sequence,),
        )
        return [self._read(row) for row in rows]

    def _read(self, row: tuple[bytes, bytes, int, int, int, float, float]) -> LiveRecord:
        record = record_of(row[0].decode(), row[1], row[2:5], row[5:])
        if record is None:
            raise self._corrupt("a record in it is none")
        return record

    def _corrupt(self, what: str) -> CatalogCorruptError:
        return CatalogCorruptError(
            f"the live catalogue's file cannot be used: {what}",
            where=str(self._path),
            todo="Restore it from a copy, or move it away and send the shop's changes again",
        )

    def _unusable(self, what: str) -> InputError:
        return InputError(
            f"the live catalogue cannot be kept there: {what}",
            where=str(self._path),
            todo="Make the folder writable, or name another by PLOTPOINTE_STATE_DIR",
        )
