"""The event log: one line of JSON for every answer given. `docs/EVENTS.md` describes the lines."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from service.domain import Impression
from service.errors import InputError
from service.logs import RateLimit

log = logging.getLogger(__name__)


class EventLog:
    """Appends to `<directory>/impressions-<UTC day>-<process id>.jsonl`.

    A line is one `write` to a descriptor opened for appending: microseconds, so it happens on the event loop. What
    cannot be written is counted and lost, and the answer goes out all the same.
    """

    def __init__(self, directory: Path, count: Callable[[str], None]) -> None:
        """`count` is told `written` or `failed` for every line. Raises InputError where the folder cannot be made."""
        self._directory = directory
        self._count = count
        self._limit = RateLimit()
        self._day = ""
        self._file: int | None = None
        self._torn = False
        self.state = "ok"
        """`ok`, or `failing` from a line that could not be written to the next one that could."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the folder of the event log cannot be made ({error.strerror})",
                where=str(directory),
                todo="Set PLOTPOINTE_EVENTS_DIR to a folder that this user may write to",
            ) from error

    def write(self, impression: Impression) -> None:
        """Append one line. Never raises for a full disk, a vanished folder or a text that JSON cannot hold."""
        try:
            line = orjson.dumps(impression, option=orjson.OPT_APPEND_NEWLINE)
            self._append(line, time.strftime("%Y%m%d", time.gmtime(impression.timestamp)))
        except (OSError, orjson.JSONEncodeError) as error:
            self.state = "failing"
            self._count("failed")
            if self._limit.allows():
                log.error("the event log lost a line: %s", error, extra={"request_id": impression.request_id})
        else:
            self.state = "ok"
            self._count("written")

    def close(self) -> None:
        """Close the file of the day."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _append(self, line: bytes, day: str) -> None:
        if self._file is None or day != self._day:
            self.close()
            path = self._directory / f"impressions-{day}-{os.getpid()}.jsonl"
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            self._day = day
        if self._torn:  # end the line that a full disk cut short, so that it spoils no other
            line = b"\n" + line
        written = os.write(self._file, line)
        if written < len(line):
            self._torn = True
            raise OSError(f"only {written} of {len(line)} bytes could be written")
        self._torn = False
