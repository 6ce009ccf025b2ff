"""The event log: one line of JSON for every answer given and every feedback event; see `docs/EVENTS.md`."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson

from service.domain import FeedbackEvent, Impression
from service.errors import InputError, UnavailableError
from service.logs import RateLimit

log = logging.getLogger(__name__)


class EventLog:
    """Appends to `<directory>/impressions-<UTC day>-<process id>.jsonl` and `feedback-<UTC day>-<process id>.jsonl`.

    A line is one `write` to a descriptor opened for appending: microseconds, so it happens on the event loop. An
    impression that cannot be written is counted and lost, and the answer goes out all the same; feedback that cannot be
    written is refused, so that the caller sends it again.
    """

    def __init__(self, directory: Path, count: Callable[[str], None]) -> None:
        """`count` is told `written` or `failed` for every impression. Raises InputError for a folder that cannot be."""
        self._directory = directory
        self._count = count
        self._limit = RateLimit()
        self._impressions = _DailyFile(directory, "impressions")
        self._feedback = _DailyFile(directory, "feedback")
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
            self._impressions.append(orjson.dumps(impression, option=orjson.OPT_APPEND_NEWLINE), impression.timestamp)
        except (OSError, orjson.JSONEncodeError) as error:
            self._failed(error, impression.request_id)
            self._count("failed")
        else:
            self.state = "ok"
            self._count("written")

    def write_feedback(self, events: Sequence[FeedbackEvent], *, request_id: str, now: float) -> None:
        """Append one line an event, all of a call in one `write`. Raises UnavailableError where that fails."""
        lines = b"".join(
            orjson.dumps(
                {
                    "event_id": event.event_id,
                    "user_id": event.user_id,
                    "item_id": event.item_id,
                    "kind": event.kind,
                    "timestamp": event.timestamp,
                    "recommendation_id": event.recommendation_id,
                    "received_at": now,
                    "request_id": request_id,
                },
                option=orjson.OPT_APPEND_NEWLINE,
            )
            for event in events
        )
        try:
            self._feedback.append(lines, now)
        except OSError as error:
            self._failed(error, request_id)
            raise UnavailableError(
                "the events could not be written down, and none of them counts", todo="Send them again later"
            ) from error
        self.state = "ok"

    def close(self) -> None:
        """Close the files of the day."""
        self._impressions.close()
        self._feedback.close()

    def _failed(self, error: Exception, request_id: str) -> None:
        self.state = "failing"
        if self._limit.allows():
            log.error("the event log lost a line: %s", error, extra={"request_id": request_id})


class _DailyFile:
    """One file a day and process, opened for appending."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._day = ""
        self._file: int | None = None
        self._torn = False

    def append(self, lines: bytes, timestamp: float) -> None:
        """Append whole lines to the file of the UTC day of `timestamp`. Raises OSError where not all were written."""
        day = time.strftime("%Y%m%d", time.gmtime(timestamp))
        if self._file is None or day != self._day:
            self.close()
            path = self._directory / f"{self._name}-{day}-{os.getpid()}.jsonl"
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            self._day = day
        if self._torn:  # end the line that a full disk cut short, so that it spoils no other
            lines = b"\n" + lines
        written = os.write(self._file, lines)
        if written < len(lines):
            self._torn = True
            raise OSError(f"only {written} of {len(lines)} bytes could be written")
        self._torn = False

    def close(self) -> None:
        """Close the file, if one is open."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
