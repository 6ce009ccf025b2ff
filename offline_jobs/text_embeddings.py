"""Stage `text_embeddings`: item texts to vectors with a sentence-transformers model.

An item's text is its title, category, brand and description, in this order: what is cut at `max_tokens` is the end of
the description. Identical texts are encoded once. Texts are sorted by length, so a batch holds little padding, and cut
into shards that survive a kill. An item without any text is masked, never given a stand-in vector.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from offline_jobs.compute import Device, Precision, available_threads
from offline_jobs.embedding_shards import EncoderRecord, finish_shards, finished_shards, write_embeddings
from offline_jobs.item_texts import ALL_FIELDS, TextFields, distinct_texts, read_texts
from offline_jobs.text_encoders import Backend, Compute, load_encoder, resolve_backend, shard_encoder
from offline_jobs.text_model import DEFAULT_MODEL, TextTokenizer, resolve_model
from offline_jobs.weights import SOURCES, combined_sha256, digest_weights
from service.bundle.signatures import TEXT_DIM
from service.errors import StageError
from training.stage import open_stage, require
from training.threads import torch_threads

STAGE = "text_embeddings"
VERSION = 2


class TextEmbeddingSettings(BaseModel):
    """How item texts are embedded."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str = DEFAULT_MODEL
    """A sentence-transformers model (384-d): a folder, a hub name, or all-MiniLM-L6-v2 from the package index."""
    backend: Backend = "auto"
    """auto is onnx-int8 on a CPU for a model of the BERT family, else torch; encoder.json says what it came to."""
    fields: TextFields = ALL_FIELDS
    """The columns that make an item's text, in this order, with commas; what is cut at max_tokens is the end."""
    max_tokens: int = Field(default=128, ge=8, le=8192)
    """Longest text, in tokens; the rest is cut off."""
    batch_tokens: int = Field(default=0, ge=0)
    """Tokens encoded at once by a thread; 0 is what suits: 768 in onnxruntime, 1,024 in torch, 65,536 on CUDA."""
    shard_size: int = Field(default=4096, ge=1)
    """Distinct texts a shard: what a killed run loses at most."""
    precision: Precision = "auto"
    """What torch computes in; auto is fp16 on CUDA, bf16 on a CPU that has it, else fp32. Given, backend is torch."""
    device: Device = "auto"
    """Where the encoder runs; auto is CUDA where there is one."""
    threads: int = Field(default=0, ge=0, exclude=True)
    """CPU threads; 0 is all cores this process may use."""


class _Identity(TextEmbeddingSettings):
    resolved: str
    """Backend, device and precision that auto came to: vectors of another precision are other vectors."""


def run_text_embeddings(settings: TextEmbeddingSettings, work: Path) -> None:
    """Write `<work>/text_embeddings/`: vectors.npy, present.npy, encoder.json; needs the ingest stage.

    Raises DataError where items.parquet lacks a column, StageError where the model cannot be had or used, InputError
    where the settings contradict one another.
    """
    items = require(work, "ingest") / "items.parquet"
    folder = resolve_model(settings.model)
    compute = resolve_backend(settings.backend, folder, settings.device, settings.precision)
    identity = _Identity(**dict(settings), resolved=f"{compute.backend} {compute.device} {compute.precision}")
    inputs = {"items": items, "weights": folder}
    with open_stage(work, STAGE, version=VERSION, inputs=inputs, settings=identity) as stage:
        if stage.fresh:
            return
        texts, text_row = distinct_texts(read_texts(items, settings.fields))
        encode_texts(texts, folder, compute, settings, stage.scratch)
        shards = finished_shards(stage.scratch, len(texts), width=TEXT_DIM, shard_size=settings.shard_size)
        write_embeddings(stage.out, shards, text_row, _record(settings, folder, compute))
        present = int((text_row >= 0).sum())
        absent = len(text_row) - present
        stage.count(items=len(text_row), present=present, no_text=absent, distinct_texts=len(texts))


def encode_texts(
    texts: list[str], folder: Path, compute: Compute, settings: TextEmbeddingSettings, scratch: Path
) -> None:
    """Finish the shards of `texts` below `scratch`. Raises StageError for a model that is not 384-d or unusable."""
    tokenizer = TextTokenizer(folder, settings.max_tokens)
    encoder = load_encoder(folder, compute)
    if encoder.width != TEXT_DIM:
        raise StageError(
            f"the text model gives {encoder.width} numbers a text, the bundle takes {TEXT_DIM}",
            where=str(folder),
            todo=f"Choose a {TEXT_DIM}-d model, such as {DEFAULT_MODEL} or paraphrase-multilingual-MiniLM-L12-v2",
        )
    workers = available_threads(settings.threads) if compute.device == "cpu" else 1
    with torch_threads(1), ThreadPoolExecutor(workers) as pool:
        finish_shards(
            scratch,
            len(texts),
            width=TEXT_DIM,
            shard_size=settings.shard_size,
            label="text embeddings",
            encode=shard_encoder(encoder, tokenizer, texts, pool, settings.batch_tokens or compute.batch_tokens),
        )


def _record(settings: TextEmbeddingSettings, folder: Path, compute: Compute) -> EncoderRecord:
    files = digest_weights(folder)
    if settings.model in SOURCES:
        source = f"package {SOURCES[settings.model].requirement}"
    else:
        source = "local folder" if Path(settings.model).is_dir() else f"hub {settings.model}"
    return EncoderRecord(
        name=Path(settings.model).name,
        source=source,
        sha256=files.get("model.safetensors") or combined_sha256(files),
        width=TEXT_DIM,
        backend="onnxruntime" if compute.backend == "onnx" else "torch",
        precision=compute.precision,
        input_size=settings.max_tokens,
    )
