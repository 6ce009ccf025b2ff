"""Stage `lexical_embeddings`: the words themselves, as TF-IDF of words and word pairs, reduced to a few dimensions.

A sentence encoder says what a text is about; it blurs which words were used, and with them a shop's own names: a
colour, a model line, a department. Both go into the model as content. An item without text has a zero row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy import sparse

from offline_jobs.compute import available_threads
from offline_jobs.item_texts import ALL_FIELDS, TextFields, read_texts
from offline_jobs.lexical_terms import tfidf
from offline_jobs.sparse_svd import leading_directions
from training.stage import open_stage, require

STAGE = "lexical_embeddings"
VERSION = 2
BLOCK = 16_384
"""Items reduced at once."""


class LexicalEmbeddingSettings(BaseModel):
    """How the words of item texts become vectors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    dim: int = Field(default=192, ge=1)
    """Length of a vector."""
    max_terms: int = Field(default=60_000, ge=1)
    """Most words and word pairs that count, the most frequent first."""
    fields: TextFields = ALL_FIELDS
    """The columns that make an item's text, with commas between."""
    fit_items: int = Field(default=120_000, ge=1)
    """The reduction is fitted on about so many items with text at most, evenly spread, and applied to all."""
    seed: int = 0
    """Seeds the reduction."""
    threads: int = Field(default=0, ge=0, exclude=True)
    """CPU threads; 0 is all cores this process may use."""


def run_lexical_embeddings(settings: LexicalEmbeddingSettings, work: Path) -> None:
    """Write `<work>/lexical_embeddings/vectors.npy`, float32 (items, dim), unit rows; needs the ingest stage."""
    items = require(work, "ingest") / "items.parquet"
    with open_stage(work, STAGE, version=VERSION, inputs={"items": items}, settings=settings) as stage:
        if stage.fresh:
            return
        weights = tfidf(read_texts(items, settings.fields), settings.max_terms)
        shape = (weights.shape[0], settings.dim)
        out = np.lib.format.open_memmap(stage.out / "vectors.npy", mode="w+", dtype=np.float32, shape=shape)
        present = reduce(weights, settings, out)
        out.flush()
        stage.count(items=shape[0], terms=weights.shape[1], items_present=present)


def embed(texts: list[str], settings: LexicalEmbeddingSettings) -> tuple[npt.NDArray[np.float32], int]:
    """Unit vectors (n, dim), and how many terms they were made of; a text without known terms has a zero row."""
    weights = tfidf(texts, settings.max_terms)
    out = np.zeros((len(texts), settings.dim), np.float32)
    reduce(weights, settings, out)
    return out, weights.shape[1]


def reduce(weights: sparse.csr_matrix, settings: LexicalEmbeddingSettings, out: npt.NDArray[np.float32]) -> int:
    """Fill `out` (n, dim), zeros before, with unit rows along the leading directions; returns how many are not zero."""
    directions = fitted_directions(weights, settings)
    rank, present = directions.shape[1], 0
    for start in range(0, len(out) if rank else 0, BLOCK):
        reduced = weights[start : start + BLOCK] @ directions
        length = np.linalg.norm(reduced, axis=1, keepdims=True)
        out[start : start + BLOCK, :rank] = np.where(length > 1e-6, reduced / np.maximum(length, 1e-6), 0)
        present += int((length > 1e-6).sum())
    return present


def fitted_directions(weights: sparse.csr_matrix, settings: LexicalEmbeddingSettings) -> npt.NDArray[np.float32]:
    """(terms, rank): the leading directions of `fit_items` rows; rank is less than dim where there is too little."""
    fitted = np.flatnonzero(np.diff(weights.indptr))
    fitted = fitted[:: -(-len(fitted) // settings.fit_items) or 1]
    rank = min(settings.dim, weights.shape[1] - 1, len(fitted) - 1)
    if rank < 1:
        return np.zeros((weights.shape[1], 0), np.float32)
    threads = available_threads(settings.threads)
    return leading_directions(weights[fitted], rank, seed=settings.seed, threads=threads)
