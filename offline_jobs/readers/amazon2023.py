"""Amazon reviews 2023: JSON lines; items are variants of a parent, and the parent is what is recommended."""

from __future__ import annotations

from offline_jobs.readers.amazon import Release
from offline_jobs.readers.json_lines import Field, Record, parse_object
from offline_jobs.readers.values import as_id, as_price, first_text, last_name, plain_text

SIZES = ("large", "hi_res", "thumb")
"""Of an image, in the order of preference: large is some 500 pixels wide, enough for any encoder."""


def product(record: Record) -> tuple[tuple[object, ...], bool]:
    """A row of ITEM_SCHEMA. The description is the shop's, then its list of features."""
    price, readable = as_price(record.get("price"))
    texts = (plain_text(record.get("description")), plain_text(record.get("features")))
    row = (
        as_id(record.get("parent_asin"), "parent_asin"),
        plain_text(record.get("title")),
        " ".join(text for text in texts if text) or None,
        plain_text(record.get("store")),
        last_name(record.get("categories")) or plain_text(record.get("main_category")),
        price,
        _image(record.get("images")),
    )
    return row, readable


def _image(images: object) -> str | None:
    """The URL of the main picture, else of the first one."""
    pictures = [each for each in images if isinstance(each, dict)] if isinstance(images, list) else []
    pictures.sort(key=lambda each: each.get("variant") != "MAIN")
    return first_text(*(each.get(size) for each in pictures for size in SIZES))


AMAZON_2023 = Release(
    name="amazon-2023",
    suffixes=(".jsonl",),
    reviews={
        "user_id": Field("user_id", "id"),
        "item_id": Field("parent_asin", "id"),
        "timestamp": Field("timestamp", "number"),
        "rating": Field("rating", "number"),
        "summary": Field("title", "text"),
        "body": Field("text", "text"),
    },
    ticks_per_second=1000,
    parse=parse_object,
    product=product,
)
