"""A bundle's catalog with the records of the live catalogue over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from service.catalog import Catalog, LiveChanges
from service.catalog_store import LiveRecord
from service.content import NewItem
from service.domain import ItemChange
from service.generation import Generation
from service.item_columns import ItemValues
from service.item_tables import Floats, ItemTables, LiveTables

Embedded = dict[tuple[str, int], NewItem | None]
"""(item id, `content_seq` of its record) -> its vectors; None where nothing that it says can be made one."""


def overlaid(
    generation: Generation, records: Sequence[LiveRecord], embedded: Embedded, sequence: int, content_sequence: int
) -> Catalog:
    """The generation's catalog with `records`, in the order that their items came. Runs in a thread."""
    bundle = generation.bundle
    rows: dict[str, int] = {}
    new: list[LiveRecord] = []
    for record in records:
        row = bundle.item_ids.row(record.item_id)
        if row is None:
            row = len(bundle.item_ids) + len(new)
            new.append(record)
        rows[record.item_id] = row
    vectors = [embedded.get((record.item_id, record.content_seq)) for record in new]
    new_rows = {record.item_id: rows[record.item_id] for record in new}
    values = dict.fromkeys(new_rows.values(), ItemValues()) | {
        rows[record.item_id]: ItemValues(
            record.category, record.brand, record.price, record.in_stock, record.attributes or {}
        )
        for record in records
    }
    out_of_sight = {rows[r.item_id] for r in records if r.deleted or r.hidden or r.in_stock is False}
    not_embedded = {rows[r.item_id] for r, item in zip(new, vectors, strict=True) if item is None}
    return Catalog(
        bundle,
        ItemTables(bundle, generation.places, _tables(generation, vectors)),
        generation.published_columns.with_live(values, new_ids=new_rows),
        generation.by_popularity,
        LiveChanges(
            new_rows=new_rows,
            shown={rows[r.item_id]: ItemChange(r.item_id, title=r.title, image_url=r.image_url) for r in records},
            gone=frozenset(out_of_sight | not_embedded),
            sequence=sequence,
            content_sequence=content_sequence,
        ),
    )


def _tables(generation: Generation, items: Sequence[NewItem | None]) -> LiveTables | None:
    """The tables of the new items; zero rows for those that cannot be searched for."""
    if not items:
        return None
    dim, width = generation.manifest.dim, generation.bundle.look.shape[1]

    def table(size: int, of: Callable[[NewItem], Floats]) -> Floats:
        return np.stack([np.zeros(size, np.float32) if item is None else of(item) for item in items])

    return LiveTables(
        item_vectors=table(dim, lambda item: item.item_vector),
        history_vectors=table(dim, lambda item: item.history_vector),
        look=table(width, lambda item: item.content.look),
        meaning=table(width, lambda item: item.content.meaning),
        items=tuple(items),
    )
