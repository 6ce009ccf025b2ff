"""RecBole's atomic files: `<name>.inter[.gz]`, tab-separated, headers `user_id:token` or plain `userID`.

Items come from `<name>.item[.gz]` beside it, or from `items.jsonl[.gz]` (one JSON object an item), or are
known by their ids alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from offline_jobs.readers.amazon import product_lines
from offline_jobs.readers.amazon_files import find_files
from offline_jobs.readers.delimited import delimited_header
from offline_jobs.readers.json_lines import Record, parse_object
from offline_jobs.readers.mapping import InteractionMapping, ItemMapping, Mapping
from offline_jobs.readers.quarantine import Quarantine
from offline_jobs.readers.raw import TEXT_FIELDS, RawBatch
from offline_jobs.readers.records import read_records
from offline_jobs.readers.table import TableShop
from offline_jobs.readers.values import as_id, as_price, first_text, last_name, plain_text
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
    "rating": ("rating", "stars", "overall"),
    "review": ("review", "review_text", "text", "reviewtext"),
    "title": ("title", "item_title", "item_name", "name", "movie_title", "keywords"),
    "description": ("description", "desc"),
    "brand": ("brand", "store", "manufacturer"),
    "category": ("category", "categories", "class", "genre", "genres"),
    "price": ("price",),
    "image": ("image", "imurl", "image_url"),
}
"""What a column may be called, in lower case and without its `:type`."""


class InterShop:
    """A folder with one .inter file; a `Shop`."""

    format = FORMAT

    def __init__(self, data: Path, max_line_bytes: int, *, reviews: bool) -> None:
        path = _only(data, INTERACTIONS, required=True)
        table = _only(data, ITEM_TABLES)
        self._lines = _only(data, ITEM_LINES) if table is None else None
        assert path is not None
        mapping = Mapping(interactions=_interactions(path), items=_items(table) if table is not None else None)
        self._tables = TableShop(data, mapping, max_line_bytes, FORMAT, reviews=reviews)
        self.files = dict(self._tables.files)
        if self._lines is not None:
            self.files[self._lines.name] = self._lines
        self.has_time = self._tables.has_time
        self.has_label = self._tables.has_label
        self.has_rating = self._tables.has_rating
        self.has_reviews = self._tables.has_reviews
        self.image_names = self._tables.image_names
        self._max_line_bytes = max_line_bytes

    def interactions(self, quarantine: Quarantine) -> Iterator[RawBatch]:
        """One row an interaction."""
        return self._tables.interactions(quarantine)

    def items(self, quarantine: Quarantine) -> Iterator[RawBatch]:
        """One row an item, from the .item table or the JSON lines."""
        if self._lines is None:
            return self._tables.items(quarantine)
        parse = functools.partial(product_lines, parse=parse_object, product=product)
        return read_records(self._lines, "items", parse, quarantine, self._max_line_bytes, workers="processes")


def product(record: Record) -> tuple[tuple[object, ...], bool]:
    """An item of the JSON lines, a row of ITEM_SCHEMA, and whether its price could be read."""
    price, readable = as_price(record.get("price"))
    row = (
        as_id(record.get("itemID", record.get("item_id")), "itemID"),
        plain_text(record.get("title", record.get("keywords"))),
        plain_text(record.get("description")),
        plain_text(record.get("brand")),
        last_name(record.get("categories", record.get("category"))),
        price,
        first_text(record.get("imUrl")),
    )
    return row, readable


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
        rating=columns.get("rating"),
        review=f"{{{columns['review']}}}" if "review" in columns else (),
    )


def _items(path: Path) -> ItemMapping:
    columns = _known_columns(path)
    if "item_id" not in columns:
        raise DataError("no column for item_id", where=f"{path}:1", todo="Call it item_id:token")
    texts = {name: f"{{{columns[name]}}}" for name in (*TEXT_FIELDS, "image") if name in columns}
    known = {"file": path.name, "item_id": columns["item_id"], "price": columns.get("price")}
    return ItemMapping.model_validate(known | texts)


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
