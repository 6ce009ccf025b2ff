"""Amazon reviews 2018: JSON lines; the reviews' fields are those of 2014, the metadata's are not."""

from __future__ import annotations

from offline_jobs.readers.amazon import Release
from offline_jobs.readers.amazon2014 import AMAZON_2014
from offline_jobs.readers.json_lines import Record, parse_object
from offline_jobs.readers.values import as_id, as_price, first_text, last_name, plain_text


def product(record: Record) -> tuple[tuple[object, ...], bool]:
    """A row of ITEM_SCHEMA. Prices are texts such as `$1,234.56`, or scraps of a web page: then there is no price."""
    price, readable = as_price(record.get("price"))
    row = (
        as_id(record.get("asin"), "asin"),
        plain_text(record.get("title")),
        plain_text(record.get("description")),
        plain_text(record.get("brand")),
        last_name(record.get("category")),
        price,
        first_text(record.get("imageURLHighRes"), record.get("imageURL"), record.get("image")),
    )
    return row, readable


AMAZON_2018 = Release(
    name="amazon-2018",
    suffixes=(".json",),
    reviews=AMAZON_2014.reviews,
    ticks_per_second=1,
    parse=parse_object,
    product=product,
)
