"""What a split promises: the past trains, each user's share is as the papers say, and no pair is on two sides."""

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_jobs.ingest import IngestSettings, run_ingest
from offline_jobs.split import DAY, TEST, TRAIN, VALIDATION, SplitSettings, at_random, by_time, run_split
from service.errors import DataError, StageError

TIMES = st.lists(st.integers(0, 40 * DAY), min_size=1, max_size=60)
PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), min_size=1, max_size=150)


@given(TIMES, st.integers(0, 3), st.integers(0, 3))
def test_time_splits_at_midnight_utc_and_never_back(times: list[int], test_days: int, validation_days: int) -> None:
    stamp = np.array(times, dtype=np.int64)
    days = [t // DAY for t in times]
    if max(days) - min(days) + 1 <= test_days + validation_days:
        with pytest.raises(DataError, match="calendar day"):
            by_time(stamp, test_days, validation_days)
        return
    split = by_time(stamp, test_days, validation_days)
    ago = max(days) - stamp // DAY
    expected = np.where(ago < test_days, TEST, np.where(ago < test_days + validation_days, VALIDATION, TRAIN))
    np.testing.assert_array_equal(split, expected)
    assert split.dtype == np.int8


@given(PAIRS, st.integers(0, 3))
def test_random_gives_each_user_the_share_of_the_papers(pairs: list[tuple[int, int]], seed: int) -> None:
    user, item = (np.array(side, dtype=np.int32) for side in zip(*pairs, strict=True))
    split = at_random(user, item, seed)
    np.testing.assert_array_equal(split, at_random(user, item, seed))
    label = dict(zip(pairs, split.tolist(), strict=True))
    assert [label[pair] for pair in pairs] == split.tolist()  # repeat purchases stay together
    for number in set(user.tolist()):
        counts = Counter(value for pair, value in label.items() if pair[0] == number)
        n = counts.total()
        held = 0 if n < 3 else 2 if n < 10 else int(0.2 * n)
        assert (counts[VALIDATION], counts[TEST]) == (held // 2, held - held // 2)


def test_random_depends_on_the_seed() -> None:
    user, item = np.zeros(200, np.int32), np.arange(200, dtype=np.int32)
    assert (at_random(user, item, 0) != at_random(user, item, 1)).any()


def shop(folder: Path, header: str, *rows: str) -> Path:
    folder.mkdir()
    lines = "".join(row.replace(" ", "\t") + "\n" for row in (header, *rows))
    (folder / "x.inter").write_text(lines)
    return folder


def test_rows_follow_the_interactions(tmp_path: Path) -> None:
    rows = [
        f"{user} {item} {946684800 + DAY * day}" for user, item, day in (("b", "é", 2), ("a", "z", 0), ("b", "a", 1))
    ]
    data = shop(tmp_path / "shop", "user_id item_id timestamp", *rows)
    with pytest.raises(StageError, match="'ingest' has not run"):
        run_split(SplitSettings(), tmp_path)
    run_ingest(IngestSettings(), data, tmp_path)
    run_split(SplitSettings(), tmp_path)
    interactions = pl.read_parquet(tmp_path / "ingest/interactions.parquet")
    users, items = (pl.read_parquet(tmp_path / f"ingest/{name}.parquet") for name in ("users", "items"))
    with np.load(tmp_path / "split/interactions.npz", allow_pickle=False) as arrays:
        assert {name: arrays[name].dtype.name for name in arrays} == {
            "user_row": "int32", "item_row": "int32", "timestamp": "int64", "split": "int8",
        }  # fmt: skip
        assert users["user_id"].gather(arrays["user_row"]).to_list() == interactions["user_id"].to_list()
        assert items["item_id"].gather(arrays["item_row"]).to_list() == interactions["item_id"].to_list()
        assert arrays["split"].tolist() == [TRAIN, VALIDATION, TEST]
    assert items["item_id"].to_list() == ["a", "z", "é"]


def test_given_labels_and_their_absence(tmp_path: Path) -> None:
    data = shop(tmp_path / "labelled", "userID itemID x_label", "0 1 2", "0 2 0", "1 1 1")
    run_ingest(IngestSettings(), data, tmp_path / "work")
    run_split(SplitSettings(kind="given"), tmp_path / "work")
    with np.load(tmp_path / "work/split/interactions.npz") as arrays:
        assert arrays["split"].tolist() == [2, 0, 1]
    with pytest.raises(DataError, match="has one day"):
        run_split(SplitSettings(), tmp_path / "work")
    plain = shop(tmp_path / "plain", "userID itemID", "0 1", "0 2")
    run_ingest(IngestSettings(), plain, tmp_path / "other")
    with pytest.raises(DataError, match="no label"):
        run_split(SplitSettings(kind="given"), tmp_path / "other")
    assert not (tmp_path / "other/split").exists()
