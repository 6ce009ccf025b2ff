"""The pictures that `fetch-images` brought home: which file of `<work>/images/` holds the picture of which URL.

Reads `ledger.parquet`: url, state (ok, refused or failed), file, sha256. Its other columns are the download's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from service.errors import DataError

STAGE = "images"
LEDGER = "ledger.parquet"
STATES = ("ok", "refused", "failed")
COLUMNS = {"url": pl.String, "state": pl.String, "file": pl.String, "sha256": pl.String}


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one URL."""

    state: str
    """`ok`, `refused` (not an image we take, or not a host we ask) or `failed` (no answer worth having)."""
    file: str | None
    """Where it is below `<work>/images/`; None unless ok."""
    sha256: str | None
    """Of the file's content, in hex; None unless ok."""


def read_ledger(images: Path) -> dict[str, Fetched]:
    """URL to what became of it, from the finished stage's folder. Raises DataError where the ledger is not one."""
    path = images / LEDGER
    try:
        ledger = pl.read_parquet(path, columns=list(COLUMNS)).select(list(COLUMNS)).cast(COLUMNS)  # type: ignore[arg-type]
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"not a ledger of fetched images ({error})", where=str(path), todo=_AGAIN) from error
    odd = ledger.filter(
        ~pl.col("state").is_in(STATES)
        | pl.col("url").is_null()
        | ((pl.col("state") == "ok") & (pl.col("file").is_null() | pl.col("sha256").is_null()))
    )
    if len(odd):
        raise DataError(f"{len(odd)} rows make no sense, such as {odd.row(0)}", where=str(path), todo=_AGAIN)
    return {url: Fetched(state, file, sha256) for url, state, file, sha256 in ledger.unique("url").iter_rows()}


_AGAIN = "Run `plotpointe-jobs fetch-images` again"
