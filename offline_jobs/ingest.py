"""Ingest: a shop's folder in, clean interactions, items and users out, with a report that adds up.

Rows stream from the readers into staging files; duplicates go, an optional k-core thins the interactions, and
the three tables are written sorted: an item's or user's row position is its number in every later stage.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from offline_jobs.ingest_tables import (
    check_attributes,
    interaction_table,
    with_content_hash,
    with_review_hash,
    write_items,
    write_reviews,
)
from offline_jobs.quality_report import Counts, IngestReport, build_report, summary
from offline_jobs.quality_report_page import report_page
from offline_jobs.readers import Quarantine, Shop, clean_interactions, clean_items, open_shop
from offline_jobs.readers.quarantine import Table
from offline_jobs.readers.raw import RawBatch
from offline_jobs.row_order import ParquetSink
from service.errors import DataError
from training.stage import Stage, open_stage

log = logging.getLogger(__name__)

VERSION = 3


class IngestSettings(BaseModel):
    """How a shop's folder is read and cleaned."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    format: str = "auto"
    """Format of the folder: auto, table, fashion-week, amazon-2014, amazon-2018, amazon-2023 or inter."""
    k_core: int = Field(default=0, ge=0, le=1000)
    """Keep only users and items with at least this many partners among the kept ones; 0 keeps all. Items that
    fall out stay in the catalog, as cold items."""
    max_line_bytes: int = Field(default=1 << 20, ge=1024)
    """A longer line of a text file is refused (bytes)."""
    max_text_chars: int = Field(default=2000, ge=50)
    """Titles, descriptions, brands and categories are cut to this many characters."""
    max_review_chars: int = Field(default=500, ge=0)
    """Texts of reviews (title and body) are cut to this many characters; 0 leaves them out."""


class _Described(IngestSettings):
    """The settings and what else the outputs depend on, for the stage's fingerprint."""

    images_sha256: str
    """sha256 over the names of the pictures beside the data; their bytes matter to the image stage."""


def run_ingest(settings: IngestSettings, data: Path, work: Path) -> None:
    """Read the shop in `data` into `<work>/ingest`. Raises DataError where nothing usable is in it."""
    shop = open_shop(
        data, settings.format, max_line_bytes=settings.max_line_bytes, reviews=settings.max_review_chars > 0
    )
    names = "\n".join(sorted(shop.image_names)).encode("utf-8", "surrogateescape")
    described = _Described(**settings.model_dump(), images_sha256=hashlib.sha256(names).hexdigest())
    with open_stage(work, "ingest", version=VERSION, inputs=shop.files, settings=described) as stage:
        if stage.fresh:
            return
        report = _ingest(shop, settings, stage)
        (stage.out / "report.json").write_text(report.model_dump_json(indent=2))
        (stage.out / "report.html").write_text(report_page(report), encoding="utf-8")
        stage.count(
            interactions=report.interactions.kept,
            items=report.catalog.items,
            users=report.users,
            quarantined=sum(report.interactions.quarantined.values()) + sum(report.items.quarantined.values()),
        )
        Console(stderr=True, highlight=False, soft_wrap=True).print(summary(report), markup=False)


def _ingest(shop: Shop, settings: IngestSettings, stage: Stage) -> IngestReport:
    now = int(time.time())

    def clean(batch: RawBatch) -> pl.DataFrame:
        rows = clean_interactions(
            batch, quarantine, now=now, has_time=shop.has_time, max_review_chars=settings.max_review_chars
        )
        return with_review_hash(rows)

    with Quarantine(stage.out / "quarantine.jsonl") as quarantine:
        staged = stage.scratch / "interactions.parquet"
        _stage_rows(shop.interactions(quarantine), clean, staged, "reading interactions")
        if not staged.exists():
            raise _nothing_usable(shop, settings, quarantine)
        interactions, interaction_counts, conflicts = interaction_table(staged, settings.k_core, quarantine)
        if interactions.is_empty():
            raise _nothing_usable(shop, settings, quarantine)
        if shop.has_reviews:
            write_reviews(staged, interactions, stage.scratch / "reviews", stage.out / "reviews.parquet")
        interactions = interactions.drop("staged_row")
        _write(interactions, stage.out / "interactions.parquet")
        _write(interactions.select(pl.col("user_id").unique().sort()), stage.out / "users.parquet")
        staged.unlink()
        staged = stage.scratch / "items.parquet"
        _stage_rows(
            shop.items(quarantine),
            lambda batch: with_content_hash(clean_items(batch, quarantine, max_text_chars=settings.max_text_chars)),
            staged,
            "reading items",
        )
        bought = interactions["item_id"].unique()
        item_counts, more = write_items(
            staged, bought, quarantine, stage.scratch / "items", stage.out / "items.parquet"
        )
        check_attributes(stage.out / "items.parquet")
    counts = Counts(interaction_counts, item_counts, {"interactions": conflicts, "items": more})
    return build_report(shop, stage.out, interactions, counts, quarantine)


def _nothing_usable(shop: Shop, settings: IngestSettings, quarantine: Quarantine) -> DataError:
    return DataError(
        f"no usable interaction among {quarantine.rows_read['interactions']} rows{_worst(quarantine, 'interactions')}",
        where=", ".join(str(path) for path in shop.files.values()),
        todo="Check the format and the column mapping" + (", or a smaller k-core" if settings.k_core else ""),
    )


def _stage_rows(batches: Iterator[RawBatch], clean: Callable[[RawBatch], pl.DataFrame], path: Path, title: str) -> None:
    """Stream the clean rows of every batch into one Parquet file, which is left out where there is no batch."""
    columns = (SpinnerColumn(), TextColumn("{task.description}: {task.completed:,.0f} rows"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress, ParquetSink(path) as sink:
        task = progress.add_task(title, total=None)
        for batch in batches:
            sink.write(clean(batch))
            progress.advance(task, batch.frame.height)


def _write(frame: pl.DataFrame, path: Path) -> None:
    frame.write_parquet(path, compression="zstd", compression_level=3)


def _worst(quarantine: Quarantine, table: Table) -> str:
    """The most frequent reason, for an error message."""
    most = quarantine.refused[table].most_common(1)
    return f" ({json.dumps(most[0][0])}: {most[0][1]} rows)" if most else ""
