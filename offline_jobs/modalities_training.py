"""Modalities that shoppers made, from the training split's interactions alone: ratings and reviews.

A held-out interaction's rating or review is never read into a vector: not its value, not its presence, not its count.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

from offline_jobs.array_types import BoolArray, FloatArray
from offline_jobs.modalities_catalog import WAVES, unit_rows, waves
from training.dataset import TRAIN, load_interactions
from training.stage import require

RATING_WIDTH = 2 * WAVES
REVIEW_WIDTH = 64
PRIOR = 5.0
"""An item's mean rating counts as if so many ratings of the shop's mean had come before."""
REVIEWS_AN_ITEM = 8
"""The newest so many training reviews of an item are read."""
TERMS = 2**15
BATCH = 20_000


def rating(work: Path) -> tuple[FloatArray, BoolArray] | None:
    """Mean and number of an item's training ratings as waves (items, 16). None where the format has no ratings."""
    path = require(work, "ingest") / "interactions.parquet"
    if "rating" not in pl.read_parquet_schema(path):
        return None
    given = pl.read_parquet(path, columns=["rating"])["rating"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    rows = load_interactions(work)
    counted = np.isfinite(given) & (rows.split == TRAIN)
    if not counted.any():
        return None
    item, stars = rows.item_row[counted], given[counted]
    count = np.bincount(item, minlength=rows.num_items)
    total = np.bincount(item, weights=stars, minlength=rows.num_items)
    mean = (total + PRIOR * stars.mean()) / (count + PRIOR)
    low, high = stars.min(), stars.max()
    level = (mean - low) / max(high - low, 1e-9)
    many = np.log1p(count) / np.log1p(count.max())
    present = count > 0
    joined = np.concatenate([waves(level.astype(np.float32)), waves(many.astype(np.float32))], axis=1)
    return unit_rows(joined, present), present


def reviews(work: Path) -> tuple[FloatArray, BoolArray] | None:
    """TF-IDF of an item's newest training reviews, reduced (items, 64). None where the format has no reviews.

    The texts are streamed; what is in memory is a batch of them and the items' counts of terms.
    """
    path = require(work, "ingest") / "reviews.parquet"
    if not path.exists():
        return None
    rows = load_interactions(work)
    wanted = newest(rows.item_row, rows.timestamp, rows.split == TRAIN, _numbers(path))
    counts = _term_counts(path, rows.item_row, wanted, rows.num_items)
    used = np.flatnonzero(np.diff(counts.indptr))
    rank = min(REVIEW_WIDTH, len(used) - 1)
    if rank < 1:
        return None
    weights = TfidfTransformer(sublinear_tf=True).fit_transform(counts[used])
    reduced = TruncatedSVD(rank, n_iter=3, random_state=0).fit_transform(weights)
    vectors = np.zeros((rows.num_items, REVIEW_WIDTH), np.float32)
    vectors[used, :rank] = reduced
    present = np.linalg.norm(vectors, axis=1) > 1e-6
    return unit_rows(vectors, present), present


def newest(
    item_row: npt.NDArray[np.int32],
    timestamp: npt.NDArray[np.int64],
    allowed: BoolArray,
    numbers: npt.NDArray[np.int64],
) -> BoolArray:
    """Which interactions (rows,) are read: of those in `numbers` and `allowed` the newest REVIEWS_AN_ITEM an item."""
    numbers = numbers[allowed[numbers]]
    order = numbers[np.lexsort((-numbers, -timestamp[numbers], item_row[numbers]))]
    items = item_row[order]
    place = np.arange(len(order)) - np.searchsorted(items, items, side="left")
    wanted = np.zeros(len(item_row), np.bool_)
    wanted[order[place < REVIEWS_AN_ITEM]] = True
    return wanted


def _numbers(path: Path) -> npt.NDArray[np.int64]:
    return pl.read_parquet(path, columns=["interaction_row"])["interaction_row"].to_numpy().astype(np.int64)


def _term_counts(path: Path, item_row: npt.NDArray[np.int32], wanted: BoolArray, num_items: int) -> sp.csr_matrix:
    """How often each hashed term stands in an item's wanted reviews: (items, TERMS)."""
    vectorizer = HashingVectorizer(
        n_features=TERMS, alternate_sign=False, norm=None, dtype=np.float32, stop_words="english"
    )
    total = sp.csr_matrix((num_items, TERMS), dtype=np.float32)
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH, columns=["interaction_row", "text"]):
            number = batch.column("interaction_row").to_numpy()
            kept = wanted[number]
            if not kept.any():
                continue
            texts = [text or "" for text, keep in zip(batch.column("text").to_pylist(), kept, strict=True) if keep]
            of_item = sp.csr_matrix(
                (np.ones(len(texts), np.float32), (item_row[number[kept]], np.arange(len(texts)))),
                (num_items, len(texts)),
            )
            total = total + of_item @ vectorizer.transform(texts)
    return total
