"""The tables of ingest, made of staged rows: each row once, sorted, in bounded memory.

Of rows that say the same thing twice the first in the files stays (of interactions, the one with the lowest label:
training keeps what a test would leak). Where the others differ in more than that, they are counted as conflicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from offline_jobs.k_core import k_core
from offline_jobs.quality_report import Conflict, InteractionCounts, ItemCounts
from offline_jobs.readers import Quarantine
from offline_jobs.readers.raw import ITEM_SCHEMA, attribute_columns
from offline_jobs.row_order import RANGE_ROWS, ParquetSink, Positions, deal_out
from service.errors import DataError

KEY = ["timestamp", "user_id", "item_id"]
CONTENT = [name for name in ITEM_SCHEMA if name != "item_id"]
EXAMPLES = 8
MAX_DISTINCT = 10_000
"""Distinct values of an attribute."""
NO_CONTENT = frozenset({"item_id", "staged_row", "content_hash"})
REVIEW_SCHEMA = {"interaction_row": pl.Int64, "text": pl.String}
ITEM_DTYPES = {**ITEM_SCHEMA, "price": pl.Float32}


def with_review_hash(rows: pl.DataFrame) -> pl.DataFrame:
    """Interactions as they are staged: a review's hash tells texts apart without holding them."""
    return rows.with_columns(pl.col("review").hash().alias("review_hash")) if "review" in rows.columns else rows


def with_content_hash(rows: pl.DataFrame) -> pl.DataFrame:
    """Items as they are staged."""
    content = [*CONTENT, *attribute_columns(rows.columns)]
    return rows.with_columns(pl.struct(content).hash().alias("content_hash"))


def interaction_table(
    staged: Path, k: int, quarantine: Quarantine
) -> tuple[pl.DataFrame, InteractionCounts, list[Conflict]]:
    """Interactions sorted by (timestamp, user_id, item_id), each such triple once, and what became of every row.

    `staged_row` int64 says where a row stood in `staged`.
    """
    columns = [name for name in pl.read_parquet_schema(staged) if name != "review"]
    rows = pl.read_parquet(staged, columns=columns).with_row_index("staged_row")
    by = [*KEY, *(["label"] if "label" in columns else []), "staged_row"]
    rows = rows.sort(by)
    first = pl.Series(np.ones(rows.height, dtype=bool))
    if rows.height > 1:
        same = rows.select(pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in KEY)).to_series()
        first = ~same.fill_null(False)
    once, again = rows.filter(first), rows.filter(~first)
    conflicts = _interaction_conflicts(once, again)
    kept = once.filter(k_core(once, k)) if k else once
    counts = InteractionCounts(
        read=quarantine.rows_read["interactions"],
        kept=kept.height,
        duplicate=again.height,
        conflicting=conflicts.height,
        outside_k_core=once.height - kept.height,
        quarantined=dict(quarantine.refused["interactions"].most_common()),
    )
    return kept.drop("review_hash", strict=False), counts, _interaction_examples(conflicts)


def write_reviews(staged: Path, interactions: pl.DataFrame, scratch: Path, out: Path) -> None:
    """The texts of `interactions` (with `staged_row`), ascending by their row; rows without a text are left out."""
    target = _targets(pl.scan_parquet(staged).select(pl.len()).collect().item(), interactions["staged_row"].to_numpy())
    with ParquetSink(out, compression_level=3) as sink:
        sink.write(pl.DataFrame(schema=REVIEW_SCHEMA))
        for path in deal_out(staged, ["review"], target, scratch):
            if path.exists():
                texts = pl.read_parquet(path).drop_nulls("review").sort("position")
                sink.write(texts.select(pl.col("position").alias("interaction_row"), pl.col("review").alias("text")))
                path.unlink()


def write_items(
    staged: Path, bought: pl.Series, quarantine: Quarantine, scratch: Path, out: Path
) -> tuple[ItemCounts, list[Conflict]]:
    """One row an item, sorted by id; an item of `bought` (distinct ids) without a record gets nulls."""
    if staged.exists():
        rows = pl.read_parquet(staged, columns=["item_id", "content_hash"]).with_row_index("staged_row")
    else:
        rows = pl.DataFrame(schema={"staged_row": pl.UInt32, "item_id": pl.String, "content_hash": pl.UInt64})
    once = rows.unique("item_id", keep="first", maintain_order=True)
    ids = pl.concat([once["item_id"], bought]).unique().sort()
    _write_in_order(staged, once, ids, scratch, out)
    again = rows.join(once.select("staged_row"), on="staged_row", how="anti")
    different = (
        again.join(once, on="item_id", suffix="_kept")
        .filter(pl.col("content_hash") != pl.col("content_hash_kept"))
        .sort("staged_row")
    )
    counts = ItemCounts(
        read=quarantine.rows_read["items"],
        kept=once.height,
        duplicate=again.height,
        conflicting=different.height,
        quarantined=dict(quarantine.refused["items"].most_common()),
        dropped=dict(quarantine.dropped["items"].most_common()),
        only_in_interactions=len(ids) - once.height,
    )
    return counts, _item_examples(staged, different.head(EXAMPLES)) if different.height else []


