"""Item texts to 384-d vectors with a sentence-transformers model.

An item's text is its title, category, brand and description, in this order: what is cut at `max_tokens` is the end of
the description. Identical texts are encoded once. Texts are sorted by length, so a batch holds little padding, and cut
into shards that survive a kill. An item without any text is masked, never given a stand-in vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from pydantic import BaseModel, ConfigDict, Field

from offline_jobs.compute import DTYPES, Device, Precision, available_threads, resolve_compute
from offline_jobs.embedding_shards import (
    EncoderRecord,
    EncodeShard,
    Status,
    Vectors,
    encode_in_shards,
    normalise,
    write_embeddings,
)
from offline_jobs.torchvision_cpu import mend_torchvision
from offline_jobs.weights import SOURCES, combined_sha256, digest_weights, fetch_weights
from service.errors import DataError, StageError
from training.stage import open_stage, require
from training.threads import torch_threads

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

STAGE = "text_embeddings"
VERSION = 1
WIDTH = 384
TEXT_COLUMNS = ("title", "category", "brand", "description")
DEFAULT_MODEL = "all-MiniLM-L6-v2"
HUB_FILES = ("*.json", "*.txt", "*.model", "model*.safetensors", "*/model.safetensors")


class TextEmbeddingSettings(BaseModel):
    """How item texts are embedded."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str = DEFAULT_MODEL
    """A sentence-transformers model: a folder, a hub name, or all-MiniLM-L6-v2 from the package index."""
    max_tokens: int = Field(default=128, ge=8, le=8192)
    """Longest text, in tokens; the rest is cut off."""
    batch_size: int = Field(default=64, ge=1)
    """Texts encoded at once."""
    shard_size: int = Field(default=2048, ge=1)
    """Distinct texts a shard: what a killed run loses at most."""
    precision: Precision = "auto"
    """What the encoder computes in; auto is fp16 on CUDA, bf16 on a CPU that has it, else fp32."""
    device: Device = "auto"
    """Where the encoder runs; auto is CUDA where there is one."""
    threads: int = Field(default=0, ge=0, exclude=True)
    """CPU threads; 0 is all cores this process may use."""


class _Identity(TextEmbeddingSettings):
    resolved: str
    """Device and precision that auto came to: vectors of another precision are other vectors."""


def run_text_embeddings(settings: TextEmbeddingSettings, work: Path) -> None:
    """Write `<work>/text_embeddings/`: vectors.npy, present.npy, encoder.json; needs the ingest stage.

    Raises DataError where items.parquet lacks a column, StageError where the model cannot be had or used.
    """
    items = require(work, "ingest") / "items.parquet"
    folder = resolve_model(settings.model)
    device, precision = resolve_compute(settings.device, settings.precision)
    identity = _Identity(**dict(settings), resolved=f"{device} {precision}")
    inputs = {"items": items, "weights": folder}
    with open_stage(work, STAGE, version=VERSION, inputs=inputs, settings=identity) as stage:
        if stage.fresh:
            return
        texts, text_row = distinct_texts(read_texts(items))
        with torch_threads(available_threads(settings.threads)):
            encode = shard_encoder(load_model(folder, device, precision, settings.max_tokens), texts, settings)
            vectors, _ = encode_in_shards(
                stage.scratch,
                len(texts),
                width=WIDTH,
                shard_size=settings.shard_size,
                label="text embeddings",
                encode=encode,
            )
        encoder = _record(settings, folder, precision)
        present = write_embeddings(stage.out, vectors, text_row, encoder)
        absent = int((~present).sum())
        stage.count(items=len(present), present=len(present) - absent, no_text=absent, distinct_texts=len(texts))


def read_texts(items: Path) -> list[str]:
    """One text an item, in item_row order; empty where the item has none. White space is collapsed."""
    try:
        table = pl.read_parquet(items, columns=list(TEXT_COLUMNS))
    except pl.exceptions.ColumnNotFoundError as error:
        raise DataError(
            f"a text column is missing ({error})", where=str(items), todo="Run the ingest stage again"
        ) from error
    return [
        ". ".join(part for cell in row if cell and (part := " ".join(cell.split()).rstrip(".")))
        for row in table.select(TEXT_COLUMNS).iter_rows()
    ]


def distinct_texts(texts: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Each text that is not empty once, longest first (a batch too large for memory fails at once).

    Also (len(texts),) int64: each text's row in that list, -1 where it is empty.
    """
    distinct = sorted({text for text in texts if text}, key=lambda text: (-len(text), text))
    row_of = {text: row for row, text in enumerate(distinct)}
    return distinct, np.array([row_of.get(text, -1) for text in texts], np.int64)


def resolve_model(model: str) -> Path:
    """The model's folder: a path as it is, a pinned name from the package index, else a hub name's snapshot.

    Only safetensors weights are taken from the hub; no code of the model's repository is ever run.
    """
    if Path(model).is_dir():
        return Path(model)
    if model in SOURCES:
        return fetch_weights(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=list(HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise StageError(
            f"neither a folder, nor a pinned name, nor a hub model that can be reached ({type(error).__name__})",
            where=f"model {model}",
            todo=f"Give a folder's path, a hub name, or {DEFAULT_MODEL}",
        ) from error


def load_model(folder: Path, device: str, precision: str, max_tokens: int) -> SentenceTransformer:
    """The model in evaluation mode. Raises StageError where the folder holds no usable 384-d model."""
    mend_torchvision()
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    kwargs = {"dtype": DTYPES[precision], "use_safetensors": True}
    try:
        model = SentenceTransformer(str(folder), device=device, model_kwargs=kwargs, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise StageError(
            f"the text model cannot be loaded: {error}",
            where=str(folder),
            todo="It must be a sentence-transformers folder with safetensors weights",
        ) from error
    width = model.get_embedding_dimension()
    if width != WIDTH:
        raise StageError(
            f"the text model gives {width} numbers a text, the fusion takes {WIDTH}",
            where=str(folder),
            todo=f"Choose a {WIDTH}-d model, such as {DEFAULT_MODEL}",
        )
    model.max_seq_length = min(max_tokens, model.max_seq_length or max_tokens)
    return model.eval()


def shard_encoder(model: SentenceTransformer, texts: Sequence[str], settings: TextEmbeddingSettings) -> EncodeShard:
    """The function that encodes texts[start:stop], batch by batch, to float32 rows of length 1."""

    def encode(start: int, stop: int, advance: Callable[[int], None]) -> tuple[Vectors, Status]:
        parts = []
        for first in range(start, stop, settings.batch_size):
            batch = list(texts[first : min(first + settings.batch_size, stop)])
            with torch.inference_mode():
                rows = model.encode(batch, batch_size=settings.batch_size, show_progress_bar=False)
            parts.append(normalise(np.asarray(rows, np.float32)))
            advance(len(batch))
        return np.concatenate(parts), np.ones(stop - start, np.int8)

    return encode


def _record(settings: TextEmbeddingSettings, folder: Path, precision: str) -> EncoderRecord:
    files = digest_weights(folder)
    if settings.model in SOURCES:
        source = f"package {SOURCES[settings.model].requirement}"
    else:
        source = "local folder" if Path(settings.model).is_dir() else f"hub {settings.model}"
    return EncoderRecord(
        name=Path(settings.model).name,
        source=source,
        sha256=files.get("model.safetensors") or combined_sha256(files),
        width=WIDTH,
        precision=precision,
        input_size=settings.max_tokens,
    )
