"""Where refused rows go: one JSON line each, with the file, the line, the reason and the row itself.

Nothing a shop's file holds is dropped in silence: every record that a reader takes is counted by `read`, and
ends up kept, a duplicate, dropped by a rule that the user asked for, or here.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Literal

Table = Literal["interactions", "items"]

EXAMPLES = 3
"""So many refused rows of each reason are kept at hand for the report."""
MAX_ROW_CHARS = 500
"""A refused row is written down to this many characters."""


class RefusedRowError(ValueError):
    """A record cannot be read; the message is the reason that goes into the quarantine."""


class Quarantine:
    """An open quarantine file and its counters. Use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self.rows_read: Counter[Table] = Counter()
        """Records taken from the files, by table."""
        self.refused: dict[Table, Counter[str]] = {"interactions": Counter(), "items": Counter()}
        """Refused records by reason, by table."""
        self.dropped: dict[Table, Counter[str]] = {"interactions": Counter(), "items": Counter()}
        """Unreadable values left out of records that were let in, by reason, by table."""
        self.examples: dict[Table, dict[str, list[dict[str, str | int]]]] = {"interactions": {}, "items": {}}
        """The first EXAMPLES refused records of every reason, as they stand in the file, by table."""
        self._file = path.open("w", encoding="utf-8")

    def __enter__(self) -> Quarantine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, table: Table, rows: int) -> None:
        """Count `rows` records taken from a file."""
        self.rows_read[table] += rows

    def refuse(self, table: Table, file: str, line: int, reason: str, row: str) -> None:
        """Write one refused record down. `line` is 1-based: a text file's line, or a Parquet file's row."""
        self.refused[table][reason] += 1
        entry: dict[str, str | int] = {"file": file, "line": line, "reason": reason, "row": row[:MAX_ROW_CHARS]}
        if self.refused[table][reason] <= EXAMPLES:
            self.examples[table].setdefault(reason, []).append(entry)
        self._file.write(json.dumps(entry) + "\n")

    def drop(self, table: Table, reason: str, count: int) -> None:
        """Count values that could not be read, of records that are kept without them."""
        self.dropped[table][reason] += count

    def total(self, table: Table) -> int:
        """Refused records of one table."""
        return self.refused[table].total()
