"""Opening an item's image, to bytes, to RGB: `dir/file.jpg` or `archive.tar::member.jpg` below the data folder, or a
URL whose picture has been fetched.

A reference that leads outside its folder, a URL that was not fetched, a missing file, a broken or truncated image and
a decompression bomb each end as an UnusableImageError with a reason that is counted; none of them stops the run. An
archive that is itself missing or broken does stop it: that is a wrong path, not a broken image.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from io import BytesIO
from pathlib import Path
from types import TracebackType

from PIL import Image

from offline_jobs.embedding_shards import ENCODED
from offline_jobs.fetched_images import Fetched
from service.errors import DataError
from service.image_bytes import upright_rgb

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""The formats that are tried: Pillow's other decoders are more ways in than a shop needs."""

Image.init()


class ImageStatus(IntEnum):
    """What became of an item's image; the lower-case names are the stage's counts."""

    OK = ENCODED
    NO_REFERENCE = 2
    NOT_FETCHED = 3
    OUTSIDE_DATA = 4
    MISSING = 5
    UNREADABLE = 6
    TOO_LARGE = 7
    TOO_SMALL = 8
    FETCH_REFUSED = 9
    FETCH_FAILED = 10


NOT_OURS = {"refused": ImageStatus.FETCH_REFUSED, "failed": ImageStatus.FETCH_FAILED}
"""The ledger's states of a URL without a picture."""


class UnusableImageError(Exception):
    """An image that is masked; carries the ImageStatus that says why."""

    def __init__(self, status: ImageStatus) -> None:
        super().__init__(status.name)
        self.status = status


@dataclass(frozen=True)
class Bounds:
    """What an image may be: bytes on disk, pixels decoded (width x height), and the shorter side in pixels."""

    max_bytes: int = 32 << 20
    max_pixels: int = 40_000_000
    min_side: int = 8


@dataclass
class ImageStore:
    """Reads image references below `data`. Use as a context manager; `read` may be called from many threads."""

    data: Path
    bounds: Bounds = field(default_factory=Bounds)
    images: Path | None = None
    """The folder of the fetched pictures, where there is one."""
    fetched: Mapping[str, Fetched] = field(default_factory=dict)
    """What became of each URL; its files are below `images`."""
    _archives: dict[str, _Archive] = field(default_factory=dict)

    def __enter__(self) -> ImageStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for archive in self._archives.values():
            os.close(archive.descriptor)
        self._archives.clear()

    def open_archives(self, references: list[str | None]) -> None:
        """Index every archive that the references name, before threads read from them.

        Raises DataError where one is missing or is not a plain (uncompressed) tar file.
        """
        for name in sorted({r.partition("::")[0] for r in references if r and "::" in r and "://" not in r}):
            if name not in self._archives and _inside(self.data, name):
                self._archives[name] = _index(self.data / name)

    def read(self, reference: str | None) -> bytes:
        """The bytes behind a reference. Raises UnusableImageError where there are none to be had."""
        if not reference:
            raise UnusableImageError(ImageStatus.NO_REFERENCE)
        if "://" in reference:
            return _read_file(*self._fetched_file(reference), self.bounds)
        name, _, member = reference.partition("::")
        if not member:
            return _read_file(self.data, name, self.bounds)
        if name not in self._archives:
            raise UnusableImageError(ImageStatus.OUTSIDE_DATA)
        return self._archives[name].read(member, self.bounds)

    def digest(self, reference: str | None) -> str:
        """sha256 of the bytes behind a reference, in hex; the ledger's own for a fetched picture, which is not read.

        Raises UnusableImageError where there are none to be had.
        """
        if reference and "://" in reference:
            self._fetched_file(reference)
            return str(self.fetched[reference].sha256)
        return hashlib.sha256(self.read(reference)).hexdigest()

    def _fetched_file(self, url: str) -> tuple[Path, str]:
        found = self.fetched.get(url)
        if found is None or self.images is None:
            raise UnusableImageError(ImageStatus.NOT_FETCHED)
        if found.state != "ok" or found.file is None:
            raise UnusableImageError(NOT_OURS[found.state])
        return self.images, found.file


def decode(content: bytes, bounds: Bounds, *, side: int) -> Image.Image:
    """The image in RGB, upright, transparency on white; about `side` pixels or larger where the format can scale.

    Size is checked on the header, before any pixel is decoded. Raises UnusableImageError.
    """
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > bounds.max_pixels:
                raise UnusableImageError(ImageStatus.TOO_LARGE)
            if min(width, height) < bounds.min_side:
                raise UnusableImageError(ImageStatus.TOO_SMALL)
            image.draft("RGB", (side, side))
            image.load()
            return upright_rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnusableImageError(ImageStatus.TOO_LARGE) from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error) as error:
        raise UnusableImageError(ImageStatus.UNREADABLE) from error


def _inside(folder: Path, name: str) -> bool:
    """Whether `name` stays below the folder, symbolic links followed."""
    return (folder / name).resolve().is_relative_to(folder.resolve())


def _read_file(folder: Path, name: str, bounds: Bounds) -> bytes:
    path = folder / name
    try:
        if not _inside(folder, name):
            raise UnusableImageError(ImageStatus.OUTSIDE_DATA)
        if not path.is_file():
            raise UnusableImageError(ImageStatus.MISSING)
        if path.stat().st_size > bounds.max_bytes:
            raise UnusableImageError(ImageStatus.TOO_LARGE)
        return path.read_bytes()
    except OSError as error:
        raise UnusableImageError(ImageStatus.UNREADABLE) from error


@dataclass(frozen=True)
class _Archive:
    """An open tar file and where its members' bytes lie: reads go by position, so threads share it."""

    descriptor: int
    members: dict[str, tuple[int, int]]
    """Member name to (offset, size) in bytes."""

    def read(self, member: str, bounds: Bounds) -> bytes:
        place = self.members.get(member)
        if place is None:
            raise UnusableImageError(ImageStatus.MISSING)
        offset, size = place
        if size > bounds.max_bytes:
            raise UnusableImageError(ImageStatus.TOO_LARGE)
        content = os.pread(self.descriptor, size, offset)
        if len(content) != size:
            raise UnusableImageError(ImageStatus.UNREADABLE)
        return content


def _index(path: Path) -> _Archive:
    try:
        with tarfile.open(path, "r:") as tar:
            members = {
                m.name.removeprefix("./"): (m.offset_data, m.size) for m in tar if m.isreg() and not m.issparse()
            }
        return _Archive(os.open(path, os.O_RDONLY | os.O_CLOEXEC), members)
    except FileNotFoundError as error:
        raise DataError(
            "the image archive is missing", where=str(path), todo="Check the items' image column and the data folder"
        ) from error
    except (tarfile.TarError, OSError) as error:
        raise DataError(
            f"the image archive cannot be read ({error})", where=str(path), todo="Give a whole, uncompressed .tar file"
        ) from error
