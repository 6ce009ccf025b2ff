"""A generated shop with an exact number of purchases: long tails, time, texts, and tastes that can be found again."""

import ast
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from offline_jobs.generated_degrees import long_tail, pair_up
from offline_jobs.generated_plan import plan_world
from offline_jobs.generated_settings import EVIDENCE, GeneratedShopSettings
from offline_jobs.generated_shop import generate_shop
from offline_jobs.generated_world import DAY, END, World
from service.errors import InputError

MARKET = GeneratedShopSettings(items=20_000, users=8_000, interactions=70_000, image_share=0)


@pytest.fixture(scope="module")
def world() -> World:
    return plan_world(MARKET)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("market") / "shop"
    generate_shop(MARKET.model_copy(update={"processes": 2}), out)
    return out


def gini(counts: np.ndarray) -> float:
    ordered = np.sort(counts)
    return float((2 * np.arange(1, len(ordered) + 1) - len(ordered) - 1) @ ordered / (len(ordered) * ordered.sum()))


def test_exactly_the_numbers_asked_for(world: World) -> None:
    by_item, by_user = np.bincount(world.item, minlength=20_000), np.bincount(world.user)
    assert len(world.user) == len(np.unique(world.user * 20_000 + world.item)) == 70_000
    assert len(by_user) == 8_000
    assert (by_item > 0).sum() == MARKET.warm == round(70_000 / 26.812)
    assert by_item[by_item > 0].min() == by_user.min() == 5


def test_degrees_have_the_long_tails_of_electronics(world: World) -> None:
    by_item, by_user = np.bincount(world.item), np.bincount(world.user)
    by_item = by_item[by_item > 0]
    assert 8 <= np.median(by_item) <= 13
    assert by_item.max() >= 7 * by_item.mean()
    assert 0.55 < gini(by_item) < 0.75
    assert 6 <= np.median(by_user) <= 7
    assert by_user.max() >= 4 * by_user.mean()
    assert 0.25 < gini(by_user) < 0.4


def test_the_size_of_electronics_has_its_share_of_cold_items() -> None:
    size = GeneratedShopSettings(items=498_196, users=192_403, interactions=1_689_188)
    assert size.warm == 63_001
    assert round(1 - size.warm / size.items, 2) == 0.87


def test_what_is_held_out_is_of_the_taste_and_bought_by_others(world: World) -> None:
    planted = np.flatnonzero(world.held_out >= 0)
    held_out = world.held_out[planted]
    assert len(planted) > 0.69 * 8_000
    assert np.array_equal(world.cluster_of_item[held_out], world.cluster_of_user[planted])
    assert not np.isin(planted * 20_000 + held_out, world.user * 20_000 + world.item).any()
    assert np.bincount(world.item)[held_out].min() >= EVIDENCE
    inside = world.cluster_of_item[world.item] == world.cluster_of_user[world.user]
    assert inside[world.cluster_of_user[world.user] >= 0].mean() > 0.6


def test_taste_finds_the_held_out_item_and_popularity_does_not(world: World) -> None:
    bought = sparse.csr_matrix((np.ones(70_000), (world.user, world.item)), shape=(8_000, 20_000))
    popular = np.asarray(bought.sum(axis=0)).ravel()
    scale = sparse.diags(1 / np.sqrt(np.maximum(popular, 1)))
    together = (scale @ (bought.T @ bought) @ scale).tocsr()
    together.setdiag(0)
    users = np.flatnonzero(world.held_out >= 0)[::7]

    def share(scores: np.ndarray) -> float:
        scores = np.where(bought[users].toarray() > 0, -np.inf, scores)
        top = np.argpartition(-scores, 20, axis=1)[:, :20]
        return float((top == world.held_out[users, None]).any(axis=1).mean())

    assert share((bought[users] @ together).toarray()) > 0.6
    assert share(np.broadcast_to(popular, (len(users), 20_000))) < 0.2


