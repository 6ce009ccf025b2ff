"""What ingest found: for a machine (`report.json`), for a person (`report.html`, and a summary on stderr)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, model_validator

from offline_jobs import quality_report_figures as figures
from offline_jobs.k_core import core_sizes
from offline_jobs.quality_report_figures import Figures
from offline_jobs.readers import Quarantine, Shop
from offline_jobs.readers.quarantine import Table

CORES = (2, 3, 5, 10)
REASONS_SHOWN = 40


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InteractionCounts(_Part):
    """What became of every interaction record; read = kept + duplicate + outside_k_core + quarantined."""

    read: int
    kept: int
    duplicate: int
    conflicting: int
    """Of the duplicates, those with another rating, label or text than the one that was kept."""
    outside_k_core: int
    quarantined: dict[str, int]
    """Refused records by reason."""

    @model_validator(mode="after")
    def _adds_up(self) -> InteractionCounts:
        accounted = self.kept + self.duplicate + self.outside_k_core + sum(self.quarantined.values())
        assert accounted == self.read, f"{accounted} interactions accounted for, {self.read} read"
        return self


class ItemCounts(_Part):
    """What became of every item record; read = kept + duplicate + quarantined."""

    read: int
    kept: int
    duplicate: int
    conflicting: int
    """Of the duplicates, those that say something else than the one that was kept."""
    quarantined: dict[str, int]
    dropped: dict[str, int]
    """Unreadable values by reason, of records that are kept without them."""
    only_in_interactions: int
    """Items that were bought but have no record: they are in the catalog with nulls, beyond `kept`."""

    @model_validator(mode="after")
    def _adds_up(self) -> ItemCounts:
        accounted = self.kept + self.duplicate + sum(self.quarantined.values())
        assert accounted == self.read, f"{accounted} items accounted for, {self.read} read"
        return self


class Conflict(_Part):
    """Two records of one key that disagree: what was kept of the first, and what of the later one was left out."""

    key: str
    field: str
    kept: str
    left_out: str


class Refused(_Part):
    """A refused record, as in quarantine.jsonl."""

    file: str
    line: int
    reason: str
    row: str


class CatalogReport(_Part):
    """The item table as it was written."""

    items: int
    cold: int
    """Items that nobody bought."""
    missing: dict[str, int]
    """Items without a title, description, brand, category, price, or image."""
    image_sources: dict[str, int]
    """Items with a picture in a file, in an archive, or known by a URL alone."""


class TimeReport(_Part):
    """First and last time stamp, unix seconds UTC, and the number of calendar days from one to the other."""

    first: int
    last: int
    days: int


class Core(_Part):
    """What a k-core of the kept interactions would hold; interactions are distinct (user, item) pairs."""

    k: int
    users: int
    items: int
    interactions: int


class IngestReport(_Part):
    """The whole report."""

    format: str
    files: dict[str, int]
    """Size in bytes of every file that was read."""
    interactions: InteractionCounts
    items: ItemCounts
    catalog: CatalogReport
    users: int
    distinct_pairs: int
    """Distinct (user, item) among the kept interactions."""
    user_degrees: dict[str, int]
    """Users by the number of distinct items they bought."""
    item_degrees: dict[str, int]
    """Bought items by the number of distinct users who bought them."""
    time: TimeReport | None
    """None where the data carries no times."""
    figures: Figures
    """The numbers behind the plots."""
    cores: list[Core]
    conflicts: dict[str, list[Conflict]]
    """Examples, by table."""
    refused: dict[str, list[Refused]]
    """Examples of every frequent reason, by table."""


@dataclass(frozen=True)
class Counts:
    """What became of the records, and examples of those that disagree, by table."""

    interactions: InteractionCounts
    items: ItemCounts
    conflicts: Mapping[Table, list[Conflict]]


def build_report(
    shop: Shop, out: Path, interactions: pl.DataFrame, counts: Counts, quarantine: Quarantine
) -> IngestReport:
    """Describe the tables as they were written into `out`."""
    pairs = interactions.select("user_id", "item_id").unique()
    degrees = {name: pairs.group_by(name).len()["len"] for name in ("user_id", "item_id")}
    items = out / "items.parquet"
    first, last = interactions.select(pl.col("timestamp").min().alias("a"), pl.col("timestamp").max().alias("b")).row(0)
    num_items = figures.height(items)
    return IngestReport(
        format=shop.format,
        files={name: path.stat().st_size for name, path in shop.files.items()},
        interactions=counts.interactions,
        items=counts.items,
        catalog=CatalogReport(
            items=num_items,
            cold=num_items - len(degrees["item_id"]),
            missing=figures.missing(items),
            image_sources=figures.image_sources(items),
        ),
        users=len(degrees["user_id"]),
        distinct_pairs=pairs.height,
        user_degrees=figures.degree_buckets(degrees["user_id"]),
        item_degrees=figures.degree_buckets(degrees["item_id"]),
        time=TimeReport(first=first, last=last, days=last // 86_400 - first // 86_400 + 1) if shop.has_time else None,
        figures=figures.figures(out, interactions, degrees, has_time=shop.has_time),
        cores=[Core(**size._asdict()) for size in core_sizes(pairs, CORES)],
        conflicts={table: examples for table, examples in counts.conflicts.items() if examples},
        refused={table: _refused(quarantine, table) for table in quarantine.refused},
    )


def summary(report: IngestReport) -> str:
    """A dozen lines that a person can read."""
    rows, items, catalog = report.interactions, report.items, report.catalog
    lines = [
        f"{report.format}: {', '.join(report.files)}",
        f"interactions  {rows.kept:>12,} kept of {rows.read:,}  "
        f"({rows.duplicate:,} duplicate, {rows.outside_k_core:,} outside the k-core, "
        f"{sum(rows.quarantined.values()):,} quarantined)",
        f"users         {report.users:>12,}  by distinct items: {_line(report.user_degrees)}",
        f"items         {catalog.items:>12,}  {catalog.cold:,} never bought, "
        f"{items.only_in_interactions:,} without a record, {sum(items.quarantined.values()):,} quarantined",
        f"                            by distinct users: {_line(report.item_degrees)}",
        f"missing       {_line(catalog.missing)}",
    ]
    if rows.conflicting or items.conflicting:
        lines.append(f"conflicts     {rows.conflicting + items.conflicting:>12,}  duplicates that say something else")
    if catalog.image_sources["url"]:
        lines.append(
            f"images        {catalog.image_sources['url']:>12,}  by URL alone: `plotpointe-jobs fetch-images`, "
            "or `run --fetch-images`, downloads them"
        )
    if report.time is not None:
        first, last = (datetime.fromtimestamp(t, UTC).date() for t in (report.time.first, report.time.last))
        lines.append(f"time          {first} to {last}, {report.time.days} days")
    for table, reasons in (("interactions", rows.quarantined), ("items", items.quarantined)):
        lines += [f"quarantined   {count:>12,}  {table}: {reason}" for reason, count in list(reasons.items())[:10]]
    lines += [f"left out      {count:>12,}  items: {reason}" for reason, count in items.dropped.items()]
    return "\n".join(lines)


def _refused(quarantine: Quarantine, table: Table) -> list[Refused]:
    frequent = [reason for reason, _ in quarantine.refused[table].most_common(REASONS_SHOWN)]
    return [Refused.model_validate(entry) for reason in frequent for entry in quarantine.examples[table][reason]]


def _line(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items() if count) or "none"
