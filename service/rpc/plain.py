"""Protobuf messages -> the plain values that `service.validation` reads: fields that are there, by name."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from google.protobuf.message import Message

_SCALARS = (str, int, float, bytes)


def plain(message: Message) -> dict[str, Any]:
    """The fields that the message holds. One without presence that has its default counts as absent."""
    return {field.name: _value(value) for field, value in message.ListFields()}


def _value(value: Any) -> Any:
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, Message):
        return plain(value)
    if isinstance(value, MutableMapping):
        return dict(value)
    return [plain(each) if isinstance(each, Message) else each for each in value]
