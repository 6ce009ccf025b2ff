"""The generated shop is what it says: deterministic, readable, with a right answer that taste finds."""

import ast
import gzip
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from offline_jobs.generated_plan import item_ids, user_ids
from offline_jobs.generated_settings import BOUGHT, EVIDENCE, GeneratedShopSettings
from offline_jobs.generated_shop import generate_shop
from offline_jobs.generated_words import COMBINATIONS, Themes
from offline_jobs.ingest import IngestSettings, run_ingest
from service.errors import DataError

SMALL = GeneratedShopSettings(items=400, users=500)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "shop"
    generate_shop(SMALL, out)
    return out


@pytest.fixture(scope="module")
def truth(shop: Path) -> dict[str, dict[str, str]]:
    return json.loads((shop / "truth.json").read_text())


@pytest.fixture(scope="module")
def baskets(shop: Path) -> dict[str, set[str]]:
    found = defaultdict(set)
    for line in gzip.decompress((shop / "reviews.json.gz").read_bytes()).splitlines():
        review = json.loads(line)
        found[review["reviewerID"]].add(review["asin"])
    return found


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_settings_same_bytes_other_seed_other_shop(tmp_path: Path, shop: Path) -> None:
    generate_shop(SMALL, tmp_path / "again")
    assert digests(tmp_path / "again") == digests(shop)
    generate_shop(SMALL.model_copy(update={"seed": 1}), tmp_path / "other")
    other = digests(tmp_path / "other")
    assert other["reviews.json.gz"] != digests(shop)["reviews.json.gz"]


def test_the_rows_are_in_the_raw_format(shop: Path) -> None:
    review = json.loads(gzip.decompress((shop / "reviews.json.gz").read_bytes()).splitlines()[0])
    assert list(review) == [
        "reviewerID", "asin", "reviewerName", "helpful", "reviewText", "overall", "summary", "unixReviewTime",
        "reviewTime",
    ]  # fmt: skip
    assert time.strftime("%m %-d, %Y", time.gmtime(review["unixReviewTime"])) == review["reviewTime"]
    lines = gzip.decompress((shop / "meta.json.gz").read_bytes()).decode().splitlines()
    with pytest.raises(json.JSONDecodeError):
        json.loads(lines[0])
    rows = [ast.literal_eval(line) for line in lines]
    assert len(rows) == SMALL.items
    assert {len(row["asin"]) for row in rows} == {10}
    assert {key for row in rows for key in row} == {
        "asin", "title", "description", "price", "imUrl", "related", "salesRank", "brand", "categories",
    }  # fmt: skip


def test_ingest_reads_all_of_it_and_none_of_the_truth(shop: Path, tmp_path: Path, baskets: dict[str, set[str]]) -> None:
    run_ingest(IngestSettings(), shop, tmp_path)
    report = json.loads((tmp_path / "ingest/report.json").read_text())
    assert set(report["files"]) == {"reviews.json.gz", "meta.json.gz"}
    for table in ("interactions", "items"):
        assert (report[table]["quarantined"], report[table]["duplicate"]) == ({}, 0)
    assert report["users"] == SMALL.users
    assert report["interactions"]["kept"] == sum(map(len, baskets.values()))
    catalog = report["catalog"]
    assert catalog["items"] == SMALL.items
    assert 0.05 < catalog["cold"] / SMALL.items < 0.2
    assert catalog["image_sources"]["file"] == len(list((shop / "images").iterdir()))
    assert all(catalog["missing"][name] > 0 for name in ("description", "price", "image"))
    assert report["time"]["days"] == SMALL.span_days


def test_held_out_items_are_in_the_cluster_bought_by_others_and_not_by_the_shopper(
    truth: dict[str, dict[str, str]], baskets: dict[str, set[str]]
) -> None:
    buyers = Counter(item for basket in baskets.values() for item in basket)
    assert len(truth["held_out"]) > 0.65 * SMALL.users
    for user, item in truth["held_out"].items():
        cluster = [i for i, c in truth["item_clusters"].items() if c == truth["user_clusters"][user]]
        assert item in cluster
        assert item not in baskets[user]
        assert buyers[item] >= EVIDENCE
        assert len(baskets[user].intersection(cluster)) >= BOUGHT[0]
        assert len(set(cluster) - baskets[user]) <= 10


