"""Lines of a text file, plain or gzip, whatever its bytes are, in bounded memory: in blocks, or one by one.

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

CHUNK_BYTES = 4 << 20
BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """One line: its 1-based number, its text without the line end, and why it cannot be used (or "")."""

    number: int
    text: str
    problem: str


class Block(NamedTuple):
    """Lines that follow one another, joined by a line feed; none is too long. Blank ones are among them."""

    first: int
    """The 1-based number of the first line."""
    data: bytes

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """(number, bytes) of every line that is not blank."""
        for number, raw in enumerate(self.data.split(b"\n"), start=self.first):
            if raw and not raw.isspace():
                yield number, raw


def read_lines(path: Path, max_line_bytes: int) -> Iterator[Line]:
    """Yield every line that is not blank. Raises DataError where the file cannot be opened at all."""
    for part in read_blocks(path, max_line_bytes):
        if isinstance(part, Line):
            yield part
        else:
            yield from (decode(number, raw) for number, raw in part.lines())


def read_blocks(path: Path, max_line_bytes: int) -> Iterator[Block | Line]:
    """The file as blocks of about CHUNK_BYTES; a line that cannot be used comes alone, as a `Line`, in its place.

    Raises DataError where the file cannot be opened at all. `rest` never grows past max_line_bytes + CHUNK_BYTES.
    """
    number, rest, skipping = 1, b"", False
    with _open(path) as file:
        for chunk, problem in _chunks(file):
            cut = chunk.rfind(b"\n")
            if cut >= 0:
                data = rest + chunk[:cut]
                yield from _usable(number, data, max_line_bytes, skipping=skipping)
                number, rest, skipping = number + data.count(b"\n") + 1, chunk[cut + 1 :], False
            else:
                rest += chunk
            if len(rest) > max_line_bytes:
                rest, skipping = rest[:MAX_ROW_CHARS], True
            if problem:
                yield _refused(number, rest, problem)
                return
    if rest:
        yield from _usable(number, rest, max_line_bytes, skipping=skipping)


def decode(number: int, raw: bytes) -> Line:
    """A line's bytes as text; `problem` says so where they are not UTF-8."""
    try:
        return Line(number, raw.decode("utf-8"), "")
    except UnicodeDecodeError:
        return _refused(number, raw, "not UTF-8")


def _refused(number: int, raw: bytes, problem: str) -> Line:
    return Line(number, raw[:MAX_ROW_CHARS].decode("utf-8", "backslashreplace"), problem)


def _usable(number: int, data: bytes, max_line_bytes: int, *, skipping: bool) -> Iterator[Block | Line]:
    """Whole lines without those that are too long; `skipping` says that the first one is."""
    if not skipping and not _has_longer(data, max_line_bytes):
        yield _block(number, data)
        return
    held: list[bytes] = []
    for line in data.split(b"\n"):
        if skipping or len(line) > max_line_bytes:
            if held:
                yield _block(number - len(held), b"\n".join(held))
                held = []
            yield _refused(number, line, f"line longer than {max_line_bytes} bytes")
            skipping = False
        else:
            held.append(line)
        number += 1
    if held:
        yield _block(number - len(held), b"\n".join(held))


def _has_longer(data: bytes, max_line_bytes: int) -> bool:
    """Whether a line is longer: from a line's start, the last line end within reach is the next start."""
    start = 0
    while len(data) - start > max_line_bytes:
        end = data.rfind(b"\n", start, start + max_line_bytes + 1)
        if end < 0:
            return True
        start = end + 1
    return False


def _block(number: int, data: bytes) -> Block:
    """Without the byte order mark and the carriage returns before line feeds."""
    if number == 1:
        data = data.removeprefix(BOM)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").removesuffix(b"\r")
    return Block(number, data)


def _chunks(file: gzip.GzipFile | BufferedReader) -> Iterator[tuple[bytes, str]]:
    """(bytes, problem): pieces of at least CHUNK_BYTES, then what is left, with what is wrong with the file or ""."""
    pieces: list[bytes] = []
    size, problem = 0, ""
    while True:
        try:
            piece = file.read1(CHUNK_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            problem = f"the file ends here: truncated or damaged gzip ({error})"
            break
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            yield b"".join(pieces), ""
            pieces, size = [], 0
    yield b"".join(pieces), problem


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
