"""CSV and TSV with a header line, in batches of text columns, whatever the rows hold."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import polars as pl

from offline_jobs.readers.lines import read_lines
from offline_jobs.readers.quarantine import Quarantine, Table
from offline_jobs.readers.raw import BatchBuilder, RawBatch
from service.errors import DataError

HEADER_BYTES = 1 << 20


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
    row's last one.
    """
    header = delimited_header(path, delimiter)
    where = [header.index(name) for name in columns]
    builder = BatchBuilder(table, path.name, dict.fromkeys(columns, pl.String))
    for line, text, cells in _rows(path, delimiter, table, quarantine, max_line_bytes):
        if len(cells) != len(header):
            reason = f"{len(cells)} cells where the header has {len(header)}"
            quarantine.refuse(table, path.name, line, reason, text)
        elif builder.add(line, text, tuple(cells[i] or None for i in where)):
            yield builder.take()
    if len(builder):
        yield builder.take()


def _rows(
    path: Path, delimiter: str, table: Table, quarantine: Quarantine, max_line_bytes: int
) -> Iterator[tuple[int, str, list[str]]]:
    """(last line, text, cells) of every row after the header that the csv module can read."""
    lines = _Lines(path, table, quarantine, max_line_bytes)
    reader = csv.reader(lines, delimiter=delimiter, quoting=_quoting(delimiter))
    next(reader, None)  # the header
    while True:
        lines.text = ""
        try:
            cells = next(reader, None)
        except csv.Error as error:
            quarantine.read(table, 1)
            quarantine.refuse(table, path.name, lines.number, f"not a readable row ({error})", lines.text)
            continue
        if cells is None:
            return
        quarantine.read(table, 1)
        yield lines.number, lines.text, cells


class _Lines:
    """The readable lines of a file for the csv module; the others go to the quarantine at once."""

    def __init__(self, path: Path, table: Table, quarantine: Quarantine, max_line_bytes: int) -> None:
        self.number = 0
        self.text = ""
        self._path, self._table, self._quarantine = path, table, quarantine
        self._lines = read_lines(path, max_line_bytes)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        for line in self._lines:
            if not line.problem:
                self.number = line.number
                self.text = f"{self.text}\n{line.text}" if self.text else line.text
                return line.text + "\n"
            self._quarantine.read(self._table, 1)
            self._quarantine.refuse(self._table, self._path.name, line.number, line.problem, line.text)
        raise StopIteration


def _quoting(delimiter: str) -> Literal[0, 3]:
    """Tab-separated files of this family are never quoted."""
    return csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
