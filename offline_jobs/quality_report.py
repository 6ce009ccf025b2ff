"""What ingest found, for a machine (`report.json`) and for a person (a summary on stderr)."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
from pydantic import BaseModel, ConfigDict, model_validator

from offline_jobs.readers import Shop
from offline_jobs.readers.images import MEMBER
from offline_jobs.readers.raw import TEXT_FIELDS

BUCKETS = (1, 2, 5, 10, 20, 50, 100, 1000)
"""Lower ends of the degree buckets."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InteractionCounts(_Part):
    """What became of every interaction record; read = kept + duplicate + outside_k_core + quarantined."""

    read: int
    kept: int
    duplicate: int
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
    quarantined: dict[str, int]
    only_in_interactions: int
    """Items that were bought but have no record: they are in the catalog with nulls, beyond `kept`."""

    @model_validator(mode="after")
    def _adds_up(self) -> ItemCounts:
        accounted = self.kept + self.duplicate + sum(self.quarantined.values())
        assert accounted == self.read, f"{accounted} items accounted for, {self.read} read"
        return self


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


def build_report(
    shop: Shop,
    interactions: pl.DataFrame,
    items: pl.DataFrame,
    users: int,
    interaction_counts: InteractionCounts,
    item_counts: ItemCounts,
) -> IngestReport:
    """Describe the tables as they were written."""
    pairs = interactions.select("user_id", "item_id").unique()
    bought = pairs["item_id"].n_unique()
    first, last = interactions.select(pl.col("timestamp").min().alias("a"), pl.col("timestamp").max().alias("b")).row(0)
    return IngestReport(
        format=shop.format,
        files={name: path.stat().st_size for name, path in shop.files.items()},
        interactions=interaction_counts,
        items=item_counts,
        catalog=CatalogReport(
            items=items.height,
            cold=items.height - bought,
            missing={name: items[name].null_count() for name in (*TEXT_FIELDS, "price", "image")},
            image_sources=_image_sources(items["image"].drop_nulls()),
        ),
        users=users,
        distinct_pairs=pairs.height,
        user_degrees=_degrees(pairs, "user_id"),
        item_degrees=_degrees(pairs, "item_id"),
        time=TimeReport(first=first, last=last, days=last // 86_400 - first // 86_400 + 1) if shop.has_time else None,
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
    if report.time is not None:
        first, last = (datetime.fromtimestamp(t, UTC).date() for t in (report.time.first, report.time.last))
        lines.append(f"time          {first} to {last}, {report.time.days} days")
    for table, reasons in (("interactions", rows.quarantined), ("items", items.quarantined)):
        lines += [f"quarantined   {count:>12,}  {table}: {reason}" for reason, count in list(reasons.items())[:10]]
    return "\n".join(lines)


def _degrees(pairs: pl.DataFrame, name: str) -> dict[str, int]:
    degree = pairs.group_by(name).len()["len"]
    ends = [*BUCKETS[1:], None]
    found = {}
    for low, end in zip(BUCKETS, ends, strict=True):
        inside = (degree >= low) & (degree < end if end is not None else pl.Series([True]))
        name_of_bucket = f"{low}+" if end is None else str(low) if end == low + 1 else f"{low}-{end - 1}"
        found[name_of_bucket] = int(inside.sum())
    return found


def _image_sources(images: pl.Series) -> dict[str, int]:
    url = int(images.str.contains(r"^https?://").sum())
    archive = int((images.str.contains(MEMBER, literal=True) & ~images.str.contains(r"^https?://")).sum())
    return {"file": len(images) - url - archive, "archive": archive, "url": url}


def _line(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items() if count) or "none"
