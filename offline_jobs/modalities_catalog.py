"""Modalities that are columns of the catalogue: price, brand, category. Unit rows, zero where absent."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from offline_jobs.array_types import BoolArray, FloatArray
from training.stage import require

CODE = 64
"""Numbers of a name's code: random signs, so that any two names are nearly at right angles."""
OCTAVES = 4
WAVES = 2 * OCTAVES
PRICE_WIDTH = 2 * WAVES
RARE = 3
"""A brand of fewer items is taken as unknown: its code would be that of a few items, and learned from none."""
UNKNOWN = "\x00unknown"
PATH_SEPARATOR = " > "


def waves(x: FloatArray) -> FloatArray:
    """(n,) in [0, 1] to cosines and sines of 1, 2, 4, 8 half turns (n, 8): near values alike, far values not."""
    turns = np.pi * x[:, None] * 2.0 ** np.arange(OCTAVES)
    return np.concatenate([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)


def unit_rows(vectors: FloatArray, present: BoolArray) -> FloatArray:
    """Rows of length 1, float32; zero where absent."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: FloatArray = np.where(present[:, None], vectors / np.maximum(norms, 1e-12), 0.0).astype(np.float32)
    return unit


def code(name: str) -> FloatArray:
    """A name's CODE random signs: the same everywhere, whatever other names there are."""
    bits = np.unpackbits(np.frombuffer(hashlib.sha256(name.encode()).digest(), np.uint8))[:CODE]
    return bits.astype(np.float32) * 2 - 1


def price(work: Path) -> tuple[FloatArray, BoolArray] | None:
    """The price's logarithm within the shop, and its rank within the item's category, as waves (items, 16)."""
    items = _columns(work, "price", "category")
    given = items["price"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    present = np.isfinite(given) & (given > 0)
    if not present.any():
        return None
    logarithm = np.log(np.where(present, given, 1.0))
    low, high = np.quantile(logarithm[present], [0.01, 0.99])
    level = np.clip((logarithm - low) / max(high - low, 1e-9), 0, 1)
    ranked = pl.DataFrame({"category": items["category"], "price": np.where(present, given, np.nan)}).select(
        rank=pl.col("price").fill_nan(None).rank("average").over("category"),
        count=pl.col("price").fill_nan(None).count().over("category"),
    )
    rank = ((ranked["rank"] - 0.5) / ranked["count"]).cast(pl.Float64).fill_null(0.5).to_numpy()
    joined = np.concatenate([waves(level.astype(np.float32)), waves(rank.astype(np.float32))], axis=1)
    return unit_rows(joined, present), present


def brand(work: Path) -> tuple[FloatArray, BoolArray] | None:
    """The brand's code (items, 64); one code for all brands of fewer than RARE items, as for one never seen."""
    names = _columns(work, "brand")["brand"].str.strip_chars().str.to_lowercase().replace("", None)
    counts = names.value_counts().drop_nulls()
    common = set(counts.filter(pl.col("count") >= RARE)["brand"])
    return _coded(names, {name: [name if name in common else UNKNOWN] for name in counts["brand"]})


def category(work: Path) -> tuple[FloatArray, BoolArray] | None:
    """The codes of the category and of each step of its path `a > b > c`, added (items, 64)."""
    names = _columns(work, "category")["category"].str.strip_chars().replace("", None)
    return _coded(names, {name: _path(name) for name in names.unique().drop_nulls()})


def _path(name: str) -> list[str]:
    steps = name.split(PATH_SEPARATOR)
    return [PATH_SEPARATOR.join(steps[:depth]) for depth in range(1, len(steps) + 1)]


def _coded(
    names: pl.Series, parts: dict[str, Sequence[str]] | dict[str, list[str]]
) -> tuple[FloatArray, BoolArray] | None:
    if not parts:
        return None
    codes = {name: np.sum([code(part) for part in given], axis=0) for name, given in parts.items()}
    table = np.stack([np.zeros(CODE, np.float32), *codes.values()])
    place = {name: row for row, name in enumerate(codes, start=1)}
    row = names.replace_strict(place, default=0, return_dtype=pl.Int64).fill_null(0).to_numpy()
    return unit_rows(table, np.ones(len(table), np.bool_))[row], row > 0


def _columns(work: Path, *names: str) -> pl.DataFrame:
    return pl.read_parquet(require(work, "ingest") / "items.parquet", columns=list(names))
