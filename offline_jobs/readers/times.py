"""Columns with times in the many ways that shops write them, as unix seconds in UTC."""

from __future__ import annotations

import polars as pl

PATTERNS = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.fZ", "%Y/%m/%d")
"""What `auto` tries on text, in this order, after a plain number."""


WORDS = ("auto", "unix", "unix-ms")


def unix_seconds(frame: pl.DataFrame, name: str, pattern: str) -> pl.Expr:
    """Column `name` as float64 unix seconds: null where it is empty, NaN where it cannot be read.

    `pattern` is auto, unix (seconds), unix-ms, or a strptime pattern.
    """
    value = pl.col(name)
    dtype = frame.schema[name]
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        return value.dt.epoch("ms") / 1000.0
    if dtype == pl.String:
        value = value.str.strip_chars()
        value = pl.when(value != "").then(value)
    scale = 1000.0 if pattern == "unix-ms" else 1.0
    if pattern in WORDS:
        seconds = value.cast(pl.Float64, strict=False) / scale
    else:
        seconds = _parse(value.cast(pl.String), pattern)
    if pattern == "auto" and dtype == pl.String:
        seconds = pl.coalesce(seconds, *(_parse(value, each) for each in PATTERNS))
    return pl.when(value.is_not_null() & seconds.is_null()).then(pl.lit(float("nan"))).otherwise(seconds)


def check_pattern(pattern: str) -> str:
    """The pattern as it is. Raises ValueError for one that no time can be read with."""
    if pattern in WORDS:
        return pattern
    try:
        pl.DataFrame({"time": ["x"]}).select(_parse(pl.col("time"), pattern))
        readable = "%" in pattern
    except pl.exceptions.PolarsError:
        readable = False
    if not readable:
        raise ValueError(f"'{pattern}' is neither {', '.join(WORDS)} nor a strptime pattern")
    return pattern


def _parse(value: pl.Expr, pattern: str) -> pl.Expr:
    zone = "UTC" if "%z" in pattern or "%Z" in pattern else None
    return value.str.to_datetime(pattern, strict=False, time_unit="ms", time_zone=zone).dt.epoch("ms") / 1000.0
