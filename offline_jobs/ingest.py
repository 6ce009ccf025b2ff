"""Ingest: a shop's folder in, clean interactions, items and users out, with a report that adds up.

Rows stream from the readers into staging files; duplicates go, an optional k-core thins the interactions, and
the three tables are written sorted: an item's or user's row position is its number in every later stage.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from offline_jobs.k_core import k_core
from offline_jobs.quality_report import IngestReport, InteractionCounts, ItemCounts, build_report, summary
from offline_jobs.readers import Quarantine, Shop, clean_interactions, clean_items, open_shop
from offline_jobs.readers.quarantine import Table
from offline_jobs.readers.raw import INTERACTION_SCHEMA, ITEM_SCHEMA, RawBatch
from service.errors import DataError
from training.stage import Stage, open_stage

log = logging.getLogger(__name__)

VERSION = 1


class IngestSettings(BaseModel):
    """How a shop's folder is read and cleaned."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    format: str = "auto"
    """Format of the folder: auto, table, fashion-week, amazon-2014 or inter."""
    k_core: int = Field(default=0, ge=0, le=1000)
    """Keep only users and items with at least this many partners among the kept ones; 0 keeps all. Items that
    fall out stay in the catalog, as cold items."""
    max_line_bytes: int = Field(default=1 << 20, ge=1024)
    """A longer line of a text file is refused (bytes)."""
    max_text_chars: int = Field(default=2000, ge=50)
    """Titles, descriptions, brands and categories are cut to this many characters."""


class _Described(IngestSettings):
    """The settings and what else the outputs depend on, for the stage's fingerprint."""

    images_sha256: str
    """sha256 over the names of the pictures beside the data; their bytes matter to the image stage."""


def run_ingest(settings: IngestSettings, data: Path, work: Path) -> None:
    """Read the shop in `data` into `<work>/ingest`. Raises DataError where nothing usable is in it."""
    shop = open_shop(data, settings.format, max_line_bytes=settings.max_line_bytes)
    names = "\n".join(sorted(shop.image_names)).encode("utf-8", "surrogateescape")
    described = _Described(**settings.model_dump(), images_sha256=hashlib.sha256(names).hexdigest())
    with open_stage(work, "ingest", version=VERSION, inputs=shop.files, settings=described) as stage:
        if stage.fresh:
            return
        report = _ingest(shop, settings, stage)
        (stage.out / "report.json").write_text(report.model_dump_json(indent=2))
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
        return clean_interactions(batch, quarantine, now=now, has_time=shop.has_time)

    with Quarantine(stage.out / "quarantine.jsonl") as quarantine:
        staged = stage.scratch / "interactions.parquet"
        _stage_rows(shop.interactions(quarantine), clean, staged, "reading interactions")
        interactions, interaction_counts = _interactions(staged, settings.k_core, quarantine)
        if interactions.is_empty():
            raise DataError(
                f"no usable interaction among {quarantine.rows_read['interactions']} rows"
                f"{_worst(quarantine, 'interactions')}",
                where=", ".join(str(path) for path in shop.files.values()),
                todo="Check the format and the column mapping" + (", or a smaller k-core" if settings.k_core else ""),
            )
        _write(interactions, stage.out / "interactions.parquet")
        users = interactions.select(pl.col("user_id").unique().sort())
        _write(users, stage.out / "users.parquet")
        staged = stage.scratch / "items.parquet"
        _stage_rows(
            shop.items(quarantine),
            lambda batch: clean_items(batch, quarantine, max_text_chars=settings.max_text_chars),
            staged,
            "reading items",
        )
        items, item_counts = _items(staged, interactions, quarantine)
        _write(items, stage.out / "items.parquet")
    return build_report(shop, interactions, items, users.height, interaction_counts, item_counts)


def _stage_rows(batches: Iterator[RawBatch], clean: Callable[[RawBatch], pl.DataFrame], path: Path, title: str) -> None:
    """Stream the clean rows of every batch into one Parquet file, which is left out where there is no batch."""
    path.unlink(missing_ok=True)
    writer = None
    columns = (SpinnerColumn(), TextColumn("{task.description}: {task.completed:,.0f} rows"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=None)
        try:
            for batch in batches:
                table = clean(batch).to_arrow()
                writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd", compression_level=1)
                writer.write_table(table)
                progress.advance(task, batch.frame.height)
        finally:
            if writer is not None:
                writer.close()


def _read_staged(path: Path, schema: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    return pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=dict(schema))


def _interactions(staged: Path, k: int, quarantine: Quarantine) -> tuple[pl.DataFrame, InteractionCounts]:
    """Sorted by (timestamp, user_id, item_id), each (user, item, time) once, and what became of every row."""
    rows = _read_staged(staged, INTERACTION_SCHEMA)
    key = ["timestamp", "user_id", "item_id"]
    # Of equal rows with different labels the lowest stays: training keeps what a test would leak.
    by = [*key, "label"] if "label" in rows.columns else key
    once = rows.sort(by).unique(key, keep="first", maintain_order=True)
    kept = once.filter(k_core(once, k)) if k else once
    counts = InteractionCounts(
        read=quarantine.rows_read["interactions"],
        kept=kept.height,
        duplicate=rows.height - once.height,
        outside_k_core=once.height - kept.height,
        quarantined=dict(quarantine.refused["interactions"].most_common()),
    )
    return kept, counts


def _items(staged: Path, interactions: pl.DataFrame, quarantine: Quarantine) -> tuple[pl.DataFrame, ItemCounts]:
    """One row an item, sorted by id; an item seen only in interactions gets nulls. The first of equals stays."""
    rows = _read_staged(staged, ITEM_SCHEMA).with_columns(pl.col("price").cast(pl.Float32))
    once = rows.unique("item_id", keep="first", maintain_order=True)
    unknown = interactions.select("item_id").unique().join(once, on="item_id", how="anti")
    items = pl.concat([once, unknown], how="diagonal").sort("item_id")
    counts = ItemCounts(
        read=quarantine.rows_read["items"],
        kept=once.height,
        duplicate=rows.height - once.height,
        quarantined=dict(quarantine.refused["items"].most_common()),
        only_in_interactions=unknown.height,
    )
    return items, counts


def _write(frame: pl.DataFrame, path: Path) -> None:
    frame.write_parquet(path, compression="zstd", compression_level=3)


def _worst(quarantine: Quarantine, table: Table) -> str:
    """The most frequent reason, for an error message."""
    most = quarantine.refused[table].most_common(1)
    return f" ({json.dumps(most[0][0])}: {most[0][1]} rows)" if most else ""
