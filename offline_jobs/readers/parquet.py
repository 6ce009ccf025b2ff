"""Parquet tables in batches; only the needed columns are read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from offline_jobs.readers.quarantine import Quarantine, Table
from offline_jobs.readers.raw import BATCH_ROWS, RawBatch
from service.errors import DataError


def parquet_header(path: Path, needed: list[str], ids: tuple[str, ...]) -> list[str]:
    """The column names. Raises DataError where the file is damaged or a needed column is of a kind that is not read.

    The columns `ids` must be text or whole numbers: as floats, ids would silently become other ids.
    """
    with _open(path) as file:
        schema = file.schema_arrow
    for name in needed:
        if schema.names.count(name) == 1 and not _is_read(schema.field(name).type, name in ids):
            kinds = "text or whole numbers" if name in ids else "text, numbers or times"
            raise DataError(
                f"column '{name}' is {schema.field(name).type}", where=str(path), todo=f"It must hold {kinds}"
            )
    return list(schema.names)


def parquet_batches(path: Path, columns: list[str], table: Table, quarantine: Quarantine) -> Iterator[RawBatch]:
    """Batches of the named columns; `lines` counts rows from 1. Raises DataError where the file is damaged."""
    start = 1
    with _open(path) as file:
        batches = file.iter_batches(batch_size=BATCH_ROWS, columns=columns)
        while (frame := _next_frame(batches, path, start)) is not None:
            quarantine.read(table, frame.height)
            yield _raw(path.name, frame, start)
            start += frame.height


def _next_frame(batches: Any, path: Path, start: int) -> pl.DataFrame | None:
    try:
        batch = next(batches, None)
        if batch is None:
            return None
        batch.validate(full=True)  # text that is not UTF-8 is found here, not deep inside a later stage
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"damaged Parquet ({error})", where=f"{path}, after row {start - 1}", todo="Write the file again"
        ) from error
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _raw(file: str, frame: pl.DataFrame, start: int) -> RawBatch:
    def text(row: int) -> str:
        return json.dumps(frame.row(row, named=True), default=str)

    return RawBatch(file, frame, lambda row: start + row, text)


def _open(path: Path) -> Any:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a whole Parquet file ({error})", where=str(path), todo="Write it again") from error


def _is_read(kind: Any, is_id: bool) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = [pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_null]
    if not is_id:
        checks += [pa.types.is_floating, pa.types.is_decimal, pa.types.is_date, pa.types.is_timestamp]
    return any(check(kind) for check in checks)
