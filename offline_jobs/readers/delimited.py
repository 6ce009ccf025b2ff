"""CSV and TSV with a header line, in batches of text columns, whatever the rows hold."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import polars as pl

from offline_jobs.readers.lines import Line, read_lines
from offline_jobs.readers.quarantine import Quarantine, Table
from offline_jobs.readers.raw import BatchBuilder, RawBatch
from service.errors import DataError

HEADER_BYTES = 1 << 20
MAX_ROW_LINES = 200
"""A row may span so many lines, by a quoted cell with line ends in it."""


def delimited_header(path: Path, delimiter: str) -> list[str]:
    """The column names as they are written. Raises DataError where there is no readable header."""
    line = next(read_lines(path, HEADER_BYTES), None)
    if line is None or line.problem:
        problem = line.problem if line else "the file is empty"
        raise DataError(f"no header line: {problem}", where=f"{path}:1", todo="The first line names the columns")
    try:
        return next(csv.reader([line.text], delimiter=delimiter, quoting=_quoting(delimiter)))
    except csv.Error as error:
        raise DataError(f"no header line: {error}", where=f"{path}:1", todo="Write the file again") from error


def delimited_batches(
    path: Path, delimiter: str, columns: list[str], table: Table, quarantine: Quarantine, max_line_bytes: int
) -> Iterator[RawBatch]:
    """Batches of the named columns, all text, empty cells null. Rows that break the table are quarantined.

    A row with more or fewer cells than the header is refused. A quoted cell may span lines; `lines` is the
    row's first one.
    """
    header = delimited_header(path, delimiter)
    where = [header.index(name) for name in columns]
    builder = BatchBuilder(table, path.name, dict.fromkeys(columns, pl.String))
    for line, cells in _rows(path, delimiter, len(header), table, quarantine, max_line_bytes):
        if builder.add(line.number, line.text, tuple(cells[i] or None for i in where)):
            yield builder.take()
    if len(builder):
        yield builder.take()


def _rows(
    path: Path, delimiter: str, width: int, table: Table, quarantine: Quarantine, max_line_bytes: int
) -> Iterator[tuple[Line, list[str]]]:
    """(first line, cells) of every row after the header with `width` cells; the others go to the quarantine.

    Of a refused row that spans lines only the first line is refused and the rest is read again: a quote that was
    never closed costs its own row, not all that it swallowed.
    """
    lines = _Lines(path, table, quarantine, max_line_bytes)
    next(lines, None)  # the header
    while True:
        lines.taken.clear()
        reader = csv.reader(lines, delimiter=delimiter, quoting=_quoting(delimiter))
        try:
            cells = next(reader, None)
            reason = "" if cells and len(cells) == width else f"{len(cells or [])} cells where the header has {width}"
        except (csv.Error, _RunawayQuoteError) as error:
            cells, reason = [], f"not a readable row ({error})"
        if cells is None:
            return
        quarantine.read(table, 1)
        first = lines.taken[0]
        if reason:
            quarantine.refuse(table, path.name, first.number, reason, first.text)
            lines.again.extendleft(reversed(lines.taken[1:]))
        else:
            yield first, cells


class _RunawayQuoteError(Exception):
    """A quoted cell goes on for more lines than any cell would."""


class _Lines:
    """The readable lines of a file for the csv module; the others go to the quarantine at once."""

    def __init__(self, path: Path, table: Table, quarantine: Quarantine, max_line_bytes: int) -> None:
        self.taken: list[Line] = []
        """Lines of the row that is being read."""
        self.again: deque[Line] = deque()
        """Lines to be read once more."""
        self._path, self._table, self._quarantine = path, table, quarantine
        self._lines = read_lines(path, max_line_bytes)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if len(self.taken) == MAX_ROW_LINES:
            raise _RunawayQuoteError(f"a quote is not closed within {MAX_ROW_LINES} lines")
        line = self.again.popleft() if self.again else self._next_readable()
        self.taken.append(line)
        return line.text + "\n"

    def _next_readable(self) -> Line:
        for line in self._lines:
            if not line.problem:
                return line
            self._quarantine.read(self._table, 1)
            self._quarantine.refuse(self._table, self._path.name, line.number, line.problem, line.text)
        raise StopIteration


def _quoting(delimiter: str) -> Literal[0, 3]:
    """Tab-separated files of this family are never quoted."""
    return csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
