"""What is an image: recognised by its bytes, measured by its header, and decoded once to see that it is whole."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp"}
"""The formats that are accepted, and how their files are named."""
HEAD_BYTES = 12
SIDE = 64
"""Pixels to which a JPEG is decoded: every byte of it is read, but most of the arithmetic is saved."""

Image.init()


class NotAnImageError(Exception):
    """Bytes that are no image that can be used; its text says why."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An image on disk."""

    file: str
    """Relative to the folder of the store, `files/ab/ab12....jpg`."""
    sha256: str
    bytes: int
    width: int
    height: int


def is_image_head(head: bytes) -> bool:
    """Whether a file that starts so may be one of the accepted formats."""
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM")):
        return True
    return head.startswith(b"RIFF") and head[8:12] == b"WEBP"


def verify(content: bytes, max_pixels: int) -> tuple[str, int, int]:
    """(format, width, height) of a whole image. Raises NotAnImageError.

    The size in the header is judged before a pixel is decoded.
    """
    if not is_image_head(content[:HEAD_BYTES]):
        raise NotAnImageError("not an image")
    try:
        with Image.open(BytesIO(content), formats=tuple(SUFFIXES)) as image:
            name, (width, height) = str(image.format), image.size
            if width * height > max_pixels:
                raise NotAnImageError("too many pixels")
            if name not in SUFFIXES:  # MPO, a JPEG with more than one picture
                name = "JPEG"
            image.draft("RGB", (SIDE, SIDE))
            image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise NotAnImageError("too many pixels") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error) as error:
        raise NotAnImageError("broken image") from error
    return name, width, height


def open_store(store: Path) -> None:
    """Make the folders that `keep` writes to, and clear away what a kill left half-written."""
    for number in range(256):
        (store / "files" / f"{number:02x}").mkdir(parents=True, exist_ok=True)
    for partial in store.glob("partial-*"):
        partial.unlink()


def keep(content: bytes, store: Path, max_pixels: int) -> Kept:
    """Verify an image and put its bytes, as they are, into `store` under the name of their sha256.

    Whole or not at all; the same bytes are written once. `open_store` comes first. Raises NotAnImageError.
    """
    name, width, height = verify(content, max_pixels)
    sha256 = hashlib.sha256(content).hexdigest()
    file = f"files/{sha256[:2]}/{sha256}{SUFFIXES[name]}"
    path = f"{store}/{file}"
    if not os.path.exists(path):
        partial = f"{store}/partial-{os.urandom(8).hex()}"
        with open(partial, "xb", buffering=0) as out:
            out.write(content)
        os.replace(partial, path)
    return Kept(file, sha256, len(content), width, height)
