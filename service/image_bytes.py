"""Bytes that somebody sent to RGB pixels, offline's way; what they claim to be is believed in nothing.

The format is seen from the content. Bytes, pixels and scans are counted before anything is decoded: a file of some
kilobytes can stand for gigabytes of pixels, or for minutes of decoding. What cannot be decoded to its end is refused.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from service.errors import InvalidImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
"""Pillow's other decoders are more ways in than a shop needs. Of an animation the first frame is read."""
MAX_BYTES = 10 << 20
MAX_PIXELS = 20_000_000
"""Width x height."""
MIN_SIDE = 8
"""Pixels of the shorter side: smaller ones are tracking dots and blanks."""
MAX_SCANS = 100
"""Of a JPEG. A usual progressive one has about ten; each costs a pass over the whole picture."""
WHITE = (255, 255, 255)

Pixels = npt.NDArray[np.uint8]
"""uint8 (height, width, 3) RGB."""

# Before threads need the decoders: Pillow loads them on first use.
Image.init()


def decode_image(data: bytes) -> Pixels:
    """The whole picture, upright, transparency on white. Raises InvalidImageError."""
    return np.asarray(_opened(data, None))


def square_pixels(data: bytes, side: int) -> Pixels:
    """(side, side, 3): the picture as an image encoder with padded framing takes it. Raises InvalidImageError.

    A JPEG is decoded at the smallest scale that covers the square, which saves most of the work.
    """
    return np.asarray(fitted(_opened(data, side), side))


def fitted(image: Image.Image, side: int) -> Image.Image:
    """The whole image in the middle of a white square. Far too large ones are halved first, which costs little."""
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    small = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    if small.size == (side, side):
        return small
    square = Image.new("RGB", (side, side), WHITE)
    square.paste(small, ((side - width) // 2, (side - height) // 2))
    return square


def upright_rgb(image: Image.Image) -> Image.Image:
    """A loaded image in RGB, turned as its EXIF orientation says, transparency on white; `image` itself may be changed.

    Copies are few: of the largest picture that is read each one weighs 80 MB.
    """
    ImageOps.exif_transpose(image, in_place=True)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    layer = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGB", layer.size, WHITE)
    white.paste(layer, mask=layer.getchannel("A"))
    return white


def _opened(data: bytes, side: int | None) -> Image.Image:
    if not data:
        raise _invalid("there are no bytes")
    if len(data) > MAX_BYTES:
        raise _invalid(f"the file has {len(data):,} bytes, at most {MAX_BYTES:,} are read")
    if data.startswith(b"\xff\xd8") and (scans := data.count(b"\xff\xda")) > MAX_SCANS:
        raise _invalid(f"the JPEG has {scans} scans, at most {MAX_SCANS} are read")
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            _check_pixels(image)
            if min(image.size) < MIN_SIDE:
                raise _invalid(
                    f"the image has {image.width} x {image.height} pixels, at least {MIN_SIDE} a side are read"
                )
            if side is not None:
                image.draft("RGB", (side, side))
            image.load()
            _check_pixels(image)  # a GIF's frame may be larger than the file's header said
            return upright_rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _invalid(f"it has too many pixels, at most {MAX_PIXELS:,} are read") from error
    except UnidentifiedImageError as error:
        raise _invalid("these bytes are not a JPEG, PNG, WebP or GIF image") from error
    except BROKEN as error:
        raise _invalid(f"the image is broken or cut short ({str(error)[:100] or type(error).__name__})") from error


BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)
"""What Pillow's decoders raise from damaged bytes."""


def _check_pixels(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _invalid(f"the image has {width} x {height} pixels, at most {MAX_PIXELS:,} are read")


def _invalid(what: str) -> InvalidImageError:
    return InvalidImageError(what, where="image", todo="Send the bytes of one whole JPEG, PNG, WebP or GIF file")
