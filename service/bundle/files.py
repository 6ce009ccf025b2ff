"""The file formats of a bundle, save beside load. Arrays are plain .npy, memory-mapped and never unpickled.

Text is a *string table*: `<name>.bytes.npy` uint8 (all strings in UTF-8, end to end) and `<name>.offsets.npy` int64
(n + 1). An *id table* is a string table in ascending byte order, so an id's row is found by bisection in the mapped
bytes; a dict of 498 K ids would cost every worker 61 MiB.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from service.errors import BundleCorruptError, InputError

CELLS = 1 << 19
"""Bytes of ids, padded to the longest, that are compared at once: some 20 times as much memory."""


class StringTable(Sequence[str]):
    """n strings in two mapped arrays; `table[row]` decodes one."""

    def __init__(self, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> None:
        self.data = data
        self.offsets = offsets
        # Indexing a memoryview gives a Python int several times faster than indexing an array.
        self._bytes = memoryview(data)  # type: ignore[arg-type]
        self._starts = memoryview(offsets)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def raw(self, row: int) -> bytes:
        """UTF-8 bytes of one string."""
        return bytes(self._bytes[self._starts[row] : self._starts[row + 1]])

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        if not 0 <= row < len(self):
            raise IndexError(row)
        return self.raw(row).decode()

    @classmethod
    def of(cls, strings: Iterable[str]) -> StringTable:
        """Build a table in memory."""
        encoded = [s.encode() for s in strings]
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(b) for b in encoded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets)


class IdTable(StringTable):
    """Outside ids <-> inside rows. Ids are distinct and in ascending order of their UTF-8 bytes."""

    def row(self, identifier: str) -> int | None:
        """The row of an id, or None where it is unknown. Some 12 microseconds at half a million ids."""
        key = identifier.encode("utf-8", "surrogatepass")
        found = bisect_left(range(len(self)), key, key=self.raw)
        return found if found < len(self) and self.raw(found) == key else None

    @classmethod
    def of(cls, strings: Iterable[str]) -> IdTable:
        """Build an id table; raises InputError unless the ids are distinct and in byte order."""
        table = super().of(strings)
        assert isinstance(table, cls)
        table.check("ids")
        return table

    def check(self, where: str) -> None:
        """Raise InputError unless the ids are distinct and ascending."""
        widest = int(np.diff(self.offsets).max(initial=0))
        rows = max(CELLS // max(widest, 1), 2)
        for start in range(0, len(self) - 1, rows - 1):  # each part begins with the last row of the one before
            row = self._first_not_above(start, min(start + rows, len(self)), widest)
            if row is not None:
                raise InputError(
                    "ids must be distinct and ascend in byte order, "
                    f"but row {row} ({self.raw(row)!r}) follows {self.raw(row - 1)!r}",
                    where=where,
                    todo="Sort the ids by their UTF-8 bytes and drop repeats",
                )

    def _first_not_above(self, start: int, end: int, width: int) -> int | None:
        """The first row of (start, end) whose id is not above the one before.

        In NumPy, which lets go of the interpreter: a Python loop over half a million ids keeps an event loop waiting.
        """
        begins = self.offsets[start:end]
        lengths = np.diff(self.offsets[start : end + 1])
        column = np.arange(width)
        held = column < lengths[:, None]  # (rows, width) where the id is no longer: 0, below every other byte but NUL
        places = np.where(held, begins[:, None] + column, 0)
        table = np.where(held, self.data[places] if len(self.data) else np.uint8(0), np.uint8(0))
        differs = table[1:] != table[:-1]
        first = differs.argmax(axis=1) if width else np.zeros(len(differs), np.int64)
        each = np.arange(len(differs))
        same = ~differs.any(axis=1)  # but for NULs at the end, which only the lengths tell apart
        above = same & (lengths[1:] > lengths[:-1])
        if width:
            above |= ~same & (table[1:][each, first] > table[:-1][each, first])
        wrong = np.flatnonzero(~above)
        return start + 1 + int(wrong[0]) if len(wrong) else None


class CodedStrings:
    """A column of few distinct strings: `codes` (n,) int32 into `names`, -1 where the value is missing."""

    def __init__(self, codes: npt.NDArray[np.int32], names: StringTable) -> None:
        self.codes = codes
        self.names = names

    def __len__(self) -> int:
        return len(self.codes)

    def value(self, row: int) -> str | None:
        """The string of a row, or None."""
        code = int(self.codes[row])
        return None if code < 0 else self.names[code]

    @classmethod
    def of(cls, values: Sequence[str | None]) -> CodedStrings:
        """Build a column in memory; names come out sorted."""
        names = sorted({v for v in values if v is not None})
        code = {name: i for i, name in enumerate(names)}
        codes = np.array([-1 if v is None else code[v] for v in values], np.int32)
        return cls(codes, StringTable.of(names))


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_array(directory: Path, name: str, array: npt.NDArray[Any]) -> None:
    """Write `<name>.npy`, C-contiguous."""
    np.save(directory / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)


def load_array(directory: Path, name: str) -> npt.NDArray[Any]:
    """Map `<name>.npy` read-only."""
    path = directory / f"{name}.npy"
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise  # only the reader knows whether the file had to be there
    except (OSError, ValueError, EOFError) as error:
        raise BundleCorruptError(
            f"not a readable array file ({error})", where=str(path), todo="Publish the bundle again"
        ) from error
    # A view without the memmap subclass: its attribute bookkeeping costs microseconds an access.
    return array.view(np.ndarray)


def save_strings(directory: Path, name: str, table: StringTable) -> None:
    """Write a string table."""
    save_array(directory, f"{name}.bytes", table.data)
    save_array(directory, f"{name}.offsets", table.offsets)


def load_strings(directory: Path, name: str) -> StringTable:
    """Map a string table."""
    return StringTable(*_string_parts(directory, name))


def load_ids(directory: Path, name: str) -> IdTable:
    """Map an id table."""
    return IdTable(*_string_parts(directory, name))


def save_coded(directory: Path, name: str, column: CodedStrings) -> None:
    """Write a coded column."""
    save_array(directory, f"{name}.codes", column.codes)
    save_strings(directory, f"{name}.names", column.names)


def load_coded(directory: Path, name: str) -> CodedStrings:
    """Map a coded column."""
    return CodedStrings(load_array(directory, f"{name}.codes"), load_strings(directory, f"{name}.names"))


def _string_parts(directory: Path, name: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    data = load_array(directory, f"{name}.bytes")
    offsets = load_array(directory, f"{name}.offsets")
    whole = (
        data.dtype == np.uint8
        and offsets.dtype == np.int64
        and offsets.ndim == data.ndim == 1
        and len(offsets) > 0
        and offsets[0] == 0
        and offsets[-1] == len(data)
        and bool(np.all(np.diff(offsets) >= 0))
    )
    if not whole:
        raise BundleCorruptError(
            "the offsets of a string table do not fit its bytes",
            where=str(directory / f"{name}.offsets.npy"),
            todo="Publish the bundle again",
        )
    return data, offsets
