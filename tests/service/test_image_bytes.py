"""Pictures that somebody sent: the good ones come out as they are, the bad ones are refused and never decoded."""

from __future__ import annotations

import contextlib
import struct
import time
import warnings
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.errors import InvalidImageError
from service.image_bytes import MAX_BYTES, MAX_PIXELS, MAX_SCANS, decode_image, square_pixels

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
HEADS = [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF0\0\0\0WEBP"]


def picture(width: int = 60, height: int = 40) -> Image.Image:
    """Red on the left, blue on the right, green at the bottom: every turn shows."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[:, : width // 2, 0] = 250
    rgb[:, width // 2 :, 2] = 250
    rgb[height * 3 // 4 :] = (0, 250, 0)
    return Image.fromarray(rgb)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, pixels: bytes, *more: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *more,
            chunk(b"IDAT", zlib.compress(pixels)),
            chunk(b"IEND", b""),
        ]
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_gives_its_pixels(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    pixels = decode_image(encoded(picture(), kind, **options))
    assert (pixels.shape, pixels.dtype) == ((40, 60, 3), np.uint8)
    difference = np.abs(pixels.astype(int) - np.asarray(picture()).astype(int))
    assert np.percentile(difference, 95) <= (6 if kind == "JPEG" else 0)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16", "1"])
def test_other_colour_modes_become_rgb(mode: str) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    image = Image.new("I;16", (20, 20), 60_000) if mode == "I;16" else picture(20, 20).convert(mode)
    assert decode_image(encoded(image, kind)).shape == (20, 20, 3)


@pytest.mark.parametrize(("orientation", "turned"), [(1, 0), (6, 3), (3, 2), (8, 1)])
def test_it_stands_upright(orientation: int, turned: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode_image(encoded(picture(), "PNG", exif=exif.tobytes()))
    np.testing.assert_array_equal(pixels, np.rot90(np.asarray(picture()), turned))


def test_transparency_lies_on_white() -> None:
    clear = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    assert (decode_image(encoded(clear, "PNG")) == 255).all()


def test_of_an_animation_the_first_frame_is_read() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP"):
        pixels = decode_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50))
        assert pixels[8, 8, 0] > 200
        assert pixels[8, 8, 2] < 50


@pytest.mark.parametrize(("width", "height"), [(60, 40), (40, 60), (640, 480), (32, 32), (900, 9)])
def test_the_whole_picture_lies_in_the_middle_of_a_white_square(width: int, height: int) -> None:
    square = square_pixels(encoded(Image.new("RGB", (width, height), "navy"), "PNG"), 32)
    assert square.shape == (32, 32, 3)
    inside = (square == np.array([0, 0, 128])).all(axis=2)
    scale = 32 / max(width, height)
    assert inside.sum() == max(1, round(width * scale)) * max(1, round(height * scale))
    assert ((square == 255).all(axis=2) | inside).all()
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    assert abs(rows[0] - (31 - rows[-1])) <= 1
    assert abs(columns[0] - (31 - columns[-1])) <= 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "there are no bytes"),
        (b"hello", "not a JPEG, PNG, WebP or GIF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a JPEG, PNG, WebP or GIF"),
        (encoded(picture(), "BMP"), "not a JPEG, PNG, WebP or GIF"),
        (encoded(picture(), "TIFF"), "not a JPEG, PNG, WebP or GIF"),
        (encoded(picture(), "PPM"), "not a JPEG, PNG, WebP or GIF"),
        (b"\xff\xd8\xff" + bytes(100), "not a JPEG|broken"),
        (encoded(Image.new("RGB", (7, 400)), "PNG"), "7 x 400 pixels, at least 8"),
        (encoded(Image.new("RGB", (1, 1)), "GIF"), "1 x 1 pixels"),
        (bytes(MAX_BYTES + 1), "10,485,761 bytes, at most 10,485,760"),
    ],
)
def test_what_is_refused_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidImageError, match=reason) as refused:
        decode_image(data)
    assert refused.value.where == "image"
    assert refused.value.reason == "INVALID_IMAGE"


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_file_that_is_cut_short_is_refused(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), kind)
    with pytest.raises(InvalidImageError, match=r"broken or cut short|not a JPEG"):
        decode_image(whole[: int(len(whole) * share)])


def quickly_refused(data: bytes, reason: str) -> None:
    began = time.perf_counter()
    with pytest.raises(InvalidImageError, match=reason):
        decode_image(data)
    assert time.perf_counter() - began < 0.5


def test_bombs_are_refused_before_they_are_decoded() -> None:
    zeros = bytes(1000)
    for width, height in ((50_000, 50_000), (2**31 - 1, 8), (MAX_PIXELS // 1000 + 1, 1000)):
        quickly_refused(png_of(width, height, zeros), "pixels|broken")
    huge = bytearray(encoded(picture(), "GIF"))
    huge[6:10] = struct.pack("<HH", 65_535, 65_535)
    quickly_refused(bytes(huge), "too many pixels")


def test_a_frame_that_is_larger_than_its_gif_said_is_refused() -> None:
    data = bytearray(encoded(picture(), "GIF"))
    at = data.index(b"\x2c")  # the first frame's own place and size
    data[at + 1 : at + 9] = struct.pack("<HHHH", 0, 0, 60_000, 60_000)
    quickly_refused(bytes(data), "pixels|broken")


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    data = encoded(picture(400, 400), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    assert 1 < data.count(b"\xff\xda") < 20
    quickly_refused(data[:-2] + data[last:-2] * MAX_SCANS + data[-2:], "scans, at most 100")


def test_metadata_that_unfolds_to_gigabytes_is_refused() -> None:
    folded = zlib.compress(bytes(80 << 20), 9)
    for kind, body in ((b"zTXt", b"note\x00\x00" + folded), (b"iCCP", b"icc\x00\x00" + folded)):
        data = png_of(16, 16, bytes(17 * 16), chunk(kind, body))
        began = time.perf_counter()
        with contextlib.suppress(InvalidImageError):
            decode_image(data)
        assert time.perf_counter() - began < 0.5, kind


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=150, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=4)), min_size=1, max_size=8))
def test_damaged_files_are_read_or_refused_and_nothing_else(kind: str, changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(GOOD[kind])
    for at, put in changes:
        data[at % len(data) : at % len(data) + len(put)] = put
    assert_read_or_refused(bytes(data))


@settings(max_examples=300, deadline=None)
@given(
    head=st.sampled_from([b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF0\0\0\0WEBP"]), tail=st.binary()
)
def test_any_bytes_are_read_or_refused(head: bytes, tail: bytes) -> None:
    assert_read_or_refused(head + tail)


def assert_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(InvalidImageError), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what Pillow says of damaged metadata
        assert square_pixels(data, 32).shape == (32, 32, 3)


def _with_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a shirt"
    return encoded(picture(), "JPEG", exif=exif.tobytes(), progressive=True)


GOOD = {kind: _with_exif() if kind == "JPEG" else encoded(picture(), kind) for kind in FORMATS}
