"""An answer as bytes that prove to be what was written under their key, and back."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from service.domain import MAX_ID_BYTES, Answer, Reason, Strategy

FORMAT = 1
"""Raised with every change to what is written. A value of another format is a miss, in both directions."""
MOST_VALUE_BYTES = 262_144
"""No longer value is written, and none is read beyond it."""
MOST_LIFE_MS = 2 * 86_400_000
"""No value is kept for longer."""
MOST_KIND_CHARACTERS = 64

FIELDS = {"format", "key", "life_ms", "strategy", "rows", "scores", "reasons"}


class LiveRows(Protocol):
    """The items that came after publishing: their rows are this process's own, their ids everyone's."""

    def item_id(self, row: int) -> str | None:
        """The item at a row of this process, None for no live item."""
        ...

    def row(self, item_id: str) -> int | None:
        """Where this process has an item, None where it does not have it (yet)."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """What a value says."""

    answer: Answer
    life_ms: int
    """For how long the tier was told to keep it."""


class AnswerCodec:
    """Writes and reads the values of the shared tier.

    A connection can hand over the reply to somebody else's command (redis-py issue 2665), and a cache can hold what
    nobody here wrote: so a value carries its key, and everything in it is checked against its type and bounds.
    """

    def __init__(self, num_items: int, live: LiveRows | None = None) -> None:
        """Rows below `num_items` are the bundle's, the same in every process; others go by `live`.

        `live` may be a weak proxy: once what it stands for is gone, there are no live items.
        """
        self._num_items = num_items
        self._live = live

    def encode(self, key: str, answer: Answer, life_ms: int) -> bytes | None:
        """An answer as JSON, or None where it cannot be shared: it is too long, or shows an item that has just gone.

        Degradations are not written: what is degraded is not kept.
        """
        rows = [row if row < self._num_items else self._live_id(row) for row in answer.rows]
        if None in rows:
            return None
        value = {
            "format": FORMAT,
            "key": key,
            "life_ms": life_ms,
            "strategy": answer.strategy,
            "rows": rows,
            "scores": answer.scores,
            "reasons": [[(r.kind, r.weight, r.item_id, r.effect) for r in row] for row in answer.reasons],
        }
        data = orjson.dumps(value)
        return data if len(data) <= MOST_VALUE_BYTES else None

    def decode(self, key: str, data: bytes) -> Stored | None:
        """What `encode(key, ...)` wrote, or None for anything else, whoever wrote it."""
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            return None
        if type(value) is not dict or value.keys() != FIELDS or value["format"] != FORMAT or value["key"] != key:
            return None
        life_ms = value["life_ms"]
        if type(life_ms) is not int or not 0 < life_ms <= MOST_LIFE_MS:
            return None
        rows, scores, reasons = self._rows(value["rows"]), value["scores"], value["reasons"]
        if rows is None or not _are_scores(scores, len(rows)) or not _are_reasons(reasons, len(rows)):
            return None
        try:
            strategy = Strategy(value["strategy"])
        except ValueError:
            return None
        read = tuple(tuple(Reason(sys.intern(kind), *others) for kind, *others in row) for row in reasons)
        return Stored(Answer(rows, tuple(scores), strategy, reasons=read), life_ms)

    def _rows(self, value: Any) -> tuple[int, ...] | None:
        """Distinct rows of this process, or None where any is not."""
        if type(value) is not list:
            return None
        published = [row for row in value if type(row) is int]
        if published and not 0 <= min(published) <= max(published) < self._num_items:
            return None
        rows = published
        if len(published) < len(value):
            found = [row if type(row) is int else self._live_row(row) for row in value]
            rows = [row for row in found if row is not None]
        return tuple(rows) if len(rows) == len(value) == len(set(rows)) else None

    def _live_id(self, row: int) -> str | None:
        try:
            return self._live.item_id(row) if self._live is not None else None
        except ReferenceError:
            return None

    def _live_row(self, item_id: Any) -> int | None:
        try:
            return self._live.row(item_id) if self._live is not None and type(item_id) is str else None
        except ReferenceError:
            return None


def _are_scores(value: Any, count: int) -> bool:
    return type(value) is list and len(value) == count and set(map(type, value)) <= {float} and _finite(value)


def _are_reasons(value: Any, count: int) -> bool:
    """Whether it is none at all, or one list of [kind, weight, item id, effect] a row."""
    return (
        type(value) is list
        and len(value) in (0, count)
        and all(type(row) is list and all(_is_reason(reason) for reason in row) for row in value)
    )


def _is_reason(value: Any) -> bool:
    if type(value) is not list or len(value) != 4:
        return False
    kind, weight, item_id, effect = value
    return (
        type(kind) is str
        and len(kind) <= MOST_KIND_CHARACTERS
        and type(weight) is type(effect) is float
        and _finite((weight, effect))
        and type(item_id) is str
        and len(item_id.encode()) <= MAX_ID_BYTES
    )


def _finite(numbers: Iterable[float]) -> bool:
    return all(map(math.isfinite, numbers))
