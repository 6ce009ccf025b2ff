"""Lines of a text file, plain or gzip, whatever its bytes are, in bounded memory.

A damaged or truncated gzip file gives all the lines that could be read and then one `Line` whose `problem`
says so. An over-long line is skipped without being held; only its head is kept.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from offline_jobs.readers.quarantine import MAX_ROW_CHARS
from service.errors import DataError

CHUNK_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """One line: its 1-based number, its text without the line end, and why it cannot be used (or "")."""

    number: int
    text: str
    problem: str


def read_lines(path: Path, max_line_bytes: int) -> Iterator[Line]:
    """Yield every line that is not blank. Raises DataError where the file cannot be opened at all."""
    for number, (raw, problem) in enumerate(_split(path, max_line_bytes), start=1):
        raw = raw.removesuffix(b"\r")
        if number == 1:
            raw = raw.removeprefix(BOM)
        if problem:
            yield Line(number, raw[:MAX_ROW_CHARS].decode("utf-8", "backslashreplace"), problem)
        elif raw and not raw.isspace():
            yield _decode(number, raw)


def _decode(number: int, raw: bytes) -> Line:
    try:
        return Line(number, raw.decode("utf-8"), "")
    except UnicodeDecodeError:
        return Line(number, raw[:MAX_ROW_CHARS].decode("utf-8", "backslashreplace"), "not UTF-8")


def _split(path: Path, max_line_bytes: int) -> Iterator[tuple[bytes, str]]:
    """(line, problem) pairs; `rest` never grows past max_line_bytes + CHUNK_BYTES."""
    rest, skipping = b"", False
    too_long = f"line longer than {max_line_bytes} bytes"
    with _open(path) as file:
        while True:
            try:
                chunk = file.read1(CHUNK_BYTES)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                yield rest, f"the file ends here: truncated or damaged gzip ({error})"
                return
            if not chunk:
                break
            *lines, tail = chunk.split(b"\n")
            if lines:
                lines[0] = rest + lines[0]
                rest = tail
                for line in lines:
                    long = skipping or len(line) > max_line_bytes
                    yield line, too_long if long else ""
                    skipping = False
            else:
                rest += tail
            if len(rest) > max_line_bytes:
                rest, skipping = rest[:MAX_ROW_CHARS], True
    if rest:
        yield rest, too_long if skipping else ""


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    """Recognised by its first bytes, not by its name: a `.gz` that was unpacked on the way still opens."""
    try:
        with path.open("rb") as probe:
            is_gzip = probe.read(2) == b"\x1f\x8b"
        return gzip.GzipFile(path, "rb") if is_gzip else path.open("rb")
    except OSError as error:
        raise DataError(
            f"cannot be opened ({error.strerror})", where=str(path), todo="Check the file and its permissions"
        ) from error
