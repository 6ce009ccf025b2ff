"""Stage `lexical_embeddings`: the words themselves, as TF-IDF of words and word pairs, reduced to a few dimensions.

A sentence encoder says what a text is about; it blurs which words were used, and with them a shop's own names: a
colour, a model line, a department. Both go into the model as content. An item without text has a zero row.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from offline_jobs.text_embeddings import read_texts
from training.stage import open_stage, require

log = logging.getLogger(__name__)

STAGE = "lexical_embeddings"
VERSION = 1


class LexicalEmbeddingSettings(BaseModel):
    """How the words of item texts become vectors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    dim: int = Field(default=192, ge=1)
    """Length of a vector."""
    max_terms: int = Field(default=60_000, ge=1)
    """Most words and word pairs that count, the most frequent first."""
    seed: int = 0
    """Seeds the reduction."""


def run_lexical_embeddings(settings: LexicalEmbeddingSettings, work: Path) -> None:
    """Write `<work>/lexical_embeddings/vectors.npy`, float32 (items, dim), unit rows; needs the ingest stage."""
    items = require(work, "ingest") / "items.parquet"
    with open_stage(work, STAGE, version=VERSION, inputs={"items": items}, settings=settings) as stage:
        if stage.fresh:
            return
        texts = read_texts(items)
        vectors, terms = embed(texts, settings)
        np.save(stage.out / "vectors.npy", vectors, allow_pickle=False)
        stage.count(items=len(texts), terms=terms, items_present=int(vectors.any(1).sum()))


def embed(texts: list[str], settings: LexicalEmbeddingSettings) -> tuple[npt.NDArray[np.float32], int]:
    """Unit vectors (n, dim), and how many terms they were made of; a text without known terms has a zero row."""
    out = np.zeros((len(texts), settings.dim), np.float32)
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, sublinear_tf=True, max_features=settings.max_terms, dtype=np.float32
    )
    try:
        weights = vectorizer.fit_transform(texts)
    except ValueError:  # scikit-learn's word for: no term is left
        return out, 0
    rank = min(settings.dim, weights.shape[1] - 1, weights.shape[0] - 1)
    if rank < 1:
        return out, weights.shape[1]
    reduced = TruncatedSVD(rank, random_state=settings.seed).fit_transform(weights)
    norm = np.linalg.norm(reduced, axis=1, keepdims=True)
    out[:, :rank] = np.where(norm > 1e-6, reduced / np.maximum(norm, 1e-6), 0.0)
    return out, weights.shape[1]
