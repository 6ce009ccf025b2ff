"""What each row of the table makes of a shop, and what it must not see."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from offline_jobs import modalities
from offline_jobs.item_vectors import open_table
from offline_jobs.modalities import MODALITIES, open_modalities
from offline_jobs.modalities_catalog import RARE, brand, category, code, price, waves
from offline_jobs.modalities_training import REVIEWS_AN_ITEM, newest, rating, reviews
from service.errors import DataError
from training.stage import open_stage

ITEMS = 40


class NoSettings(BaseModel):
    """For the folders that stand in for earlier stages."""


def shop(work: Path, items: pl.DataFrame, interactions: pl.DataFrame, said: pl.DataFrame | None = None) -> Path:
    """Write ingest and split of a shop; interactions: user_row, item_row, timestamp, split, and a rating perhaps."""
    with open_stage(work, "ingest", version=1, inputs={}, settings=NoSettings()) as stage:
        items.write_parquet(stage.out / "items.parquet")
        interactions.select(pl.col("^rating$"), "timestamp").write_parquet(stage.out / "interactions.parquet")
        pl.DataFrame({"user_id": ["u0", "u1"]}).write_parquet(stage.out / "users.parquet")
        if said is not None:
            said.write_parquet(stage.out / "reviews.parquet")
    with open_stage(work, "split", version=1, inputs={}, settings=NoSettings()) as stage:
        arrays = {name: interactions[name].to_numpy().astype(np.int32) for name in ("user_row", "item_row")}
        split = interactions["split"].to_numpy().astype(np.int8)
        np.savez(stage.out / "interactions.npz", **arrays, timestamp=interactions["timestamp"].to_numpy(), split=split)
    return work


def catalog(**columns: list[object]) -> pl.DataFrame:
    types = {"price": pl.Float32, "brand": pl.String, "category": pl.String}
    return pl.DataFrame({name: pl.Series(values, dtype=types[name]) for name, values in columns.items()})


def bought(rows: list[tuple[int, int, int, float | None]]) -> pl.DataFrame:
    """item_row, timestamp, split, rating."""
    item, time, split, stars = zip(*rows, strict=True)
    return pl.DataFrame(
        {
            "user_row": [0] * len(rows),
            "item_row": item,
            "timestamp": pl.Series(time, dtype=pl.Int64),
            "split": split,
            "rating": pl.Series(stars, dtype=pl.Float32),
        }
    )


NOTHING = bought([(0, 0, 0, None)])


def cosine(vectors: npt.NDArray[np.float32], a: int, b: int) -> float:
    return float(vectors[a] @ vectors[b])


def test_near_prices_are_alike_and_prices_that_are_none_are_absent(tmp_path: Path) -> None:
    given_prices = [10.0, 10.5, 11.0, 12.0, 500.0, 600.0, None, float("nan"), -1.0, 0.0, float("inf")]
    made = price(shop(tmp_path, catalog(price=given_prices, category=["a"] * 11), NOTHING))
    assert made is not None
    vectors, present = made
    assert present.tolist() == [True] * 6 + [False] * 5
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), present, atol=1e-5)
    assert cosine(vectors, 0, 1) > cosine(vectors, 0, 3) > cosine(vectors, 0, 5)


def test_a_price_counts_within_its_category(tmp_path: Path) -> None:
    made = price(shop(tmp_path, catalog(price=[1, 2, 3, 3, 4, 5], category=["a"] * 3 + [None] * 3), NOTHING))
    assert made is not None
    dear, cheap = made[0][2], made[0][3]  # the same price: the dearest of its category and the cheapest of its own
    assert made[1].all()
    np.testing.assert_allclose(dear[:8], cheap[:8], atol=1e-6)
    assert not np.allclose(dear[8:], cheap[8:], atol=0.1)


def test_rare_brands_share_the_code_of_the_unknown(tmp_path: Path) -> None:
    names = ["Acme"] * RARE + ["acme "] + ["One", "two", None, ""]
    made = brand(shop(tmp_path, catalog(brand=names), NOTHING))
    assert made is not None
    vectors, present = made
    assert present.tolist() == [True] * (RARE + 3) + [False] * 2
    np.testing.assert_array_equal(vectors[0], vectors[RARE])
    np.testing.assert_array_equal(vectors[RARE + 1], vectors[RARE + 2])
    assert cosine(vectors, 0, RARE + 1) < 0.5
    np.testing.assert_allclose(vectors[0], code("acme") / 8)


def test_categories_of_one_branch_are_alike(tmp_path: Path) -> None:
    names = ["home > kitchen > pans", "home > kitchen > pots", "home > garden", "music", None]
    made = category(shop(tmp_path, catalog(category=names), NOTHING))
    assert made is not None
    vectors, present = made
    assert present.tolist() == [True] * 4 + [False]
    assert cosine(vectors, 0, 1) > cosine(vectors, 0, 2) > cosine(vectors, 0, 3)


@pytest.mark.parametrize("column", ["price", "brand", "category"])
def test_a_column_of_nulls_is_no_modality(column: str, tmp_path: Path) -> None:
    empty = catalog(price=[None] * 4, brand=[None] * 4, category=[None] * 4)
    assert MODALITIES[column].make is not None
    assert MODALITIES[column].make(shop(tmp_path, empty, NOTHING)) is None  # type: ignore[misc]


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
def test_waves_are_bounded_and_smooth(values: list[float]) -> None:
    x = np.array(values, np.float32)
    made = waves(x)
    assert made.shape == (len(values), 8)
    assert np.abs(made).max() <= 1
    step = np.linalg.norm(waves((x + 1e-3).clip(0, 1)) - made, axis=1)
    assert (step < 0.05).all()


def test_ratings_come_from_training_alone(tmp_path: Path) -> None:
    items = catalog(brand=[None] * 4)
    rows = [(0, 1, 0, 5.0), (0, 2, 0, 4.0), (1, 3, 0, 1.0), (2, 4, 0, None), (0, 5, 1, 1.0), (3, 6, 2, 5.0)]
    made = rating(shop(tmp_path / "a", items, bought(rows)))
    other = [*rows[:4], (0, 5, 1, 3.0), (3, 6, 2, 1.0)]
    poisoned = rating(shop(tmp_path / "b", items, bought(other)))
    assert made is not None
    assert poisoned is not None
    assert made[1].tolist() == [True, True, False, False]
    np.testing.assert_array_equal(made[0], poisoned[0])
    assert not np.allclose(made[0][0], made[0][1])
    without = bought(rows).drop("rating")
    assert rating(shop(tmp_path / "c", items, without)) is None


def test_reviews_tell_topics_apart_and_are_of_training_alone(tmp_path: Path) -> None:
    topics = ["battery charger power volt", "novel chapter plot hero"]
    rows = [(item, time, 0 if time < 3 else 2, None) for item in range(ITEMS) for time in range(4) if item % 10 > 0]
    item = np.array([row[0] for row in rows])
    split = np.array([row[2] for row in rows])
    rng = np.random.default_rng(0)
    said = [" ".join(rng.choice(topics[i % 2].split(), 3)) for i in item]
    items = catalog(brand=[None] * ITEMS)
    number = np.arange(len(rows))
    made = reviews(shop(tmp_path / "a", items, bought(rows), pl.DataFrame({"interaction_row": number, "text": said})))
    spoilt = ["spoiler alert" if s else text for s, text in zip(split, said, strict=True)]
    poisoned = reviews(
        shop(tmp_path / "b", items, bought(rows), pl.DataFrame({"interaction_row": number, "text": spoilt}))
    )
    assert made is not None
    assert poisoned is not None
    vectors, present = made
    np.testing.assert_array_equal(vectors, poisoned[0])
    assert present.tolist() == [row % 10 > 0 for row in range(ITEMS)]
    likeness = vectors @ vectors.T
    odd = np.flatnonzero(present & (np.arange(ITEMS) % 2 == 1))
    even = np.flatnonzero(present & (np.arange(ITEMS) % 2 == 0))
    assert likeness[np.ix_(odd, odd)].mean() > likeness[np.ix_(odd, even)].mean() + 0.5
    assert reviews(shop(tmp_path / "c", items, bought(rows))) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_newest_reviews_of_an_item_are_read(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    item, time = rng.integers(0, 4, n).astype(np.int32), rng.integers(0, 9, n)
    allowed, numbers = rng.random(n) < 0.8, np.flatnonzero(rng.random(n) < 0.8)
    wanted = newest(item, time, allowed, numbers)
    for one in range(4):
        mine = [i for i in numbers if allowed[i] and item[i] == one]
        expected = sorted(mine, key=lambda i: (-time[i], -i))[:REVIEWS_AN_ITEM]
        assert sorted(np.flatnonzero(wanted & (item == one))) == sorted(expected)


def test_a_further_modality_is_a_further_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the table knows the name; the stage's own rows are taken where there is no `make`."""
    rng = np.random.default_rng(0)
    for stage_name, width in (("text_embeddings", 384), ("image_embeddings", 512), ("sound_embeddings", 7)):
        with open_stage(tmp_path, stage_name, version=1, inputs={}, settings=NoSettings()) as stage:
            vectors = rng.normal(size=(ITEMS, width)).astype(np.float32)
            vectors[::3] = 0
            np.save(stage.out / "vectors.npy", vectors)
    monkeypatch.setitem(MODALITIES, "sound", modalities.Modality(("sound_embeddings",), None, 0.3, True))
    names = modalities.names_of("text,image,sound")
    opened, left_out = open_modalities(names, tmp_path, tmp_path / "scratch")
    assert left_out == {}
    assert {name: table.width for name, table in opened.tables.items()} == {"text": 384, "image": 512, "sound": 7}
    np.testing.assert_array_equal(opened.tables["sound"].present, np.arange(ITEMS) % 3 > 0)
    assert [tuple(value.shape) for value in opened.inputs(np.array([1, 2]))[0]] == [(2, 384), (2, 512), (2, 7)]


def test_a_table_of_another_width_or_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    for table in (np.zeros((3, 5), np.float32), np.zeros((3, 4), np.float64), np.zeros(4, np.float32)):
        np.save(path, table)
        with pytest.raises(DataError, match="not float32"):
            open_table(path, None, width=4, dropout=0.1, alone=True)
