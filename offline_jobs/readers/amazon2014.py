"""Amazon reviews 2014 (McAuley): `reviews*.json[.gz]`, strict JSON lines, and `meta*.json[.gz]`, Python literals.

A picture is `images/<asin>.jpg` or `.png` where that file is there, else the `imUrl` as it is (not fetched here).
`related` and `salesRank` are never read: they leak purchases of the test period.
"""

from __future__ import annotations

import ast
import html
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from offline_jobs.readers.images import list_images
from offline_jobs.readers.lines import read_lines
from offline_jobs.readers.quarantine import Quarantine, RefusedRowError, Table
from offline_jobs.readers.raw import (
    INTERACTION_SCHEMA,
    ITEM_SCHEMA,
    BatchBuilder,
    RawBatch,
    as_id,
    as_number,
    as_text,
)
from service.errors import DataError

FORMAT = "amazon-2014"
REVIEWS = ("reviews*.json", "reviews*.json.gz")
METADATA = ("meta*.json", "meta*.json.gz")
TAG = re.compile(r"<[^<>]{1,200}>")

Record = Mapping[str, Any]


class AmazonShop:
    """A folder of Amazon reviews 2014; a `Shop`."""

    format = FORMAT
    has_time = True
    has_label = False

    def __init__(self, data: Path, max_line_bytes: int) -> None:
        self._reviews = find_files(data, REVIEWS)
        self._metadata = find_files(data, METADATA)
        for kind, found in (("reviews", self._reviews), ("meta", self._metadata)):
            if not found:
                raise DataError(
                    f"no {kind}*.json or {kind}*.json.gz",
                    where=str(data),
                    todo=f"The format '{FORMAT}' needs reviews*.json[.gz] and meta*.json[.gz] in that folder",
                )
        self.files = {path.name: path for path in (*self._reviews, *self._metadata)}
        self.image_names = list_images(data, "images/{item_id}.jpg")
        self._max_line_bytes = max_line_bytes

    def interactions(self, quarantine: Quarantine) -> Iterator[RawBatch]:
        """One row a review; the rating is not used, buying is what counts."""
        for path in self._reviews:
            builder = BatchBuilder("interactions", path.name, INTERACTION_SCHEMA)
            yield from read_records(path, builder, quarantine, self._max_line_bytes, parse_json, _review)

    def items(self, quarantine: Quarantine) -> Iterator[RawBatch]:
        """One row a product."""
        for path in self._metadata:
            builder = BatchBuilder("items", path.name, ITEM_SCHEMA)
            yield from read_records(path, builder, quarantine, self._max_line_bytes, parse_literal, self._product)

    def _product(self, record: Record) -> tuple[object, ...]:
        item_id = as_id(record.get("asin"), "asin")
        return (
            item_id,
            plain_text(record.get("title")),
            plain_text(record.get("description")),
            plain_text(record.get("brand")),
            leaf_category(record.get("categories")),
            as_number(record.get("price"), "price"),
            self._image(item_id, record.get("imUrl")),
        )

    def _image(self, item_id: str | None, url: object) -> str | None:
        for suffix in (".jpg", ".png"):
            name = f"images/{item_id}{suffix}"
            if name in self.image_names:
                return name
        return as_text(url)


def _review(record: Record) -> tuple[object, ...]:
    return (
        as_id(record.get("reviewerID"), "reviewerID"),
        as_id(record.get("asin"), "asin"),
        as_number(record.get("unixReviewTime"), "unixReviewTime"),
    )


def read_records(
    path: Path,
    builder: BatchBuilder,
    quarantine: Quarantine,
    max_line_bytes: int,
    parse: Callable[[str], Record],
    convert: Callable[[Record], tuple[object, ...]],
) -> Iterator[RawBatch]:
    """Batches of a file with one record a line; a line that cannot be read goes to the quarantine."""
    table: Table = builder.table
    for line in read_lines(path, max_line_bytes):
        quarantine.read(table, 1)
        if line.problem:
            quarantine.refuse(table, path.name, line.number, line.problem, line.text)
            continue
        try:
            row = convert(parse(line.text))
        except RefusedRowError as error:
            quarantine.refuse(table, path.name, line.number, str(error), line.text)
            continue
        if builder.add(line.number, line.text, row):
            yield builder.take()
    if len(builder):
        yield builder.take()


def parse_json(text: str) -> Record:
    """A strict JSON object. Raises RefusedRowError for anything else, however deep or long."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefusedRowError("not valid JSON") from error
    if not isinstance(record, dict):
        raise RefusedRowError("not a JSON object")
    return record


def parse_literal(text: str) -> Record:
    """A Python literal dictionary, as the metadata of 2014 is, or else a JSON object."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an escape such as \d inside a text is no concern of ours
            record = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        record = None
    if isinstance(record, dict):
        return record
    try:
        return parse_json(text)
    except RefusedRowError as error:
        raise RefusedRowError("neither a Python literal nor a JSON object") from error


def plain_text(value: object) -> str | None:
    """A text with its HTML entities and tags taken away."""
    text = as_text(value)
    if text is None or not ("&" in text or "<" in text):
        return text
    return as_text(html.unescape(TAG.sub(" ", text)))


def leaf_category(value: object) -> str | None:
    """The most special name of the first path of `categories`, a list of paths."""
    if isinstance(value, list) and value:
        first = value[0]
        return plain_text(first[-1] if isinstance(first, list) and first else first)
    return plain_text(value)


def find_files(data: Path, patterns: tuple[str, ...]) -> tuple[Path, ...]:
    """The files of `data` that match one of the patterns, in the order of their names."""
    return tuple(sorted(path for pattern in patterns for path in data.glob(pattern) if path.is_file()))
