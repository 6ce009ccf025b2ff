"""Amazon reviews 2014: reviews are strict JSON, metadata are Python literals (or JSON)."""

from __future__ import annotations

from offline_jobs.readers.amazon import Release
from offline_jobs.readers.json_lines import Field, Record
from offline_jobs.readers.literals import parse_literal
from offline_jobs.readers.values import as_id, as_number, first_text, last_name, plain_text


def product(record: Record) -> tuple[tuple[object, ...], bool]:
    """A row of ITEM_SCHEMA; a price that is no number refuses the row, as this release's prices are numbers."""
    row = (
        as_id(record.get("asin"), "asin"),
        plain_text(record.get("title")),
        plain_text(record.get("description")),
        plain_text(record.get("brand")),
        last_name(record.get("categories")),
        as_number(record.get("price"), "price"),
        first_text(record.get("imUrl")),
    )
    return row, True


AMAZON_2014 = Release(
    name="amazon-2014",
    suffixes=(".json",),
    reviews={
        "user_id": Field("reviewerID", "id"),
        "item_id": Field("asin", "id"),
        "timestamp": Field("unixReviewTime", "number"),
        "rating": Field("overall", "number"),
        "summary": Field("summary", "text"),
        "body": Field("reviewText", "text"),
    },
    ticks_per_second=1,
    parse=parse_literal,
    product=product,
)
