"""Readers of plain values: each takes one value to what the domain wants, or notes what is wrong with it.

A reader is called with the value, its path in the request and the faults so far; after a fault what it returns is of no
use, for `Faults.check` raises before anyone sees it. A shape is a reader of an object: a table of its fields' readers.
Absent fields cost nothing and stay absent, so that the defaults stand in one place, the domain.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from service.validation.violations import Faults

Reader = Callable[[Any, str, Faults], Any]
Word = TypeVar("Word", bound=Enum)
Value = TypeVar("Value")

ROOT = "body"
"""The path of a request as a whole."""
MISSING = "must be given and not be empty"
"""Said of what is absent and of what is empty alike: a message of protobuf cannot tell the two apart."""


@dataclass(frozen=True, slots=True)
class Shape:
    """An object: its fields' readers by name, and those that must be there."""

    fields: Mapping[str, Reader]
    required: tuple[str, ...] = ()

    def __call__(self, value: object, path: str, faults: Faults) -> dict[str, Any]:
        """The fields that are there, read. A field that is null counts as absent; an unknown one is a fault."""
        read: dict[str, Any] = {}
        if not isinstance(value, dict):
            faults.add(path or ROOT, "must be an object")
            return read
        prefix = f"{path}." if path else ""
        for name, entry in value.items():
            reader = self.fields.get(name)
            if reader is None:
                self._unknown(name, prefix, faults)
            elif entry is not None:
                read[name] = reader(entry, prefix + name, faults)
        for name in self.required:
            if name not in read:
                faults.add(prefix + name, MISSING)
        return read

    def _unknown(self, name: str, prefix: str, faults: Faults) -> None:
        short = str(name)[:64]
        near = [] if faults.full else difflib.get_close_matches(short, self.fields, n=1)
        meant = f"is {near[0]} meant?" if near else f"known are {', '.join(self.fields)}"
        faults.add_sentence(prefix + short, f"there is no field {short!r}; {meant}")


def whole(least: int, most: int) -> Reader:
    """A whole number; digits in a query string are made a number before."""

    def read(value: object, path: str, faults: Faults) -> int:
        if type(value) is int and least <= value <= most:
            return value
        faults.add(path, f"must be a whole number from {least} to {most}")
        return least

    return read


def number(least: float, most: float) -> Reader:
    """A number, with or without decimals; never NaN."""

    def read(value: object, path: str, faults: Faults) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most:
            return float(value)
        faults.add(path, f"must be a number from {least:.15g} to {most:.15g}")
        return least

    return read


def flag(value: object, path: str, faults: Faults) -> bool:
    """True or false."""
    if isinstance(value, bool):
        return value
    faults.add(path, "must be true or false")
    return False


def text(most_bytes: int, *, empty: bool = True) -> Reader:
    """Text of so many bytes of UTF-8."""

    def read(value: object, path: str, faults: Faults) -> str:
        if not isinstance(value, str):
            faults.add(path, "must be text")
            return ""
        size = size_of(value, path, faults)
        if size > most_bytes:
            faults.add(path, f"must not be longer than {most_bytes} bytes of UTF-8 (it has {size})")
        elif not value and not empty:
            faults.add(path, MISSING)
        return value

    return read


def size_of(value: str, path: str, faults: Faults) -> int:
    """Bytes of UTF-8; a fault where the text cannot be written so."""
    if value.isascii():
        return len(value)
    try:
        return len(value.encode())
    except UnicodeEncodeError:
        faults.add(path, "must be valid Unicode (it holds half of a surrogate pair)")
        return 0


def word(kind: type[Word]) -> Reader:
    """One of the words of an enumeration."""
    words = {str(member.value): member for member in kind}

    def read(value: object, path: str, faults: Faults) -> Word:
        if isinstance(value, str) and value in words:
            return words[value]
        faults.add(path, f"must be one of {', '.join(words)}")
        return next(iter(kind))

    return read


def many(entry: Reader, most: int, *, empty: bool = True) -> Reader:
    """A list; its length is looked at before any of its entries."""

    def read(value: object, path: str, faults: Faults) -> tuple[Any, ...]:
        if not isinstance(value, list):
            faults.add(path, "must be a list")
            return ()
        if not value and not empty:
            faults.add(path, MISSING)
        elif len(value) > most:
            faults.add(path, f"must hold at most {most} entries (it holds {len(value)})")
        else:
            return tuple([entry(each, f"{path}[{place}]", faults) for place, each in enumerate(value)])
        return ()

    return read


def distinct(reader: Reader) -> Reader:
    """A list of ids of which none may stand twice."""

    def read(value: object, path: str, faults: Faults) -> tuple[Any, ...]:
        entries: tuple[Any, ...] = reader(value, path, faults)
        seen: set[Any] = set()
        for place, each in enumerate(entries):
            if each in seen:
                faults.add(f"{path}[{place}]", "stands in the list already")
            seen.add(each)
        return entries

    return read


def table(key: Reader, entry: Reader, most: int) -> Reader:
    """An object whose names are the caller's own."""

    def read(value: object, path: str, faults: Faults) -> dict[str, Any]:
        if not isinstance(value, dict):
            faults.add(path, "must be an object")
            return {}
        if len(value) > most:
            faults.add(path, f"must hold at most {most} entries (it holds {len(value)})")
            return {}
        return {
            key(name, f"{path}.{str(name)[:64]}", faults): entry(each, f"{path}.{str(name)[:64]}", faults)
            for name, each in value.items()
        }

    return read


def each_of(shape: Shape, build: Callable[..., Value]) -> Reader:
    """An object that becomes a domain value; where it has faults, nothing is built."""

    def read(value: object, path: str, faults: Faults) -> Value | None:
        before = len(faults.named)
        fields = shape(value, path, faults)
        return build(**fields) if len(faults.named) == before and not faults.full else None

    return read
