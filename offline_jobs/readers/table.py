"""A shop's own tables, CSV, TSV or Parquet, read through a column mapping in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from offline_jobs.readers.delimited import delimited_batches, delimited_header
from offline_jobs.readers.images import list_images
from offline_jobs.readers.mapping import COLUMN, InteractionMapping, ItemMapping, Mapping
from offline_jobs.readers.parquet import parquet_batches, parquet_header
from offline_jobs.readers.quarantine import Quarantine, Table
from offline_jobs.readers.raw import ATTRIBUTE, ITEM_SCHEMA, TEXT_FIELDS, RawBatch, attribute_columns
from offline_jobs.readers.times import unix_seconds
from service.errors import DataError

DELIMITERS = {".csv": ",", ".tsv": "\t", ".inter": "\t", ".item": "\t"}


class TableShop:
    """A folder with the tables that a mapping describes; a `Shop`."""

    def __init__(self, data: Path, mapping: Mapping, max_line_bytes: int, name: str, *, reviews: bool) -> None:
        if not reviews:
            mapping = mapping.model_copy(
                update={"interactions": mapping.interactions.model_copy(update={"review": ()})}
            )
        self.format = name
        self._mapping = mapping
        self._max_line_bytes = max_line_bytes
        self._interactions = _present(data, mapping.interactions.file)
        self.files = {mapping.interactions.file: self._interactions}
        ids = (mapping.interactions.user_id, mapping.interactions.item_id)
        _check_columns(self._interactions, mapping.interactions.columns(), ids)
        if mapping.items is not None:
            self._items = _present(data, mapping.items.file)
            self.files[mapping.items.file] = self._items
            _check_columns(self._items, mapping.items.columns(), (mapping.items.item_id,))
        self.has_time = mapping.interactions.timestamp is not None
        self.has_label = mapping.interactions.label is not None
        self.has_rating = mapping.interactions.rating is not None
        self.has_reviews = bool(mapping.interactions.review)
        self.image_names: frozenset[str] = frozenset()
        pattern = mapping.items.image if mapping.items is not None else None
        if pattern and not _is_url(pattern):
            self.image_names = list_images(data, pattern)

    def interactions(self, quarantine: Quarantine) -> Iterator[RawBatch]:
        """One row a purchase."""
        mapping = self._mapping.interactions
        for batch in self._batches(self._interactions, mapping.columns(), "interactions", quarantine):
            yield RawBatch(batch.file, map_interactions(batch.frame, mapping), batch.lines, batch.text)

    def items(self, quarantine: Quarantine) -> Iterator[RawBatch]:
        """One row an item; none where the mapping has no items."""
        mapping = self._mapping.items
        if mapping is None:
            return
        for batch in self._batches(self._items, mapping.columns(), "items", quarantine):
            frame = map_items(batch.frame, mapping, self.image_names)
            yield RawBatch(batch.file, frame, batch.lines, batch.text)

    def _batches(self, path: Path, columns: list[str], table: Table, quarantine: Quarantine) -> Iterator[RawBatch]:
        delimiter = _delimiter(path)
        if delimiter is None:
            return parquet_batches(path, columns, table, quarantine)
        return delimited_batches(path, delimiter, columns, table, quarantine, self._max_line_bytes)


def map_interactions(frame: pl.DataFrame, mapping: InteractionMapping) -> pl.DataFrame:
    """The mapped columns in the schema of raw interactions."""
    time = (
        unix_seconds(frame, mapping.timestamp, mapping.timestamp_format)
        if mapping.timestamp
        else pl.lit(None, pl.Float64)
    )
    wanted = [
        pl.col(mapping.user_id).cast(pl.String).alias("user_id"),
        pl.col(mapping.item_id).cast(pl.String).alias("item_id"),
        time.alias("timestamp"),
    ]
    if mapping.label:
        wanted.append(pl.col(mapping.label).cast(pl.Float64, strict=False).alias("label"))
    if mapping.rating:
        wanted.append(_number(frame, mapping.rating).alias("rating"))
    if mapping.review:
        wanted.append(_text(mapping.review_parts()).alias("review"))
    return frame.select(wanted)


def map_items(frame: pl.DataFrame, mapping: ItemMapping, images: frozenset[str]) -> pl.DataFrame:
    """The mapped columns in the schema of raw items, and attributes; a picture that is not there is null."""
    wanted = [pl.col(mapping.item_id).cast(pl.String).alias("item_id")]
    for field in TEXT_FIELDS:
        wanted.append(_text(mapping.parts(field)).alias(field))
    wanted.append(_number(frame, mapping.price).alias("price"))
    image = _render(mapping.image) if mapping.image else pl.lit(None, pl.String)
    attributes = [_text(parts).alias(ATTRIBUTE + name) for name, parts in mapping.attribute_parts().items()]
    out = frame.select(*wanted, image.alias("image"), *attributes)
    if mapping.image and not _is_url(mapping.image):
        names = pl.Series("image", sorted(images), dtype=pl.String)
        is_there = pl.col("image").is_in(names.implode()) | pl.col("image").str.contains(r"^https?://")
        out = out.with_columns(pl.when(is_there).then(pl.col("image")).alias("image"))
    return out.select(*ITEM_SCHEMA, *attribute_columns(out.columns))


def _text(parts: tuple[str, ...]) -> pl.Expr:
    rendered = [_render(part) for part in parts]
    return pl.concat_str(rendered, separator=" ", ignore_nulls=True) if rendered else pl.lit(None, pl.String)


def _render(template: str) -> pl.Expr:
    """A template as an expression: null where one of its columns is null or blank."""
    pieces: list[pl.Expr] = []
    for index, piece in enumerate(COLUMN.split(template)):
        if index % 2:
            value = pl.col(piece).cast(pl.String)
            pieces.append(pl.when(value.str.strip_chars() != "").then(value))
        elif piece:
            pieces.append(pl.lit(piece))
    return pl.concat_str(pieces)


def _number(frame: pl.DataFrame, name: str | None) -> pl.Expr:
    """A column as float64; a value that is there but no number becomes NaN, which validation refuses."""
    if name is None:
        return pl.lit(None, pl.Float64)
    value = pl.col(name)
    if frame.schema[name] == pl.String:
        value = value.str.strip_chars()
    number = value.cast(pl.Float64, strict=False)
    return pl.when(value.is_not_null() & number.is_null()).then(pl.lit(float("nan"))).otherwise(number)


def _is_url(pattern: str) -> bool:
    """A pattern that starts with a column or a scheme names no file beside the data."""
    return pattern.startswith(("{", "http://", "https://"))


def _present(data: Path, file: str) -> Path:
    path = data / file
    if not path.resolve().is_relative_to(data.resolve()):
        raise DataError("the mapping leaves the shop's folder", where=file, todo="Name files inside the folder")
    if not path.is_file():
        raise DataError("no such file", where=str(path), todo="Check `file` in the column mapping")
    return path


def _delimiter(path: Path) -> str | None:
    """The delimiter of a text table, None for Parquet. Raises DataError for any other suffix."""
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix == ".parquet" and path.suffix != ".gz":
        return None
    if suffix in DELIMITERS:
        return DELIMITERS[suffix]
    raise DataError(
        f"unknown kind of table '{path.name}'", where=str(path), todo="Use .csv, .tsv (each also .gz) or .parquet"
    )


def _check_columns(path: Path, needed: list[str], ids: tuple[str, ...]) -> None:
    delimiter = _delimiter(path)
    found = parquet_header(path, needed, ids) if delimiter is None else delimited_header(path, delimiter)
    missing = [name for name in needed if name not in found]
    twice = [name for name in needed if found.count(name) > 1]
    if missing or twice:
        what = f"missing column {_quoted(missing)}" if missing else f"column {_quoted(twice)} is there twice"
        raise DataError(
            f"{what}; found {_quoted(found[:40])}",
            where=str(path),
            todo="Correct the file, or the names in the column mapping",
        )


def _quoted(names: list[str]) -> str:
    return ", ".join(map(repr, names))
