"""Item images to 512-d vectors; broken and missing ones are masked, never imputed.

Every image is read and hashed once: the digests decide whether the stage is fresh, and files with the same content are
encoded once. Then batches go through decoding, preprocessing and the encoder side by side, one a core, shard by shard.
The offline encoders' features are laid into the 512 numbers by `image_projection` when all of them are there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from rich.console import Console
from rich.progress import track

from offline_jobs import fetched_images
from offline_jobs.compute import available_threads
from offline_jobs.embedding_shards import (
    EncodeShard,
    Status,
    Vectors,
    finish_shards,
    finished_shards,
    normalise,
    write_embeddings,
)
from offline_jobs.image_encoders import SIDE, WIDTH, ImageEncoder
from offline_jobs.image_projection import fit_projection
from offline_jobs.image_settings import Encoder, ImageEmbeddingSettings, choose_encoder
from offline_jobs.image_store import Bounds, ImageStatus, ImageStore, UnusableImageError, decode
from offline_jobs.weights import combined_sha256
from service.bundle.files import sha256_file
from service.errors import DataError
from training.stage import open_stage, read_record, require
from training.threads import torch_threads

STAGE = "image_embeddings"
VERSION = 2
FITTED_ON = 40_000
"""The projection is fitted on about so many images at most, evenly spread."""


class _Identity(ImageEmbeddingSettings):
    resolved: str
    """Encoder, precision, device and batch size that auto came to."""
    images_sha256: str
    """Over every item's image: its content's digest, or why there is none."""


@dataclass(frozen=True)
class Images:
    """What the items' references lead to."""

    distinct: list[str]
    """One reference for each distinct content, in order of its first item."""
    row: npt.NDArray[np.int64]
    """Each item's row of `distinct`, -1 where it has no content (items,)."""
    status: npt.NDArray[np.int8]
    """ImageStatus of each item; OK where it has content, until that is decoded (items,)."""
    sha256: str
    """Over all of it."""


def run_image_embeddings(settings: ImageEmbeddingSettings, data: Path, work: Path) -> None:
    """Write `<work>/image_embeddings/`: vectors.npy, present.npy, encoder.json, and projection.npz where there is one.

    Needs the ingest stage; takes pictures of URLs from the stage `images` where that has run. `data` is the folder that
    the items' image references start from. Raises DataError where it or an archive is missing, InputError where the
    settings contradict one another, StageError where the encoder cannot be had.
    """
    inputs = {"items": require(work, "ingest") / "items.parquet"}
    references = read_references(inputs["items"])
    encoder = choose_encoder(settings)
    inputs["weights"] = encoder.weights
    fetched = work / fetched_images.STAGE
    ledger: dict[str, fetched_images.Fetched] = {}
    if read_record(fetched) is not None:
        inputs[fetched_images.STAGE] = fetched
        ledger = fetched_images.read_ledger(fetched)
    bounds = Bounds(max_bytes=settings.max_bytes, max_pixels=settings.max_pixels)
    if not data.is_dir():
        raise DataError("no such data folder", where=str(data), todo="Check the path")
    with (
        ImageStore(data, bounds, fetched, ledger) as store,
        ThreadPoolExecutor(available_threads(settings.threads)) as pool,
    ):
        store.open_archives(references)
        images = find_images(store, references, pool)
        resolved = f"{encoder.record.name} {encoder.record.precision} on {encoder.device}, {encoder.batch_size} at once"
        identity = _Identity(**dict(settings), resolved=resolved, images_sha256=images.sha256)
        with open_stage(work, STAGE, version=VERSION, inputs=inputs, settings=identity) as stage:
            if stage.fresh:
                return
            with torch_threads(1):
                finish_shards(
                    stage.scratch,
                    len(images.distinct),
                    width=encoder.features,
                    shard_size=settings.shard_size,
                    label="image embeddings",
                    encode=shard_encoder(encoder.load(), store, images.distinct, pool, encoder.batch_size),
                )
            status = write_vectors(stage.out, stage.scratch, encoder, images, settings.shard_size)
            stage.count(**{reason.name.lower(): int((status == reason).sum()) for reason in ImageStatus})
            present = int((status == ImageStatus.OK).sum())
            stage.count(items=len(status), present=present, distinct_images=len(images.distinct))