def _write_in_order(staged: Path, once: pl.DataFrame, ids: pl.Series, scratch: Path, out: Path) -> None:
    places = pl.DataFrame({"item_id": ids}).with_row_index("position").with_columns(pl.col("position").cast(pl.Int64))
    parts: list[Path] = []
    attributes = attribute_columns(pl.read_parquet_schema(staged)) if staged.exists() else []
    dtypes = {**ITEM_DTYPES, **dict.fromkeys(attributes, pl.String)}
    if once.height:
        at = once.join(places, on="item_id", how="left", maintain_order="left")["position"].to_numpy()
        height = pl.scan_parquet(staged).select(pl.len()).collect().item()
        parts = deal_out(staged, [*CONTENT, *attributes], _targets(height, once["staged_row"].to_numpy(), at), scratch)
    with ParquetSink(out, compression_level=3) as sink:
        sink.write(pl.DataFrame(schema=dtypes))
        for number, start in enumerate(range(0, len(ids), RANGE_ROWS)):
            here = places.slice(start, RANGE_ROWS)
            if number < len(parts) and parts[number].exists():
                here = here.join(pl.read_parquet(parts[number]), on="position", how="left", maintain_order="left")
                parts[number].unlink()
            sink.write(_items_of(here, dtypes))


def _items_of(rows: pl.DataFrame, dtypes: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    """The columns of an item table; those that are not there are null."""
    return rows.select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in dtypes.items()
    )


def check_attributes(items: Path) -> None:
    """Raise DataError where an attribute has more distinct values than a filter can be planned with."""
    columns = attribute_columns(pl.read_parquet_schema(items))
    counts = pl.scan_parquet(items).select(pl.col(columns).n_unique()).collect().row(0) if columns else ()
    for column, distinct in zip(columns, counts, strict=True):
        if distinct > MAX_DISTINCT:
            raise DataError(
                f"{column} has {distinct:,} distinct values, at most {MAX_DISTINCT:,} can be filtered by",
                where="items.attributes",
                todo="Leave it out of the mapping, or map a coarser column",
            )


def _targets(height: int, staged_rows: Positions, positions: Positions | None = None) -> Positions:
    """Where each of `height` staged rows goes, int64: row `staged_rows[i]` to `positions[i]` or i, others to -1."""
    target = np.full(height, -1, dtype=np.int64)
    target[staged_rows] = np.arange(len(staged_rows)) if positions is None else positions
    return target


def _interaction_conflicts(once: pl.DataFrame, again: pl.DataFrame) -> pl.DataFrame:
    """Repeated rows that differ from the kept one in rating, label or text."""
    compared = [name for name in ("label", "rating", "review_hash") if name in once.columns]
    if again.is_empty() or not compared:
        return again.clear()
    both = again.join(once, on=KEY, suffix="_kept")
    return both.filter(pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_kept")) for name in compared))


def _interaction_examples(conflicts: pl.DataFrame) -> list[Conflict]:
    examples = []
    for row in conflicts.sort("staged_row").head(EXAMPLES).iter_rows(named=True):
        key = f"{row['user_id']} · {row['item_id']} · {row['timestamp']}"
        field = next(
            name for name in ("label", "rating", "review_hash") if name in row and row[name] != row[f"{name}_kept"]
        )
        texts = ("one text", "another text") if field == "review_hash" else (row[f"{field}_kept"], row[field])
        examples.append(
            Conflict(key=key, field=field.removesuffix("_hash"), kept=str(texts[0]), left_out=str(texts[1]))
        )
    return examples


def _item_examples(staged: Path, different: pl.DataFrame) -> list[Conflict]:
    wanted = [*different["staged_row"], *different["staged_row_kept"]]
    rows = pl.scan_parquet(staged).with_row_index("staged_row").filter(pl.col("staged_row").is_in(wanted)).collect()
    by_row = {row["staged_row"]: row for row in rows.iter_rows(named=True)}
    examples = []
    for other, kept in different.select("staged_row", "staged_row_kept").iter_rows():
        a, b = by_row[kept], by_row[other]
        field = next((name for name in a if name not in NO_CONTENT and a[name] != b[name]), "")
        if field:
            texts = (str(a[field])[:120], str(b[field])[:120])
            examples.append(Conflict(key=a["item_id"], field=field, kept=texts[0], left_out=texts[1]))
    return examples
