"""Item images to 512-d vectors; broken and missing ones are masked, never imputed.

Every image is read and hashed once: the digests decide whether the stage is fresh, and files with the same content are
encoded once. Then batches go through decoding, preprocessing and the encoder side by side, one a core, shard by shard.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import track

from offline_jobs.compute import Device, Precision, available_threads, resolve_compute
from offline_jobs.embedding_shards import (
    EncoderRecord,
    EncodeShard,
    Status,
    Vectors,
    encode_in_shards,
    normalise,
    write_embeddings,
)
from offline_jobs.image_encoders import (
    ARCHITECTURE,
    RESNET,
    SIDE,
    WIDTH,
    ClipEncoder,
    ClipWeights,
    ImageEncoder,
    Pixels,
    ResNetEncoder,
)
from offline_jobs.image_store import Bounds, ImageStatus, ImageStore, UnusableImageError, decode
from offline_jobs.weights import SOURCES, combined_sha256, digest_weights, fetch_weights
from service.errors import DataError, InputError
from training.stage import open_stage, require
from training.threads import torch_threads

STAGE = "image_embeddings"
VERSION = 1


class ImageEmbeddingSettings(BaseModel):
    """How item images are embedded."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    encoder: Literal["auto", "open_clip", "resnet18"] = "auto"
    """auto is open_clip's ViT-B/32 where clip_weights is given, else ResNet-18 from the package index."""
    clip_weights: str | None = None
    """ViT-B/32's weights: a .safetensors file, a hub name such as laion/CLIP-ViT-B-32-laion2B-s34B-b79K, or a tag."""
    resnet18_weights: Path | None = None
    """A folder with resnet18.onnx (and its .data file) for a machine without a package index."""
    batch_size: int = Field(default=32, ge=1)
    """Images encoded at once."""
    shard_size: int = Field(default=1024, ge=1)
    """Distinct images a shard: what a killed run loses at most."""
    precision: Precision = "auto"
    """What open_clip computes in; auto is fp16 on CUDA, bf16 on a CPU that has it, else fp32. ResNet-18 is fp32."""
    device: Device = "auto"
    """Where the encoder runs; auto is CUDA where there is one."""
    max_bytes: int = Field(default=32 << 20, ge=1)
    """Largest image file, in bytes; larger ones are masked."""
    max_pixels: int = Field(default=40_000_000, ge=1, le=80_000_000)
    """Largest image, width x height; larger ones are masked before a pixel is decoded."""
    threads: int = Field(default=0, ge=0, exclude=True)
    """CPU threads; 0 is all cores this process may use."""


class _Identity(ImageEmbeddingSettings):
    resolved: str
    """Encoder, device and precision that auto came to."""
    images_sha256: str
    """Over every item's image: its content's digest, or why there is none."""


@dataclass(frozen=True)
class Encoder:
    """An encoder that is chosen but not yet loaded: loading costs seconds, and a fresh stage needs none."""

    record: EncoderRecord
    weights: Path
    load: Callable[[], ImageEncoder]


def run_image_embeddings(settings: ImageEmbeddingSettings, data: Path, work: Path) -> None:
    """Write `<work>/image_embeddings/`: vectors.npy, present.npy, encoder.json; needs the ingest stage.

    `data` is the folder that the items' image references start from. Raises DataError where it or an archive is
    missing, InputError where the settings contradict one another, StageError where the encoder cannot be had.
    """
    items = require(work, "ingest") / "items.parquet"
    references = read_references(items)
    encoder = choose_encoder(settings)
    bounds = Bounds(max_bytes=settings.max_bytes, max_pixels=settings.max_pixels)
    if not data.is_dir():
        raise DataError("no such data folder", where=str(data), todo="Check the path")
    with ImageStore(data, bounds) as store, ThreadPoolExecutor(available_threads(settings.threads)) as pool:
        store.open_archives(references)
        digests = digest_images(store, references, pool)
        identity = _Identity(
            **dict(settings),
            resolved=f"{encoder.record.name} {encoder.record.precision}",
            images_sha256=hashlib.sha256("\n".join(map(str, digests)).encode()).hexdigest(),
        )
        inputs = {"items": items, "weights": encoder.weights}
        with open_stage(work, STAGE, version=VERSION, inputs=inputs, settings=identity) as stage:
            if stage.fresh:
                return
            distinct, image_row = distinct_images(references, digests)
            with torch_threads(1):
                encode = shard_encoder(encoder.load(), store, distinct, pool, settings.batch_size)
                vectors, status = encode_in_shards(
                    stage.scratch,
                    len(distinct),
                    width=WIDTH,
                    shard_size=settings.shard_size,
                    label="image embeddings",
                    encode=encode,
                )
            good = np.isin(image_row, np.flatnonzero(status == ImageStatus.OK))
            work_row = np.where(good, image_row, -1)
            present = write_embeddings(stage.out, vectors, work_row, encoder.record)
            stage.count(**count_reasons(digests, image_row, status))
            stage.count(items=len(present), present=int(present.sum()), distinct_images=len(distinct))


