"""RecBole's atomic files: `<name>.inter[.gz]`, tab-separated, headers `user_id:token` or plain `userID`.

Items come from `<name>.item[.gz]` beside it, or from `items.jsonl[.gz]` (one JSON object an item), or are
known by their ids alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from offline_jobs.readers.amazon2014 import (
    Record,
    find_files,
    leaf_category,
    parse_json,
    plain_text,
    read_records,
)
from offline_jobs.readers.delimited import delimited_header
from offline_jobs.readers.mapping import InteractionMapping, ItemMapping, Mapping
from offline_jobs.readers.quarantine import Quarantine
from offline_jobs.readers.raw import ITEM_SCHEMA, BatchBuilder, RawBatch, as_id, as_number, as_text
from offline_jobs.readers.table import TableShop
from service.errors import DataError

FORMAT = "inter"
INTERACTIONS = ("*.inter", "*.inter.gz")
ITEM_TABLES = ("*.item", "*.item.gz")
ITEM_LINES = ("items.jsonl", "items.jsonl.gz")

NAMES = {
    "user_id": ("user_id", "userid", "user", "uid"),
    "item_id": ("item_id", "itemid", "item", "iid", "asin"),
    "timestamp": ("timestamp", "time"),
    "label": ("x_label",),
    "title": ("title", "item_title", "name"),
    "description": ("description",),
    "brand": ("brand",),
    "category": ("category", "categories", "class"),
    "price": ("price",),
}
"""What a column may be called, in lower case and without its `:type`."""


class InterShop:
    """A folder with one .inter file; a `Shop`."""

    format = FORMAT

    def __init__(self, data: Path, max_line_bytes: int) -> None:
        path = _only(data, INTERACTIONS, required=True)
        table = _only(data, ITEM_TABLES)
        self._lines = _only(data, ITEM_LINES) if table is None else None
        assert path is not None
        mapping = Mapping(interactions=_interactions(path), items=_items(table) if table is not None else None)
        self._tables = TableShop(data, mapping, max_line_bytes, FORMAT)
        self.files = dict(self._tables.files)
        if self._lines is not None:
            self.files[self._lines.name] = self._lines
        self.has_time = self._tables.has_time
        self.has_label = self._tables.has_label
        self.image_names = self._tables.image_names
        self._max_line_bytes = max_line_bytes

    def interactions(self, quarantine: Quarantine) -> Iterator[RawBatch]:
        """One row an interaction."""
        return self._tables.interactions(quarantine)

    def items(self, quarantine: Quarantine) -> Iterator[RawBatch]:
        """One row an item, from the .item table or the JSON lines."""
        if self._lines is None:
            return self._tables.items(quarantine)
        builder = BatchBuilder("items", self._lines.name, ITEM_SCHEMA)
        return read_records(self._lines, builder, quarantine, self._max_line_bytes, parse_json, _item)


def _item(record: Record) -> tuple[object, ...]:
    return (
        as_id(record.get("itemID", record.get("item_id")), "itemID"),
        plain_text(record.get("title", record.get("keywords"))),
        plain_text(record.get("description")),
        plain_text(record.get("brand")),
        leaf_category(record.get("categories", record.get("category"))),
        as_number(record.get("price"), "price"),
        as_text(record.get("imUrl")),
    )


def _interactions(path: Path) -> InteractionMapping:
    columns = _known_columns(path)
    for name in ("user_id", "item_id"):
        if name not in columns:
            raise DataError(
                f"no column for {name}; found {', '.join(delimited_header(path, chr(9)))}",
                where=f"{path}:1",
                todo=f"Call it one of: {', '.join(NAMES[name])} (with or without :token)",
            )
    return InteractionMapping(
        file=path.name,
        user_id=columns["user_id"],
        item_id=columns["item_id"],
        timestamp=columns.get("timestamp"),
        label=columns.get("label"),
    )


def _items(path: Path) -> ItemMapping:
    columns = _known_columns(path)
    if "item_id" not in columns:
        raise DataError("no column for item_id", where=f"{path}:1", todo="Call it item_id:token")
    texts = {name: f"{{{columns[name]}}}" for name in ("title", "description", "brand", "category") if name in columns}
    return ItemMapping(file=path.name, item_id=columns["item_id"], price=columns.get("price"), **texts)


def _known_columns(path: Path) -> dict[str, str]:
    """Our names -> the names in the file, for the columns that are there."""
    found = {written.partition(":")[0].strip().lower(): written for written in delimited_header(path, "\t")}
    return {ours: found[alias] for ours, aliases in NAMES.items() for alias in reversed(aliases) if alias in found}


def _only(data: Path, patterns: tuple[str, ...], *, required: bool = False) -> Path | None:
    found = find_files(data, patterns)
    if len(found) > 1 or (required and not found):
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(
            f"one {patterns[0]} file is needed, found {names}",
            where=str(data),
            todo="Leave one in the folder, or describe the folder with a shop.toml",
        )
    return found[0] if found else None
