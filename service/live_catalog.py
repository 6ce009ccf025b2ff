"""The live catalogue: what the shop says of its items while the service runs, laid over whatever bundle answers.

    change -> store (durable, shared) -> every process: records -> embedded -> a new `Catalog` for each generation

A change is acknowledged when this process shows it; the others follow the store. A bundle that takes over gets all
records laid over it before it serves, those that it knows by now as changes, the others as new items.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from service.catalog import Catalog, LiveChanges
from service.domain import ItemChange, ItemsReceipt
from service.errors import EncoderUnavailableError, InvalidQueryError, ModelError
from service.generation import Generation
from service.item_columns import ItemValues
from service.item_tables import ItemTables

if TYPE_CHECKING:
    from service.catalog_store import CatalogStore, LiveRecord
    from service.new_items import NewItem

log = logging.getLogger(__name__)

Embedded = dict[tuple[str, int], "NewItem | None"]
"""(item id, its content's sequence) -> its vectors; None where it has neither text nor picture that says anything."""


class LiveCatalog:
    """The records of one shop, and the catalogs made of them."""

    def __init__(self, store: CatalogStore, generations: Callable[[], Iterable[Generation]]) -> None:
        """`generations()` are those that are loaded now; `prepare` is called for each before it serves."""
        self._store = store
        self._generations = generations
        self._records: dict[str, LiveRecord] = {}
        self._sequence = 0
        self._content_sequence = 0
        self._embedded: WeakKeyDictionary[Generation, Embedded] = WeakKeyDictionary()
        self._turn = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._records)

    @property
    def sequence(self) -> int:
        """The last change that this process shows."""
        return self._sequence

    async def prepare(self, generation: Generation) -> None:
        """Lay everything that is known over a generation that is about to serve."""
        async with self._turn:
            await self._read()
            await self._lay_over(generation)

    async def follow(self) -> None:
        """Show what the store has that is not shown yet. Raises UnavailableError where the store does not answer."""
        async with self._turn:
            if await self._read():
                for generation in self._generations():
                    await self._lay_over(generation)

    async def upsert(self, changes: Sequence[ItemChange]) -> ItemsReceipt:
        """Say what there is to say of some items. Raises what the store raises, and InvalidQueryError for a picture."""
        await self._check(changes)
        sequence = await self._store.upsert(changes)
        await self.follow()
        dumb = tuple(change.item_id for change in changes if self._is_dumb(change.item_id))
        return ItemsReceipt(len(changes), sequence, dumb)

    async def delete(self, item_ids: Sequence[str]) -> ItemsReceipt:
        """Take some items out of every answer."""
        sequence = await self._store.delete(item_ids)
        await self.follow()
        return ItemsReceipt(len(item_ids), sequence)

    async def _check(self, changes: Sequence[ItemChange]) -> None:
        """Refuse pictures that cannot be read before anything is stored."""
        pictures = [(place, change.image) for place, change in enumerate(changes) if change.image]
        if not pictures:
            return
        for generation in list(self._generations())[:1]:
            for place, picture in pictures:
                try:
                    await asyncio.to_thread(generation.encoders.image, picture)
                except EncoderUnavailableError:
                    return  # kept for a bundle that can
                except InvalidQueryError as error:
                    raise InvalidQueryError(error.what, where=f"items[{place}].image", todo=error.todo) from error

    async def _read(self) -> bool:
        """Take over what is new in the store; whether anything was."""
        records, latest = await self._store.since(self._sequence)
        for record in records:
            self._records[record.item_id] = record
            self._content_sequence = max(self._content_sequence, record.content_seq)
        self._sequence = max(self._sequence, latest)
        return bool(records)

    async def _lay_over(self, generation: Generation) -> None:
        if not self._records:
            return
        embedded = self._embedded.setdefault(generation, {})
        records = sorted(self._records.values(), key=lambda record: record.created_seq)
        catalog = await asyncio.to_thread(
            _catalog, generation, records, embedded, self._sequence, self._content_sequence
        )
        generation.catalog = catalog

    def _is_dumb(self, item_id: str) -> bool:
        """Whether an item is new, and has no vectors in the serving generation."""
        for generation in list(self._generations())[:1]:
            record = self._records.get(item_id)
            if record is not None and not record.deleted:
                return self._embedded.get(generation, {}).get((item_id, record.content_seq), False) is None
        return False


def _catalog(
    generation: Generation, records: Sequence[LiveRecord], embedded: Embedded, sequence: int, content_sequence: int
) -> Catalog:
    """The generation's catalog with the records over it. Embeds what was not embedded for it yet: in a thread."""
    bundle = generation.bundle
    rows: dict[str, int] = {}
    new: list[LiveRecord] = []
    for record in records:
        row = bundle.item_ids.row(record.item_id)
        if row is None:
            row = len(bundle.item_ids) + len(new)
            new.append(record)
        rows[record.item_id] = row
    vectors = [_vectors(generation, record, embedded) for record in new]
    hidden = {rows[r.item_id] for r in records if r.deleted or r.hidden or r.in_stock is False}
    without = {rows[r.item_id] for r, item in zip(new, vectors, strict=True) if item is None}
    changes = {
        rows[r.item_id]: ItemValues(r.category, r.brand, r.price, r.in_stock, dict(r.attributes or {}))
        for r in records
        if not r.deleted
    }
    new_rows = {record.item_id: rows[record.item_id] for record in new}
    return Catalog(
        bundle,
        ItemTables(bundle, generation.places, None),
        generation.published_columns.with_live(
            {**dict.fromkeys(new_rows.values(), ItemValues()), **changes}, new_ids=new_rows
        ),
        generation.by_popularity,
        LiveChanges(
            new_rows=new_rows,
            shown={rows[r.item_id]: ItemChange(r.item_id, title=r.title, image_url=r.image_url) for r in records},
            gone=frozenset(hidden | without),
            sequence=sequence,
            content_sequence=content_sequence,
        ),
    )


def _vectors(generation: Generation, record: LiveRecord, embedded: Embedded) -> NewItem | None:
    key = (record.item_id, record.content_seq)
    if key not in embedded:
        embedded[key] = None if record.deleted else _embed(generation, record)
    return embedded[key]


def _embed(generation: Generation, record: LiveRecord) -> NewItem | None:
    """A new item's vectors by what it says and looks like; None where nothing can be made of it."""
    try:
        raise EncoderUnavailableError("not wired yet")
    except (EncoderUnavailableError, InvalidQueryError, ModelError) as error:
        log.warning("an item of the live catalogue cannot be searched for: %s", error)
        return None
