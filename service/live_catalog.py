"""The live catalogue: what the shop says of its items while the service runs, laid over whatever bundle answers.

    change -> store (durable, shared) -> every process: records -> embedded -> a new `Catalog` for each generation

A change is acknowledged when this process shows it; the others follow the store. A bundle that takes over gets all
records laid over it before it serves: those of items that it knows by now as changes, the others as new items.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from weakref import WeakKeyDictionary, WeakSet

from service.catalog_store import CatalogStore, LiveRecord
from service.content import NewItem
from service.domain import ItemChange, ItemsReceipt
from service.errors import EncoderUnavailableError, InvalidQueryError, ModelError, UnavailableError
from service.generation import Generation
from service.overlay import Embedded, overlaid

log = logging.getLogger(__name__)


class LiveCatalog:
    """The records of one shop, and the catalogs made of them."""

    def __init__(self, store: CatalogStore, generations: Callable[[], Iterable[Generation]]) -> None:
        """`generations()` are those that are loaded now; `prepare` is called for each before it serves."""
        self._store = store
        self._generations = generations
        self._records: dict[str, LiveRecord] = {}
        self._sequence = 0
        self._content_sequence = 0
        self._prepared: WeakSet[Generation] = WeakSet()
        self._embedded: WeakKeyDictionary[Generation, Embedded] = WeakKeyDictionary()
        self._turn = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._records)

    def is_deleted(self, item_id: str) -> bool:
        """Whether the last word on an item is that there is none."""
        record = self._records.get(item_id)
        return record is not None and record.deleted

    async def prepare(self, generation: Generation) -> None:
        """Lay everything that is known over a generation that is about to serve.

        Where the store does not answer, as much as this process knows: the bundle serves, and the rest follows.
        """
        async with self._turn:
            try:
                await self._read()
            except UnavailableError as error:
                log.warning("a bundle begins without the newest words on its items: %s", error)
            self._prepared.add(generation)  # from here on it follows, though it may take a while until it serves
            await self._lay_over(generation)

    async def follow(self) -> None:
        """Show what the store has that is not shown yet. Raises UnavailableError where the store does not answer."""
        async with self._turn:
            await self._read()
            for generation in list(self._prepared):
                if generation.catalog.sequence < self._sequence:  # what failed on the way is done again
                    await self._lay_over(generation)

    async def upsert(self, changes: Sequence[ItemChange]) -> ItemsReceipt:
        """Say what there is to say of some items. Raises what the store raises, and InvalidQueryError for a picture."""
        await self._check_pictures(changes)
        return await self._shown([change.item_id for change in changes], await self._store.upsert(changes))

    async def patch(self, changes: Sequence[ItemChange]) -> ItemsReceipt:
        """The same, of items that are known already: what is deleted stays deleted."""
        await self._check_pictures(changes)
        return await self._shown([change.item_id for change in changes], await self._store.patch(changes))

    async def delete(self, item_ids: Sequence[str]) -> ItemsReceipt:
        """Take some items out of every answer."""
        return await self._shown(item_ids, await self._store.delete(item_ids))

    async def _shown(self, item_ids: Sequence[str], sequence: int) -> ItemsReceipt:
        await self.follow()
        return ItemsReceipt(len(item_ids), sequence, tuple(item_id for item_id in item_ids if self._is_dumb(item_id)))

    async def _check_pictures(self, changes: Sequence[ItemChange]) -> None:
        """Refuse pictures that cannot be read before anything is stored."""
        generation = next(iter(self._generations()))
        for place, change in enumerate(changes):
            if not change.image:
                continue
            try:
                await asyncio.to_thread(generation.encoders.image, change.image)
            except EncoderUnavailableError:
                return  # kept for a bundle that can
            except InvalidQueryError as error:
                raise type(error)(error.what, where=f"items[{place}].image", todo=error.todo) from error

    async def _read(self) -> None:
        """Take over what is new in the store."""
        records, latest = await self._store.since(self._sequence)
        for record in records:
            self._records[record.item_id] = record
            self._content_sequence = max(self._content_sequence, record.content_seq)
        self._sequence = max(self._sequence, latest)

    async def _lay_over(self, generation: Generation) -> None:
        embedded = self._embedded.setdefault(generation, {})
        known = generation.bundle.item_ids
        for record in list(self._records.values()):
            key = (record.item_id, record.content_seq)
            if key not in embedded and not record.deleted and known.row(record.item_id) is None:
                image = await self._store.image(record) if record.image_digest else None
                embedded[key] = await asyncio.to_thread(_embedded, generation, record, image)
        wanted = {(record.item_id, record.content_seq) for record in self._records.values()}
        for key in embedded.keys() - wanted:
            del embedded[key]
        records = sorted(self._records.values(), key=lambda record: record.created_seq)
        generation.catalog = await asyncio.to_thread(
            overlaid, generation, records, embedded, self._sequence, self._content_sequence
        )

    def _is_dumb(self, item_id: str) -> bool:
        """Whether an item is new, and the serving generation cannot search for it."""
        generation = next(iter(self._generations()))
        record = self._records.get(item_id)
        if record is None or record.deleted or generation.bundle.item_ids.row(item_id) is not None:
            return False
        return self._embedded.get(generation, {}).get((item_id, record.content_seq)) is None


def _embedded(generation: Generation, record: LiveRecord, image: bytes | None) -> NewItem | None:
    """A new item's vectors by what it says and looks like; None where nothing can be made of it. Runs in a thread."""
    encoders, new_items = generation.encoders, generation.new_items
    if new_items is None:
        log.warning("bundle %s has no content table: what is new cannot be searched for", generation.version)
        return None
    text = None
    try:
        if "text" in encoders.available:
            text = encoders.item_text(
                title=record.title or "",
                category=record.category or "",
                brand=record.brand or "",
                description=record.description or "",
            )
        picture = image if "image" in encoders.available else None
        return new_items.embed(encoders.content(text, picture))
    except (EncoderUnavailableError, InvalidQueryError, ModelError) as error:
        log.warning("an item of the live catalogue cannot be searched for: %s", error)
        return None
