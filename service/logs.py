"""Structured logs: one JSON object a line on stderr, with the field names that Cloud Logging knows.

A shopper's id, a query string or a secret never goes into a message; `request_id` finds the rest in the event log.
"""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime

import orjson


class JsonFormatter(logging.Formatter):
    """severity, time (RFC 3339), message, logger, and request_id where it was given by `extra=`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        entry: dict[str, str] = {
            "severity": record.levelname,
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "message": record.getMessage(),
            "logger": record.name,
        }
        if request_id := getattr(record, "request_id", ""):
            entry["request_id"] = str(request_id)
        if record.exc_info:
            entry["stack_trace"] = self.formatException(record.exc_info)
        return orjson.dumps(entry).decode()


def configure(level: str) -> None:
    """Send every log of this process to stderr as JSON, from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)


class RateLimit:
    """Lets one message through in `seconds`, so that a fault on every request does not flood the log."""

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds = seconds
        self._next = 0.0

    def allows(self) -> bool:
        """Whether a message may be logged now; if so, the next has to wait."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True