def test_taste_finds_the_held_out_item_and_popularity_does_not(
    truth: dict[str, dict[str, str]], baskets: dict[str, set[str]]
) -> None:
    items = {item: row for row, item in enumerate(sorted(truth["item_clusters"]))}
    users = sorted(baskets)
    bought = np.zeros((len(users), len(items)))
    for row, user in enumerate(users):
        bought[row, [items[item] for item in baskets[user]]] = 1
    popular = bought.sum(axis=0)
    together = bought.T @ bought / np.sqrt(np.maximum(np.outer(popular, popular), 1))

    def share(scores: np.ndarray) -> float:
        scores = np.where(bought > 0, -np.inf, scores)
        top = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        return np.mean([items[i] in top[users.index(u)] for u, i in truth["held_out"].items()])

    assert share(bought @ together) > 0.95
    assert share(np.broadcast_to(popular, bought.shape)) < 0.3


def test_texts_and_pictures_carry_the_cluster(shop: Path, truth: dict[str, dict[str, str]]) -> None:
    rows = [
        ast.literal_eval(line) for line in gzip.decompress((shop / "meta.json.gz").read_bytes()).decode().splitlines()
    ]
    brands, colours = defaultdict(set), defaultdict(list)
    for row in rows:
        cluster = truth["item_clusters"][row["asin"]]
        brands[cluster].add(row["brand"])
        if "imUrl" in row:
            with Image.open(shop / "images" / f"{row['asin']}.jpg") as picture:
                assert (picture.format, picture.size) == ("JPEG", (128, 128))
                colours[cluster].append(np.asarray(picture, dtype=float).mean(axis=(0, 1)))
    assert all(len(found) == 1 for found in brands.values())
    centres = np.array([np.mean(values, axis=0) for values in colours.values()])
    inside = np.mean([np.std(values, axis=0).mean() for values in colours.values()])
    assert inside < 0.5 * centres.std(axis=0).mean()


def test_made_once_and_never_over_foreign_files(tmp_path: Path) -> None:
    out = tmp_path / "shop"
    tiny = SMALL.model_copy(update={"image_share": 0.0})
    generate_shop(tiny, out)
    before = (out / "truth.json").stat().st_mtime_ns
    generate_shop(tiny, out)
    assert (out / "truth.json").stat().st_mtime_ns == before
    generate_shop(tiny.model_copy(update={"seed": 3}), out)
    assert json.loads((out / "generated.json").read_text())["settings"]["seed"] == 3
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letters.txt").write_text("keep")
    with pytest.raises(DataError, match="something else than a generated shop"):
        generate_shop(tiny, tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "shop"]


def test_a_killed_run_leaves_no_shop_and_the_next_one_makes_it(tmp_path: Path) -> None:
    out = tmp_path / "shop"
    code = (
        "from pathlib import Path; from offline_jobs.generated_shop import *; "
        f"generate_shop(GeneratedShopSettings(items=20000, users=500), Path({str(out)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".shop.partial*/images/*.jpg")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    generate_shop(SMALL, out)
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_ids_and_themes_are_distinct_at_the_size_of_electronics() -> None:
    assert len(set(item_ids(500_000).tolist())) == 500_000
    assert len(set(user_ids(200_000).tolist())) == 200_000
    themes = Themes(28_000, np.random.default_rng(0))
    codes = {(t.noun, t.material, t.style, t.colour) for t in (themes[c] for c in range(28_000))}
    assert len(codes) == 28_000 < COMBINATIONS


def test_settings_that_leave_no_room_are_refused() -> None:
    with pytest.raises(ValidationError, match="lower cold_share"):
        GeneratedShopSettings(cluster_size=15, cold_share=0.3)