def read_references(items: Path) -> list[str | None]:
    """The items' image references, in item_row order."""
    try:
        return pl.read_parquet(items, columns=["image"])["image"].cast(pl.String).to_list()
    except pl.exceptions.ColumnNotFoundError as error:
        raise DataError("column 'image' is missing", where=str(items), todo="Run the ingest stage again") from error


def digest_images(
    store: ImageStore, references: Sequence[str | None], pool: ThreadPoolExecutor
) -> list[str | ImageStatus]:
    """For each reference the sha256 of its content, or why there is no content."""

    def digest(reference: str | None) -> str | ImageStatus:
        try:
            return hashlib.sha256(store.read(reference)).hexdigest()
        except UnusableImageError as error:
            return error.status

    found = pool.map(digest, references, chunksize=64)
    return list(track(found, "reading images", total=len(references), console=Console(stderr=True)))


def distinct_images(
    references: Sequence[str | None], digests: Sequence[str | ImageStatus]
) -> tuple[list[str], npt.NDArray[np.int64]]:
    """One reference for each distinct content, in order of its first item, and each item's row there (-1 without)."""
    row_of: dict[str, int] = {}
    distinct: list[str] = []
    rows = np.full(len(references), -1, np.int64)
    for item, (reference, digest) in enumerate(zip(references, digests, strict=True)):
        if isinstance(digest, ImageStatus) or reference is None:
            continue
        if digest not in row_of:
            row_of[digest] = len(distinct)
            distinct.append(reference)
        rows[item] = row_of[digest]
    return distinct, rows


def count_reasons(
    digests: Sequence[str | ImageStatus], image_row: npt.NDArray[np.int64], status: Status
) -> dict[str, float]:
    """Items by what became of their image, each reason named even where it is 0; adds up to all items."""
    seen = Counter(
        ImageStatus(status[row]) if not isinstance(digest, ImageStatus) else digest
        for digest, row in zip(digests, image_row, strict=True)
    )
    return {reason.name.lower(): seen[reason] for reason in ImageStatus}


def choose_encoder(settings: ImageEmbeddingSettings) -> Encoder:
    """The encoder that the settings name, its weights fetched where they must be. Raises InputError, StageError."""
    device, precision = resolve_compute(settings.device, settings.precision)
    if settings.encoder == "open_clip" and settings.clip_weights is None:
        raise InputError("open_clip needs weights", where="encoder", todo="Give clip_weights as a path or a hub name")
    if settings.encoder != "resnet18" and settings.clip_weights is not None:
        clip = ClipWeights(settings.clip_weights)
        record = _record(ARCHITECTURE, clip.source, clip.path, precision)
        return Encoder(record, clip.path, lambda: ClipEncoder(clip, device, precision))
    if settings.clip_weights is not None:
        raise InputError("clip_weights is given but encoder is resnet18", where="encoder", todo="Drop one of them")
    given = settings.resnet18_weights
    folder = given or fetch_weights(RESNET)
    record = _record(RESNET, "local folder" if given else f"package {SOURCES[RESNET].requirement}", folder, "fp32")
    return Encoder(record, folder, lambda: ResNetEncoder(folder, device))


def shard_encoder(
    encoder: ImageEncoder, store: ImageStore, references: Sequence[str], pool: ThreadPoolExecutor, batch_size: int
) -> EncodeShard:
    """The function that encodes references[start:stop]; what cannot be decoded gets a zero row and its status.

    Each of the pool's threads takes whole batches, from bytes to vectors, on one core: no thread waits for another
    inside a batch, and the vectors are the same for any number of threads.
    """

    def prepare(reference: str) -> Pixels | ImageStatus:
        try:
            return encoder.prepare(decode(store.read(reference), store.bounds, side=SIDE))
        except UnusableImageError as error:
            return error.status

    def encode_batch(batch: Sequence[str]) -> tuple[Vectors, Status]:
        prepared = [prepare(reference) for reference in batch]
        status = [one if isinstance(one, ImageStatus) else ImageStatus.OK for one in prepared]
        vectors = np.zeros((len(batch), WIDTH), np.float32)
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


def _record(name: str, source: str, weights: Path, precision: str) -> EncoderRecord:
    files = digest_weights(weights)
    sha256 = next(iter(files.values())) if len(files) == 1 else combined_sha256(files)
    return EncoderRecord(name=name, source=source, sha256=sha256, width=WIDTH, precision=precision, input_size=SIDE)
