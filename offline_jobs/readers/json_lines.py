"""Strict JSON, one object a line: whole blocks through Arrow where every line is plain, else line by line.

`parse_slowly` is the reference: Python's json, one line after the other, every refusal with its reason. `parse`
gives the same rows and refusals (a property test holds it to that): it hands a block to Arrow's JSON reader under a
strict schema, and where Arrow objects, or could read the block otherwise than Python does, halves it until only the
neighbourhood of the odd line is left for the reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.json

from offline_jobs.readers.lines import Block
from offline_jobs.readers.quarantine import RefusedRowError
from offline_jobs.readers.records import Parsed, converted
from offline_jobs.readers.values import as_id, as_number, as_text

Record = Mapping[str, Any]
Kind = Literal["id", "number", "text"]

SMALL_BYTES = 1 << 14
"""A block of fewer bytes that Arrow does not read goes to the reference, instead of being halved again."""
INF = re.compile(rb"Inf[,}\]\s]")
"""With `-NaN`, the numbers that Arrow takes and Python does not."""


class Field(NamedTuple):
    """A member of the JSON object that becomes a column."""

    name: str
    kind: Kind


Fields = Mapping[str, Field]
"""Our column -> the member it is read from. Columns are String for ids and texts, Float64 for numbers."""

ARROW: Mapping[Kind, Any] = {"id": pa.string(), "number": pa.float64(), "text": pa.string()}
CONVERT: Mapping[Kind, Callable[[object, str], object]] = {
    "id": as_id,
    "number": as_number,
    "text": lambda value, _: as_text(value),
}


def parse(block: Block, fields: Fields) -> Parsed:
    """The rows of a block, equal to `parse_slowly`."""
    pieces = list(_pieces(block, fields))
    if len(pieces) == 1:
        return pieces[0]
    whole = Parsed(pl.concat([piece.frame for piece in pieces]), [])
    for piece in pieces:
        whole.numbers += piece.numbers
        whole.refused += piece.refused
    return whole


def parse_slowly(block: Block, fields: Fields) -> Parsed:
    """The rows of a block, line by line."""
    converters = [(field.name, CONVERT[field.kind]) for field in fields.values()]

    def row(text: str) -> tuple[object, ...]:
        record = parse_object(text, fields)
        return tuple(convert(record.get(name), name) for name, convert in converters)

    rows, numbers, refused = converted(block, row)
    return Parsed(pl.DataFrame(rows, schema=_schema(fields), orient="row"), numbers, refused)


def parse_object(text: str, fields: Fields | None = None) -> Record:
    """A strict JSON object. Raises RefusedRowError for anything else, however long.

    Nesting too deep for Python's parser is read by Arrow, where the members that matter are `fields`.
    """
    try:
        record = json.loads(text)
    except RecursionError as error:
        deep = _arrow(text.encode("utf-8"), fields) if fields else None
        if deep is None or fields is None or deep.height != 1:
            raise RefusedRowError("not valid JSON") from error
        return dict(zip((field.name for field in fields.values()), deep.row(0), strict=True))
    except ValueError as error:
        raise RefusedRowError("not valid JSON") from error
    if not isinstance(record, dict):
        raise RefusedRowError("not a JSON object")
    return record


def _pieces(block: Block, fields: Fields) -> list[Parsed]:
    data = block.data
    frame = _arrow(data, fields)
    if frame is not None:
        return [Parsed(frame, list(range(block.first, block.first + frame.height)))]
    middle = data.find(b"\n", len(data) // 2)
    if len(data) < SMALL_BYTES or middle < 0:
        return [parse_slowly(block, fields)]
    second = Block(block.first + data.count(b"\n", 0, middle) + 1, data[middle + 1 :])
    return _pieces(Block(block.first, data[:middle]), fields) + _pieces(second, fields)


def _arrow(data: bytes, fields: Fields) -> pl.DataFrame | None:
    """One row a line, or None where Arrow does not read every line as one object with members of the right kinds.

    Every line must begin with a brace and end with one: then no object can span lines, for between two of them
    stands a line end alone, which JSON allows nowhere between `}` and `{` inside an object.
    """
    ends = data.count(b"\n")
    if not data.startswith(b"{") or not data.endswith(b"}") or data.count(b"}\n{") != ends:
        return None
    if b"-NaN" in data or INF.search(data):
        return None
    schema = pa.schema([(field.name, ARROW[field.kind]) for field in fields.values()])
    try:
        table = pyarrow.json.read_json(
            pa.BufferReader(data),
            pyarrow.json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
        if not data.isascii():
            table.validate(full=True)  # text that is not UTF-8
            data.decode("utf-8")
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    if table.num_rows != ends + 1:
        return None
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.select(pl.col(field.name).alias(name) for name, field in fields.items())


def _schema(fields: Fields) -> dict[str, type[pl.DataType]]:
    return {name: pl.Float64 if field.kind == "number" else pl.String for name, field in fields.items()}