def test_items_appear_over_the_years_and_go_out_of_fashion(world: World) -> None:
    day = (world.timestamp - (END - 3650 * DAY)) // DAY
    assert day.min() >= 0
    assert day.max() < 3650
    by_year = np.bincount(day // 365, minlength=10)
    assert (by_year > 0).all()
    assert by_year[7:].sum() > 3 * by_year[:3].sum()
    first, last = np.full(20_000, 4000), np.zeros(20_000, np.int64)
    np.minimum.at(first, world.item, day)
    np.maximum.at(last, world.item, day)
    old = (first < 1200) & (np.bincount(world.item, minlength=20_000) >= 10)
    assert old.sum() > 20
    assert np.mean(last[old] < 3000) > 0.3
    early, late = (np.bincount(world.item[part], minlength=20_000) for part in (day < 2000, day > 3000))
    assert np.corrcoef(early[(early + late) > 0], late[(early + late) > 0])[0, 1] < 0.5


def test_the_same_bytes_whatever_the_number_of_processes(shop: Path, tmp_path: Path) -> None:
    generate_shop(MARKET.model_copy(update={"processes": 1}), tmp_path / "alone")
    for name in ("reviews.json.gz", "meta.json.gz", "truth.json", "generated.json"):
        assert sha256(tmp_path / "alone" / name) == sha256(shop / name), name


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_reviews_are_j_shaped_and_speak_of_their_item(shop: Path) -> None:
    reviews = [json.loads(line) for line in gzip.decompress((shop / "reviews.json.gz").read_bytes()).splitlines()]
    stars = np.bincount([int(review["overall"]) for review in reviews], minlength=6)[1:] / len(reviews)
    assert stars[4] > 0.5 > stars[3] > stars[2] > stars[1]
    assert stars[0] > stars[1]
    truth = json.loads((shop / "truth.json").read_text())
    rows = {row["asin"]: row for row in metadata(shop)}
    words = [len(review["reviewText"].split()) for review in reviews]
    assert 20 < np.mean(words) < 60
    assert np.max(words) > 3 * np.median(words)
    noun = {asin: row["categories"][0][2].lower() for asin, row in rows.items()}
    named = [noun[review["asin"]] in f"{review['reviewText']} {review['summary']}".lower() for review in reviews]
    assert np.mean(named) > 0.4
    to_taste = np.array(
        [truth["user_clusters"].get(r["reviewerID"]) == truth["item_clusters"][r["asin"]] for r in reviews]
    )
    rating = np.array([review["overall"] for review in reviews])
    assert rating[to_taste].mean() > rating[~to_taste].mean() + 0.3


def test_brands_categories_prices_and_titles(shop: Path) -> None:
    rows = metadata(shop)
    brands = np.sort(np.unique([row["brand"] for row in rows], return_counts=True)[1])[::-1]
    assert brands[0] > 10 * np.median(brands)
    assert gini(brands) > 0.5
    paths = {tuple(path[:n]) for row in rows for path in row["categories"] for n in range(1, len(path) + 1)}
    assert all(path[:-1] in paths for path in paths if len(path) > 1)
    assert {path[0] for path in paths} == {"Shop"}
    assert {len(path) for row in rows for path in row["categories"]} >= {3, 4}
    by_kind: dict[str, list[float]] = {}
    for row in rows:
        if "price" in row:
            by_kind.setdefault(row["categories"][0][2], []).append(np.log(row["price"]))
    spread = np.mean([np.std(prices) for prices in by_kind.values()])
    assert 0.3 < spread < 0.6
    assert np.std([np.mean(prices) for prices in by_kind.values()]) > spread
    words = [len(row["title"].split()) for row in rows]
    assert 8 < np.mean(words) < 14


def metadata(shop: Path) -> list[dict]:
    return [
        ast.literal_eval(line) for line in gzip.decompress((shop / "meta.json.gz").read_bytes()).decode().splitlines()
    ]


def test_uncompressed_it_is_the_same_text(tmp_path: Path) -> None:
    tiny = GeneratedShopSettings(items=400, users=200, interactions=1_500, image_share=0)
    generate_shop(tiny, tmp_path / "packed")
    generate_shop(tiny.model_copy(update={"uncompressed": True}), tmp_path / "plain")
    for name in ("reviews.json", "meta.json"):
        assert (tmp_path / "plain" / name).read_bytes() == gzip.decompress(
            (tmp_path / "packed" / f"{name}.gz").read_bytes()
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interactions": 30_000}, "need 40,000, got 30,000"),
        ({"items": 400, "users": 100, "interactions": 90_000}, "a quarter of all pairs"),
        ({"warm_items": 19_000}, "at most 17,792 can be warm"),
    ],
)
def test_impossible_shapes_are_refused_before_anything_is_written(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        generate_shop(MARKET.model_copy(update=change), tmp_path / "shop")
    assert list(tmp_path.iterdir()) == []


@given(st.integers(1, 300), st.integers(1, 6), st.floats(1, 12), st.integers(2, 60))
@settings(max_examples=60, deadline=None)
def test_long_tails_have_the_sum_asked_for(count: int, smallest: int, mean: float, reach: int) -> None:
    largest = smallest * reach
    total = min(max(round(count * smallest * mean), count * smallest), count * largest)
    degrees = long_tail(count, total, smallest, largest)
    assert degrees.sum() == total
    assert smallest <= degrees[-1] <= degrees[0] <= largest
    assert (np.diff(degrees) <= 0).all()


@given(st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_pairing_keeps_the_degrees_and_pairs_nobody_twice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    user = np.sort(rng.permutation(np.repeat(np.arange(30), 4)))
    item = rng.permutation(np.repeat(np.arange(40), 3))
    taken = np.arange(30) * 40 + np.arange(30)
    again, mended = pair_up(user, item, 40, taken, rng)
    pairs = again * 40 + mended
    assert len(np.unique(pairs)) == 120
    assert not np.isin(pairs, taken).any()
    assert np.array_equal(np.bincount(mended), np.bincount(item))


def test_a_killed_parent_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "offline_jobs", "generate", "--items", "40000", "--users", "30000"]
    command += ["--interactions", "300000", "--processes", "2", "--out", str(tmp_path / "shop")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while not any(file.stat().st_size for file in tmp_path.glob(".shop.partial*/reviews.json.gz")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    while alive(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(group: int) -> bool:
    try:
        os.killpg(group, signal.SIG_DFL)
    except ProcessLookupError:
        return False
    return True
