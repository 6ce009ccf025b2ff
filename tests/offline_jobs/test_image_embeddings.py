import hashlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import tarfile
import time
import zlib

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageDraw
from pydantic import BaseModel

from offline_jobs.fetched_images import Fetched, read_ledger
from offline_jobs.image_embeddings import run_image_embeddings
from offline_jobs.image_projection import load_projection
from offline_jobs.image_settings import ImageEmbeddingSettings, choose_encoder
from offline_jobs.image_store import Bounds, ImageStatus, ImageStore, UnusableImageError, decode
from offline_jobs.weights import fetch_weights
from service.errors import DataError, StageError
from training.stage import open_stage, read_record


class NoSettings(BaseModel):
    pass


def ingest(work, references):
    with open_stage(work, "ingest", version=1, inputs={}, settings=NoSettings()) as stage:
        pl.DataFrame({"image": pl.Series(references, dtype=pl.String)}).write_parquet(stage.out / "items.parquet")
    return work


def picture(seed, kind="noise", side=64):
    """A drawn picture as JPEG bytes: noise, or a striped square whose place and shade depend on the seed."""
    rng = np.random.default_rng(seed)
    if kind == "noise":
        image = Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8))
    else:
        image = Image.new("RGB", (side, side), "white")
        draw, at = ImageDraw.Draw(image), int(rng.integers(4, 16))
        for line in range(at, at + 40, 4):
            draw.line([(at, line), (at + 40, line)], fill=(180 + int(rng.integers(60)), 20, 20), width=2)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=95)
    return out.getvalue()


