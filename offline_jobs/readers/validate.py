"""The one schema: which rows are let in. Vectorised over a batch; every refusal has a reason in words.

The same rules for every format, so a shop that moves from CSV to Parquet meets no surprise.
"""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from offline_jobs.readers.quarantine import Quarantine, Table
from offline_jobs.readers.raw import ITEM_SCHEMA, TEXT_FIELDS, RawBatch, attribute_columns

EARLIEST = int(datetime(1995, 1, 1, tzinfo=UTC).timestamp())
"""Unix seconds; no online shop has an older purchase."""
DAY = 86_400
HTML = {"<br />": " ", "<br/>": " ", "<br>": " ", "&#34;": '"', "&quot;": '"', "&#39;": "'", "&amp;": "&"}
"""What reviews are full of."""
MAX_ID_BYTES = 256
MAX_PRICE = 1e9
MAX_RATING = 1e6
MAX_ATTRIBUTE_CHARS = 200
BLANKS = r"[\s\x00-\x1f\x7f]{2,}|[[\s\x00-\x1f\x7f]--[ ]]"
"""What becomes one space. A single space is left out: it would be found in every text, only to stay as it is."""


def clean_interactions(
    batch: RawBatch, quarantine: Quarantine, *, now: int, has_time: bool, max_review_chars: int = 500
) -> pl.DataFrame:
    """Rows that pass: user_id str, item_id str, timestamp int64, and where there are such label int8, rating float32
    and review str, as one line, cut to `max_review_chars`, null where it is blank.

    `now` is unix seconds; a time stamp more than a day later is refused. Without times, all stamps are 0.
    """
    frame = batch.frame
    reasons = [*_id_reasons("user_id"), *_id_reasons("item_id")]
    if has_time:
        reasons += _time_reasons(now)
    if "label" in frame.columns:
        reasons.append(_reason(~pl.col("label").is_in([0.0, 1.0, 2.0]).fill_null(False), "label is not 0, 1 or 2"))
    if "rating" in frame.columns:
        rating = pl.col("rating")
        reasons.append(_reason(~(rating.abs() <= MAX_RATING).fill_null(True), "rating is not a number"))
    kept = _let_in(batch, "interactions", reasons, quarantine)
    stamp = pl.col("timestamp").floor().cast(pl.Int64) if has_time else pl.lit(0, pl.Int64).alias("timestamp")
    columns = [pl.col("user_id"), pl.col("item_id"), stamp]
    if "label" in frame.columns:
        columns.append(pl.col("label").cast(pl.Int8))
    if "rating" in frame.columns:
        columns.append(pl.col("rating").cast(pl.Float32))
    if "review" in frame.columns:
        columns.append(_tidy_review(pl.col("review"), max_review_chars).alias("review"))
    return kept.select(columns)


def clean_items(batch: RawBatch, quarantine: Quarantine, *, max_text_chars: int) -> pl.DataFrame:
    """Rows that pass, as in ITEM_SCHEMA but price float32; texts trimmed, blank is null, cut to `max_text_chars`.

    Attributes likewise, cut to MAX_ATTRIBUTE_CHARS.
    """
    price = pl.col("price")
    reasons = [
        *_id_reasons("item_id"),
        _reason(price.is_nan() | price.is_infinite(), "price is not a finite number"),
        _reason(price < 0, "price is negative"),
        _reason(price > MAX_PRICE, f"price is above {MAX_PRICE:.0e}"),
    ]
    kept = _let_in(batch, "items", reasons, quarantine)
    texts = [_tidy(pl.col(name), max_text_chars).alias(name) for name in TEXT_FIELDS]
    attributes = attribute_columns(kept.columns)
    texts += [_tidy(pl.col(name), MAX_ATTRIBUTE_CHARS).alias(name) for name in attributes]
    return kept.with_columns(*texts, price.cast(pl.Float32)).select(*ITEM_SCHEMA, *attributes)


def _let_in(batch: RawBatch, table: Table, reasons: list[pl.Expr], quarantine: Quarantine) -> pl.DataFrame:
    verdict = batch.frame.select(pl.coalesce(reasons).alias("reason"))["reason"]
    for row in verdict.is_not_null().arg_true().to_list():
        quarantine.refuse(table, batch.file, batch.lines(row), verdict[row], batch.text(row))
    return batch.frame.filter(verdict.is_null())


def _reason(refused: pl.Expr, reason: str) -> pl.Expr:
    return pl.when(refused).then(pl.lit(reason))


def _id_reasons(name: str) -> list[pl.Expr]:
    value = pl.col(name)
    return [
        _reason(value.is_null() | (value.str.strip_chars() == ""), f"{name} is missing"),
        _reason(value.str.len_bytes() > MAX_ID_BYTES, f"{name} is longer than {MAX_ID_BYTES} bytes"),
        _reason(value.str.contains(r"[\x00-\x1f\x7f]"), f"{name} holds control characters"),
    ]


def _time_reasons(now: int) -> list[pl.Expr]:
    stamp = pl.col("timestamp")
    return [
        _reason(stamp.is_null(), "timestamp is missing"),
        _reason(stamp.is_nan(), "timestamp cannot be read"),
        _reason(stamp < EARLIEST, "timestamp is before 1995"),
        _reason((stamp / 1000).is_between(EARLIEST, now + DAY), "timestamp is in milliseconds, not seconds"),
        _reason(stamp > now + DAY, "timestamp is in the future"),
    ]


def _tidy_review(text: pl.Expr, max_chars: int) -> pl.Expr:
    """As `_tidy`, with HTML's line breaks and quotes as characters; nothing after twice the length is looked at."""
    head = text.str.strip_chars_start().str.slice(0, 2 * max_chars)
    return _tidy(head.str.replace_many(HTML), max_chars)


def _tidy(text: pl.Expr, max_chars: int) -> pl.Expr:
    """One line, no control characters, trimmed and cut; blank becomes null."""
    flat = text.str.replace_all(BLANKS, " ").str.strip_chars().str.slice(0, max_chars)
    return pl.when(flat != "").then(flat)
