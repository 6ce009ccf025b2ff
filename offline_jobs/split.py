"""Split: which interactions train, which choose a model, which judge it.

The outputs' rows are in the order of `interactions.parquet`; users and items are given by their row numbers.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from service.errors import DataError
from training.stage import open_stage, require

log = logging.getLogger(__name__)

VERSION = 1
TRAIN, VALIDATION, TEST = 0, 1, 2
DAY = 86_400

Labels = npt.NDArray[np.int8]
Rows = npt.NDArray[np.int32]


class SplitSettings(BaseModel):
    """How the interactions are divided."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    kind: Literal["global-time", "random", "given"] = "global-time"
    """global-time: train on the past, judge on the last days. random: a share of each user's items, the protocol
    of the multimodal papers. given: the label that the data carries (x_label)."""
    test_days: int = Field(default=1, ge=0)
    """Global-time: the last so many calendar days (UTC) are the test."""
    validation_days: int = Field(default=1, ge=0)
    """Global-time: so many days before the test are the validation."""
    seed: int = Field(default=0, ge=0)
    """Random: seed of each user's order."""


def run_split(settings: SplitSettings, work: Path) -> None:
    """Divide `<work>/ingest` into `<work>/split/interactions.npz`. Raises DataError where it cannot be done.

    The file holds user_row int32, item_row int32, timestamp int64 and split int8 (0 train, 1 validation, 2 test).
    """
    source = require(work, "ingest")
    with open_stage(work, "split", version=VERSION, inputs={"ingest": source}, settings=settings) as stage:
        if stage.fresh:
            return
        interactions = pl.read_parquet(source / "interactions.parquet")
        user_row = _rows(interactions, source / "users.parquet", "user_id")
        item_row = _rows(interactions, source / "items.parquet", "item_id")
        timestamp = interactions["timestamp"].to_numpy()
        match settings.kind:
            case "global-time":
                split = by_time(timestamp, settings.test_days, settings.validation_days)
            case "random":
                split = at_random(user_row, item_row, settings.seed)
            case "given":
                split = _given(interactions, source)
        np.savez(
            stage.out / "interactions.npz",
            user_row=user_row,
            item_row=item_row,
            timestamp=timestamp,
            split=split,
        )
        sizes = {name: int((split == part).sum()) for part, name in enumerate(("train", "validation", "test"))}
        warm = np.isin(user_row[split == TEST], user_row[split == TRAIN])
        stage.count(**sizes, test_rows_of_warm_users=int(warm.sum()))
        log.info("split: %s", ", ".join(f"{count:,} {name}" for name, count in sizes.items()))


def by_time(timestamp: npt.NDArray[np.int64], test_days: int, validation_days: int) -> Labels:
    """Labels of a global-time split over unix seconds (n,). Raises DataError where no training day would be left."""
    day = timestamp // DAY
    last = int(day.max())
    days = last - int(day.min()) + 1
    if days <= test_days + validation_days:
        what = f"the data spans {days} calendar day(s), {test_days} + {validation_days} are to be held out"
        todo = "Hold out fewer days, or use `--kind random`; data without time stamps has one day"
        raise DataError(what, where="split", todo=todo)
    first_test = last - test_days + 1
    split: Labels = np.zeros(len(day), np.int8)
    split[day >= first_test - validation_days] = VALIDATION
    split[day >= first_test] = TEST
    return split


def at_random(user_row: Rows, item_row: Rows, seed: int) -> Labels:
    """Labels of a split per user, in random order (the protocol of MMRec), over distinct (user, item) pairs.

    A user with n items gives 1 to validation and 1 to test where n < 10, else t = floor(.2 n), t // 2 to validation
    and t - t // 2 to test. Fewer than 3 items all train. Repeat purchases share their pair's label.
    """
    num_items = int(item_row.max()) + 1
    pairs, back = np.unique(user_row.astype(np.int64) * num_items + item_row, return_inverse=True)
    user = pairs // num_items
    order = np.lexsort((np.random.default_rng(seed).random(len(pairs)), user))
    sizes = np.bincount(user[order])
    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(pairs)) - np.repeat(starts, sizes)
    held = np.where(sizes < 10, 2, sizes * 2 // 10)
    held[sizes < 3] = 0
    validation, test = held // 2, held - held // 2
    labels: Labels = np.zeros(len(pairs), np.int8)
    ends = np.repeat(validation, sizes)
    labels[order[place < ends]] = VALIDATION
    labels[order[(place >= ends) & (place < ends + np.repeat(test, sizes))]] = TEST
    return labels[back]


def _given(interactions: pl.DataFrame, source: Path) -> Labels:
    if "label" not in interactions.columns:
        raise DataError(
            "the data carries no label to split by",
            where=str(source / "interactions.parquet"),
            todo="Use `--kind global-time` or `--kind random`, or map a `label` column (0 train, 1 validation, 2 test)",
        )
    labels: Labels = interactions["label"].to_numpy()
    return labels


def _rows(interactions: pl.DataFrame, table: Path, name: str) -> Rows:
    """The row number of each interaction's user or item, int32 (n,)."""
    numbers = pl.read_parquet(table, columns=[name]).with_row_index("row")
    joined = interactions.select(name).join(numbers, on=name, how="left", maintain_order="left")
    assert joined["row"].null_count() == 0, f"an interaction's {name} is not in {table}"
    rows: Rows = joined["row"].cast(pl.Int32).to_numpy()
    return rows
