"""The numbers of the quality report, read from the written tables column by column: texts are measured, never held."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict

from offline_jobs.readers.images import MEMBER
from offline_jobs.readers.raw import TEXT_FIELDS

BUCKETS = (1, 2, 5, 10, 20, 50, 100, 1000)
"""Lower ends of the degree buckets."""
DAYS_SHOWN = 120
"""A longer time span is counted by month."""
BARS = 40
RATINGS_SHOWN = 21
URL = r"^https?://"


class Histogram(BaseModel):
    """`counts[i]` values lie in [edges[i], edges[i + 1]), the last one's upper end included."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    edges: list[float]
    counts: list[int]
    median: float
    logarithmic: bool
    """Whether the bars are equally wide on a logarithmic scale, else on a linear one."""


class Figures(BaseModel):
    """The numbers behind the plots. A part is empty or None where the data has nothing of the kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    user_degrees: list[tuple[int, int]]
    """(distinct items, users who bought so many), ascending."""
    item_degrees: list[tuple[int, int]]
    """(distinct users, items bought by so many), ascending."""
    per_period: list[tuple[str, int]]
    """(day or month, interactions), without gaps, ascending."""
    ratings: list[tuple[float, int]]
    """(rating, interactions) where there are few distinct ones; else rounded."""
    text_lengths: dict[str, Histogram]
    """Characters of titles, descriptions and reviews."""
    prices: Histogram | None


def figures(out: Path, interactions: pl.DataFrame, degrees: dict[str, pl.Series], *, has_time: bool) -> Figures:
    """Measure the tables of `out`; `degrees` has a value for every user_id and item_id."""
    items = out / "items.parquet"
    lengths = {
        "title": _lengths(items, "title"),
        "description": _lengths(items, "description"),
        "review": _lengths(out / "reviews.parquet", "text") if (out / "reviews.parquet").exists() else None,
    }
    price = pl.read_parquet(items, columns=["price"])["price"].drop_nulls().to_numpy().astype(np.float64)
    return Figures(
        user_degrees=_distribution(degrees["user_id"]),
        item_degrees=_distribution(degrees["item_id"]),
        per_period=_per_period(interactions["timestamp"]) if has_time else [],
        ratings=_ratings(interactions),
        text_lengths={name: found for name, found in lengths.items() if found is not None},
        prices=histogram(price, logarithmic=True),
    )


def height(items: Path) -> int:
    """Rows of a Parquet file."""
    return int(pl.scan_parquet(items).select(pl.len()).collect().item())


def missing(items: Path) -> dict[str, int]:
    """Items without a value, by column."""
    names = (*TEXT_FIELDS, "price", "image")
    counts = [int(pl.read_parquet(items, columns=[name])[name].null_count()) for name in names]
    return dict(zip(names, counts, strict=True))


def image_sources(items: Path) -> dict[str, int]:
    """Items with a picture in a file, in an archive, or known by a URL alone."""
    images = pl.read_parquet(items, columns=["image"])["image"].drop_nulls()
    is_url = images.str.contains(URL)
    archive = int((images.str.contains(MEMBER, literal=True) & ~is_url).sum())
    url = int(is_url.sum())
    return {"file": len(images) - url - archive, "archive": archive, "url": url}


def degree_buckets(degree: pl.Series) -> dict[str, int]:
    """How many degrees lie in each of BUCKETS."""
    found = {}
    for low, end in zip(BUCKETS, [*BUCKETS[1:], None], strict=True):
        inside = (degree >= low) & (degree < end if end is not None else pl.Series([True]))
        name = f"{low}+" if end is None else str(low) if end == low + 1 else f"{low}-{end - 1}"
        found[name] = int(inside.sum())
    return found


def histogram(values: npt.NDArray[np.float64], *, logarithmic: bool) -> Histogram | None:
    """At most BARS bars: from the smallest value (.01 at least) to the largest, or of whole widths from zero."""
    if not len(values):
        return None
    if logarithmic:
        values = np.maximum(values, 0.01)
        low, high = float(values.min()), float(values.max())
        edges = np.geomspace(low, high if high > low else low * 2, BARS + 1)
        edges[0], edges[-1] = low, max(high, edges[-1])
    else:
        width = max(1, math.ceil((float(values.max()) + 1) / BARS))
        edges = np.arange(0, float(values.max()) + width + 1, width)
    counts, _ = np.histogram(values, edges)
    return Histogram(
        edges=edges.tolist(), counts=counts.tolist(), median=float(np.median(values)), logarithmic=logarithmic
    )


def _lengths(path: Path, column: str) -> Histogram | None:
    lengths = pl.scan_parquet(path).select(pl.col(column).str.len_chars()).collect(engine="streaming")[column]
    return histogram(lengths.drop_nulls().to_numpy().astype(np.float64), logarithmic=False)


def _distribution(degree: pl.Series) -> list[tuple[int, int]]:
    counts = degree.value_counts(name="number").sort(degree.name)
    return [(int(a), int(b)) for a, b in counts.iter_rows()]


def _per_period(timestamp: pl.Series) -> list[tuple[str, int]]:
    time = pl.from_epoch(timestamp, time_unit="s").alias("time").to_frame()
    days = time.select((pl.col("time").max().dt.date() - pl.col("time").min().dt.date()).dt.total_days()).item()
    unit, pattern = ("1d", "%Y-%m-%d") if days <= DAYS_SHOWN else ("1mo", "%Y-%m")
    counts = time.group_by(pl.col("time").dt.truncate(unit)).len().sort("time").upsample("time", every=unit)
    shown = counts.select(pl.col("time").dt.strftime(pattern), pl.col("len").fill_null(0))
    return [(str(a), int(b)) for a, b in shown.iter_rows()]


def _ratings(interactions: pl.DataFrame) -> list[tuple[float, int]]:
    if "rating" not in interactions.columns:
        return []
    rating = interactions["rating"].drop_nulls()
    if rating.n_unique() > RATINGS_SHOWN:
        low, high = float(str(rating.min())), float(str(rating.max()))
        step = (high - low) / (RATINGS_SHOWN - 1)
        rating = ((rating - low) / step).round() * step + low
    counts = rating.value_counts(name="number").sort("rating")
    return [(float(a), int(b)) for a, b in counts.iter_rows()]