def png_header(width, height):
    """A small PNG that says it is width x height pixels: a decompression bomb's beginning."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def png(image):
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\n"
FILES = {
    "good.jpg": picture(0),
    "copy.jpg": picture(0),
    "other.jpg": picture(1),
    "text.jpg": b"this is no image",
    "empty.jpg": b"",
    "truncated.jpg": picture(2)[:700],
    "script.jpg": EPS,
    "bomb.png": png_header(60_000, 60_000),
    "big.png": png_header(7_000, 7_000),
    "between.png": png_header(11_000, 11_000),
    "dot.png": png(Image.new("RGB", (1, 1))),
    "heavy.jpg": b"\xff" * 4096,
}
REFERENCES = {
    "good.jpg": ImageStatus.OK,
    "copy.jpg": ImageStatus.OK,
    "photos.tar::sub/good.jpg": ImageStatus.OK,
    "other.jpg": ImageStatus.OK,
    None: ImageStatus.NO_REFERENCE,
    "https://shop.example/a.jpg": ImageStatus.NOT_FETCHED,
    "../outside.jpg": ImageStatus.OUTSIDE_DATA,
    "link.jpg": ImageStatus.OUTSIDE_DATA,
    "../outside.tar::good.jpg": ImageStatus.OUTSIDE_DATA,
    "absent.jpg": ImageStatus.MISSING,
    "photos.tar::absent.jpg": ImageStatus.MISSING,
    "text.jpg": ImageStatus.UNREADABLE,
    "empty.jpg": ImageStatus.UNREADABLE,
    "truncated.jpg": ImageStatus.UNREADABLE,
    "script.jpg": ImageStatus.UNREADABLE,
    "photos.tar::sub/truncated.jpg": ImageStatus.UNREADABLE,
    "bomb.png": ImageStatus.TOO_LARGE,
    "big.png": ImageStatus.TOO_LARGE,
    "between.png": ImageStatus.TOO_LARGE,
    "heavy.jpg": ImageStatus.TOO_LARGE,
    "dot.png": ImageStatus.TOO_SMALL,
}
BOUNDS = Bounds(max_bytes=4000 + len(FILES["good.jpg"]), max_pixels=40_000_000)


@pytest.fixture
def shop(tmp_path):
    """A data folder with good, broken and hostile images, loose and in an archive."""
    data = tmp_path / "data"
    data.mkdir()
    for name, content in FILES.items():
        (data / name).write_bytes(content if name != "heavy.jpg" else b"\xff" * (BOUNDS.max_bytes + 1))
    (tmp_path / "outside.jpg").write_bytes(FILES["good.jpg"])
    (data / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    with tarfile.open(data / "photos.tar", "w") as tar:
        for name in ("good.jpg", "truncated.jpg"):
            tar.add(data / name, f"./sub/{name}")
    return data


@pytest.fixture(scope="module")
def weights():
    try:
        return fetch_weights("efficientnet-lite0-imagenet")
    except StageError as error:
        pytest.skip(f"the image weights cannot be fetched: {error}")


@pytest.mark.parametrize(("reference", "expected"), REFERENCES.items(), ids=str)
def test_every_reference_ends_as_an_image_or_a_reason(shop, reference, expected):
    with ImageStore(shop, BOUNDS) as store:
        store.open_archives(list(REFERENCES))
        try:
            image = decode(store.read(reference), BOUNDS, side=224)
            status = ImageStatus.OK
        except UnusableImageError as error:
            status = error.status
    assert status == expected
    if expected == ImageStatus.OK:
        assert (image.mode, image.size) == ("RGB", (64, 64))


@pytest.mark.parametrize("kind", ["missing", "compressed", "no tar", "cut short"])
def test_an_archive_that_cannot_be_read_stops_the_run(tmp_path, kind):
    if kind == "compressed":
        with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
            tar.add(__file__, "x.jpg")
    elif kind == "no tar":
        (tmp_path / "a.tar").write_bytes(b"x" * 2000)
    elif kind == "cut short":
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            tar.add(__file__, "x.jpg")
        with (tmp_path / "a.tar").open("r+b") as file:
            file.truncate(1024)
    with ImageStore(tmp_path) as store, pytest.raises(DataError, match=r"a\.tar: the image archive"):
        store.open_archives(["a.tar::x.jpg", None, "https://a/b::c"])


def test_transparent_is_white_and_turned_is_upright():
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    assert decode(png(clear), Bounds(), side=224).getpixel((3, 3)) == (255, 255, 255)
    turned, out = Image.new("RGB", (40, 20), "blue"), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(out, "JPEG", exif=exif)
    assert decode(out.getvalue(), Bounds(), side=224).size == (20, 40)
    large = io.BytesIO()
    Image.new("RGB", (2400, 1600), "blue").save(large, "JPEG")
    assert min(decode(large.getvalue(), Bounds(), side=224).size) in range(224, 1600), "scaled while it is decoded"


@pytest.mark.weights
def test_bad_images_are_masked_and_counted_and_copies_encoded_once(weights, shop, tmp_path):
    references = list(REFERENCES)
    work = ingest(tmp_path / "work", references)
    run_image_embeddings(ImageEmbeddingSettings(max_bytes=BOUNDS.max_bytes, threads=2), shop, work)
    out = work / "image_embeddings"
    vectors, present = np.load(out / "vectors.npy"), np.load(out / "present.npy")
    assert (vectors.shape, vectors.dtype) == ((len(references), 512), np.float32)
    assert present.tolist() == [status == ImageStatus.OK for status in REFERENCES.values()]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), present.astype(float), atol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[1])
    np.testing.assert_array_equal(vectors[0], vectors[2])
    counts = read_record(out).counts
    expected = {s.name.lower(): list(REFERENCES.values()).count(s) for s in ImageStatus}
    assert {key: counts[key] for key in expected} == expected
    assert (counts["items"], counts["present"]) == (len(references), expected["ok"])
    encoder = json.loads((out / "encoder.json").read_text())
    assert (encoder["name"], encoder["width"], len(encoder["sha256"])) == ("efficientnet-lite0-imagenet", 512, 64)
    assert encoder["projection"].startswith("rooted, centred, PCA")

    before = (out / "stage.json").stat().st_mtime_ns
    run_image_embeddings(ImageEmbeddingSettings(max_bytes=BOUNDS.max_bytes, threads=1), shop, work)
    assert (out / "stage.json").stat().st_mtime_ns == before, "unchanged: skipped"
    (shop / "other.jpg").write_bytes(picture(9, "stripes"))
    run_image_embeddings(ImageEmbeddingSettings(max_bytes=BOUNDS.max_bytes), shop, work)
    again = np.load(out / "vectors.npy")
    np.testing.assert_array_equal(again[0], again[2])
    assert again[0] @ again[3] < vectors[0] @ vectors[3] - 0.1, "stripes are less like noise than other noise is"


@pytest.mark.weights
def test_one_picture_in_ten_broken_costs_only_those(weights, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for number in range(40):
        content = picture(number)
        if number % 10 == 3:
            content = [content[: len(content) // 2], png_header(60_000, 60_000), b"", b"<html>"][number // 10]
        (data / f"{number}.jpg").write_bytes(content)
    work = ingest(tmp_path / "work", [f"{number}.jpg" for number in range(40)])
    run_image_embeddings(ImageEmbeddingSettings(weights=weights, batch_size=4, shard_size=16), data, work)
    record = read_record(work / "image_embeddings")
    counts = {name: record.counts[name] for name in ("ok", "unreadable", "too_large", "missing", "items")}
    assert counts == {"ok": 36, "unreadable": 3, "too_large": 1, "missing": 0, "items": 40}
    present = np.load(work / "image_embeddings" / "present.npy")
    assert np.flatnonzero(~present).tolist() == [3, 13, 23, 33]
    vectors = np.load(work / "image_embeddings" / "vectors.npy")
    assert not vectors[~present].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[present], axis=1), 1, atol=1e-5)

    projection = load_projection(work / "image_embeddings" / "projection.npz")
    encoder = choose_encoder(ImageEmbeddingSettings(weights=weights)).load()
    pixels = encoder.prepare(decode((data / "7.jpg").read_bytes(), Bounds(), side=224))
    np.testing.assert_allclose(projection(encoder.encode(pixels[None]))[0], vectors[7], atol=1e-4)


def ledger(work, rows):
    """The stage `images` as fetch-images leaves it: (url, state, file's content) a row."""
    made = []
    with open_stage(work, "images", version=1, inputs={}, settings=Rows(rows=[row[:2] for row in rows])) as stage:
        for number, (url, state, content) in enumerate(rows):
            sha256 = file = None
            if content is not None:
                sha256 = hashlib.sha256(content).hexdigest()
                file = f"files/{sha256[:2]}/{sha256}.jpg"
                (stage.out / file).parent.mkdir(parents=True, exist_ok=True)
                (stage.out / file).write_bytes(content)
            made.append({"item_row": number, "item_id": str(number), "url": url, "state": state, "file": file})
            made[-1] |= {"reason": None, "sha256": sha256, "bytes": content and len(content), "attempts": 1}
        pl.DataFrame(made).write_parquet(stage.out / "ledger.parquet")


class Rows(BaseModel):
    rows: list[tuple[str, str]]


@pytest.mark.weights
def test_fetched_pictures_are_those_of_their_urls(weights, tmp_path):
    a, b, refused, failed, new = (f"https://shop.example/{name}.jpg" for name in ("a", "b", "refused", "failed", "new"))
    data, work = tmp_path / "data", ingest(tmp_path / "work", [a, b, a, refused, failed, new, "here.jpg"])
    data.mkdir()
    (data / "here.jpg").write_bytes(picture(1))
    settings = ImageEmbeddingSettings(weights=weights)
    run_image_embeddings(settings, data, work)
    out = work / "image_embeddings"
    assert np.load(out / "present.npy").tolist() == [False] * 6 + [True]
    assert read_record(out).counts["not_fetched"] == 6

    rows = [(a, "ok", picture(1)), (b, "ok", picture(2)), (a, "ok", picture(1)), (refused, "refused", None)]
    ledger(work, [*rows, (failed, "failed", None)])
    run_image_embeddings(settings, data, work)
    record = read_record(out)
    assert "images" in record.inputs
    assert np.load(out / "present.npy").tolist() == [True, True, True, False, False, False, True]
    counts = {name: record.counts[name] for name in ("ok", "fetch_refused", "fetch_failed", "not_fetched")}
    assert counts == {"ok": 4, "fetch_refused": 1, "fetch_failed": 1, "not_fetched": 1}
    assert record.counts["distinct_images"] == 2, "the same bytes fetched and in the data folder are one"
    vectors = np.load(out / "vectors.npy")
    np.testing.assert_array_equal(vectors[0], vectors[6])
    assert vectors[0] @ vectors[1] < 0.99


@pytest.mark.parametrize("rows", [[("u", "ok", None)], [("u", "maybe", None)]])
def test_a_ledger_that_makes_no_sense_is_refused(tmp_path, rows):
    ledger(tmp_path, rows)
    with pytest.raises(DataError, match=r"ledger\.parquet: 1 rows make no sense"):
        read_ledger(tmp_path / "images")


def test_a_ledger_leads_nowhere_but_to_its_own_files(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "secret.jpg").write_bytes(picture(0))
    fetched = {"https://a/b": Fetched("ok", "../secret.jpg", "0" * 64), "https://a/c": Fetched("ok", "gone", "0" * 64)}
    with ImageStore(tmp_path, Bounds(), tmp_path / "images", fetched) as store:
        for url, status in (("https://a/b", ImageStatus.OUTSIDE_DATA), ("https://a/c", ImageStatus.MISSING)):
            with pytest.raises(UnusableImageError) as caught:
                store.read(url)
            assert caught.value.status == status


@pytest.mark.weights
def test_alike_pictures_are_close(weights, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name, kind in (("a", "stripes"), ("b", "stripes"), ("c", "noise")):
        (data / f"{name}.jpg").write_bytes(picture(ord(name), kind))
    work = ingest(tmp_path / "work", ["a.jpg", "b.jpg", "c.jpg"])
    run_image_embeddings(ImageEmbeddingSettings(weights=weights), data, work)
    a, b, c = np.load(work / "image_embeddings" / "vectors.npy")
    assert a @ b > a @ c + 0.1


@pytest.mark.weights
def test_a_shop_without_images_still_finishes(weights, tmp_path):
    work = ingest(tmp_path, [None, None])
    run_image_embeddings(ImageEmbeddingSettings(), tmp_path, work)
    assert not np.load(work / "image_embeddings" / "present.npy").any()
    assert np.load(work / "image_embeddings" / "vectors.npy").shape == (2, 512)
    with pytest.raises(DataError, match="no such data folder"):
        run_image_embeddings(ImageEmbeddingSettings(), tmp_path / "absent", work)


@pytest.mark.weights
def test_killed_run_resumes_to_the_same_bytes(weights, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    names = [f"{number}.jpg" for number in range(80)]
    for number, name in enumerate(names):
        (data / name).write_bytes(picture(number))
    work, whole = ingest(tmp_path / "killed", names), ingest(tmp_path / "whole", names)
    script = (
        "import sys; from pathlib import Path; from offline_jobs.image_embeddings import *;"
        "from offline_jobs.image_settings import ImageEmbeddingSettings;"
        "run_image_embeddings(ImageEmbeddingSettings(batch_size=2, shard_size=4, threads=1), *map(Path, sys.argv[1:]))"
    )
    arguments = [sys.executable, "-c", script, str(data), str(work)]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(work.glob(".scratch/*/shard-00002.npz")):
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (work / "image_embeddings").exists()
    assert list(work.glob(".scratch/*/shard-00002.npz"))
    settings = ImageEmbeddingSettings(batch_size=2, shard_size=4, threads=1)
    run_image_embeddings(settings, data, work)
    run_image_embeddings(settings.model_copy(update={"threads": 3}), data, whole)
    killed, unbroken = read_record(work / "image_embeddings"), read_record(whole / "image_embeddings")
    assert killed.outputs == unbroken.outputs
    assert not list(work.glob(".scratch/image_embeddings-*"))
