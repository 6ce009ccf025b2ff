"""Amazon reviews (McAuley lab), any of its releases: a file of reviews and one of products, a record a line.

What differs between releases is a `Release`: the names of the fields, how a line of metadata is written, and which of
its fields make an item. Never read, for they say what was bought in the test period: `related`, `salesRank`,
`also_buy`, `also_view`, `rank`, `bought_together`, `average_rating`, `rating_number`.
A picture is `images/<asin>.jpg` or `.png` where that file is there, else the URL (`fetch-images` downloads it).
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from offline_jobs.readers import json_lines
from offline_jobs.readers.amazon_files import find_metadata, find_reviews
from offline_jobs.readers.images import list_images
from offline_jobs.readers.json_lines import Fields, Record
from offline_jobs.readers.lines import Block
from offline_jobs.readers.quarantine import Quarantine
from offline_jobs.readers.raw import ITEM_SCHEMA, RawBatch
from offline_jobs.readers.records import Parsed, converted, read_records
from service.errors import DataError

BAD_PRICE = "price is not a number: the item is kept without one"

Product = Callable[[Record], tuple[tuple[object, ...], bool]]
"""A metadata record -> (row of ITEM_SCHEMA, whether its price was readable). Raises RefusedRowError."""


@dataclass(frozen=True)
class Release:
    """What is particular to one release of the data."""

    name: str
    suffixes: tuple[str, ...]
    """How its files end, without .gz."""
    reviews: Fields
    """user_id, item_id, timestamp, rating, and the texts `summary` and `body`."""
    ticks_per_second: int
    """Unit of the time stamps."""
    parse: Callable[[str], Record]
    """A line of metadata as a record. Raises RefusedRowError."""
    product: Product


class AmazonShop:
    """A folder of Amazon reviews; a `Shop`. `reviews=False` leaves the texts of the reviews unread."""

    has_time = True
    has_label = False
    has_rating = True

    def __init__(self, data: Path, release: Release, max_line_bytes: int, *, reviews: bool) -> None:
        self.format = release.name
        self._reviews = find_reviews(data, release.suffixes)
        self._metadata = find_metadata(data, release.suffixes)
        for kind, found in (("reviews", self._reviews), ("meta", self._metadata)):
            if not found:
                suffix = release.suffixes[0]
                raise DataError(
                    f"no {kind}*{suffix} or {kind}*{suffix}.gz",
                    where=str(data),
                    todo=f"The format '{release.name}' needs reviews and meta*{suffix}[.gz] in that folder: "
                    f"<name>{suffix}[.gz] or reviews_<name>{suffix}[.gz], and meta_<name>{suffix}[.gz]",
                )
        self.files = {path.name: path for path in (*self._reviews, *self._metadata)}
        self.image_names = list_images(data, "images/{item_id}.jpg")
        self.has_reviews = reviews
        self._release = release
        self._max_line_bytes = max_line_bytes

    def interactions(self, quarantine: Quarantine) -> Iterator[RawBatch]:
        """One row a review."""
        texts = () if self.has_reviews else ("summary", "body")
        fields = {name: field for name, field in self._release.reviews.items() if name not in texts}
        parse = functools.partial(json_lines.parse, fields=fields)
        for path in self._reviews:
            for batch in read_records(path, "interactions", parse, quarantine, self._max_line_bytes, workers="threads"):
                yield RawBatch(batch.file, self._interactions(batch.frame), batch.lines, batch.text)

    def items(self, quarantine: Quarantine) -> Iterator[RawBatch]:
        """One row a product."""
        parse = functools.partial(product_lines, parse=self._release.parse, product=self._release.product)
        for path in self._metadata:
            for batch in read_records(path, "items", parse, quarantine, self._max_line_bytes, workers="processes"):
                yield RawBatch(batch.file, with_local_images(batch.frame, self.image_names), batch.lines, batch.text)

    def _interactions(self, frame: pl.DataFrame) -> pl.DataFrame:
        columns = [
            pl.col("user_id"),
            pl.col("item_id"),
            pl.col("timestamp") / self._release.ticks_per_second,
            pl.col("rating"),
        ]
        if self.has_reviews:
            columns.append(pl.concat_str("summary", "body", separator=" ", ignore_nulls=True).alias("review"))
        return frame.select(columns)


def product_lines(block: Block, parse: Callable[[str], Record], product: Product) -> Parsed:
    """The items of a block of lines. Picklable where `parse` and `product` are functions of a module."""
    found, numbers, refused = converted(block, lambda text: product(parse(text)))
    unreadable = sum(not readable for _, readable in found)
    dropped = Counter({BAD_PRICE: unreadable} if unreadable else {})
    frame = pl.DataFrame([row for row, _ in found], schema=ITEM_SCHEMA, orient="row")
    return Parsed(frame, numbers, refused, dropped)


def with_local_images(frame: pl.DataFrame, names: frozenset[str]) -> pl.DataFrame:
    """The items with `images/<item_id>.jpg` or `.png` as the image where `names` holds it."""
    if not names:
        return frame
    here = pl.Series("image", sorted(names), dtype=pl.String).implode()
    local = [pl.format("images/{}" + suffix, pl.col("item_id")) for suffix in (".jpg", ".png")]
    return frame.with_columns(
        pl.coalesce(*(pl.when(name.is_in(here)).then(name) for name in local), pl.col("image")).alias("image")
    )