def read_references(items: Path) -> list[str | None]:
    """The items' image references, in item_row order."""
    try:
        return pl.read_parquet(items, columns=["image"])["image"].cast(pl.String).to_list()
    except pl.exceptions.ColumnNotFoundError as error:
        raise DataError("column 'image' is missing", where=str(items), todo="Run the ingest stage again") from error


def find_images(store: ImageStore, references: Sequence[str | None], pool: ThreadPoolExecutor) -> Images:
    """Read and hash what every reference leads to."""

    def digest(reference: str | None) -> str | ImageStatus:
        try:
            return store.digest(reference)
        except UnusableImageError as error:
            return error.status

    row_of: dict[str, int] = {}
    distinct: list[str] = []
    row = np.full(len(references), -1, np.int64)
    status = np.full(len(references), ImageStatus.OK, np.int8)
    over_all = hashlib.sha256()
    found = pool.map(digest, references, chunksize=64)
    shown = track(found, "reading images", total=len(references), console=Console(stderr=True))
    for item, (reference, one) in enumerate(zip(references, shown, strict=True)):
        over_all.update(f"{one}\n".encode())
        if isinstance(one, ImageStatus) or reference is None:
            status[item] = one
            continue
        if one not in row_of:
            row_of[one] = len(distinct)
            distinct.append(reference)
        row[item] = row_of[one]
    return Images(distinct, row, status, over_all.hexdigest())


def write_vectors(out: Path, scratch: Path, encoder: Encoder, images: Images, shard_size: int) -> Status:
    """Write the stage's files from its finished shards, a shard at a time; returns each item's last status (items,)."""

    def shards() -> Iterator[tuple[int, Vectors, Status]]:
        return finished_shards(scratch, len(images.distinct), width=encoder.features, shard_size=shard_size)

    record, projection = encoder.record, None
    if encoder.projected:
        step = max(1, len(images.distinct) // FITTED_ON)
        projection = fit_projection((vectors[::step] for _, vectors, _ in shards()), encoder.features, WIDTH)
        projection.save(out / "projection.npz")
        files = {"weights": record.sha256, "projection.npz": sha256_file(out / "projection.npz")}
        record = record.model_copy(update={"sha256": combined_sha256(files), "projection": PROJECTED})
    status = write_embeddings(out, shards(), images.row, record, projection)
    return np.where(images.row >= 0, status, images.status)


PROJECTED = "rooted, centred, PCA of the catalogue's images, axes scaled by eigenvalue ** -1/4"


def shard_encoder(
    encoder: ImageEncoder, store: ImageStore, references: Sequence[str], pool: ThreadPoolExecutor, batch_size: int
) -> EncodeShard:
    """The function that encodes references[start:stop]; what cannot be decoded gets a zero row and its status.

    Each of the pool's threads takes whole batches, from bytes to vectors, on one core: no thread waits for another
    inside a batch, and the vectors are the same for any number of threads.
    """

    def prepare(reference: str) -> npt.NDArray[Any] | ImageStatus:
        try:
            return encoder.prepare(decode(store.read(reference), store.bounds, side=SIDE))
        except UnusableImageError as error:
            return error.status

    def encode_batch(batch: Sequence[str]) -> tuple[Vectors, Status]:
        prepared = [prepare(reference) for reference in batch]
        status = [one if isinstance(one, ImageStatus) else ImageStatus.OK for one in prepared]
        vectors = np.zeros((len(batch), encoder.width), np.float32)
        pixels = [one for one in prepared if not isinstance(one, ImageStatus)]
        if pixels:
            vectors[np.array(status) == ImageStatus.OK] = normalise(encoder.encode(np.stack(pixels)))
        return vectors, np.array(status, np.int8)

    def encode(start: int, stop: int, advance: Callable[[int], None]) -> tuple[Vectors, Status]:
        parts = []
        batches = [references[at : min(at + batch_size, stop)] for at in range(start, stop, batch_size)]
        for vectors, status in pool.map(encode_batch, batches):
            parts.append((vectors, status))
            advance(len(status))
        return np.concatenate([vectors for vectors, _ in parts]), np.concatenate([status for _, status in parts])

    return encode
