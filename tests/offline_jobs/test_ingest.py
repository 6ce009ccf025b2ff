"""What ingest promises: every record accounted for, tables sorted, nothing half-written, nothing done twice."""

import json
import os
import re
import tempfile
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_jobs.ingest import IngestSettings, run_ingest
from offline_jobs.k_core import core_sizes, k_core
from offline_jobs.split import SplitSettings, run_split
from service.errors import DataError
from training.stage import read_record

DATA = Path(os.environ.get("PLOTPOINTE_REAL_DATA", Path(__file__).parents[2] / "../shared/data"))

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["u1", "u2", "ü", ""]),
        st.sampled_from(["i1", "i2", "ı", ""]),
        st.sampled_from([1_400_000_000, 1_400_000_001, 5, "x"]),
    ),
    max_size=25,
)


def write(folder: Path, rows: list[tuple[object, ...]], items: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    body = [f'{{"reviewerID": "{u}", "asin": "{i}", "unixReviewTime": "{t}"}}' for u, i, t in rows]
    (folder / "reviews.json").write_text("\n".join(body))
    (folder / "meta.json").write_text("\n".join(repr({"asin": item, "title": f"Title {item}"}) for item in items))
    return folder


@settings(max_examples=60, deadline=None)
@given(ROWS, st.lists(st.sampled_from(["i1", "i9", ""]), max_size=5), st.integers(0, 2))
def test_every_record_is_accounted_for(rows: list[tuple[str, str, object]], items: list[str], k: int) -> None:
    good = [row for row in rows if row[0] and row[1] and row[2] not in (5, "x")]
    with tempfile.TemporaryDirectory() as name:
        data, work = write(Path(name) / "shop", rows, items), Path(name) / "work"
        if not good or (k == 2 and not k_core(_frame(good), k).any()):
            with pytest.raises(DataError, match="no usable interaction"):
                run_ingest(IngestSettings(k_core=k), data, work)
            assert not (work / "ingest").exists()
            return
        with patch("offline_jobs.ingest.report_page", return_value=""):  # drawing takes longest, and has its own tests
            run_ingest(IngestSettings(k_core=k), data, work)
        out = work / "ingest"
        report = json.loads((out / "report.json").read_text())
        quarantine = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
        interactions, users, catalog = (
            pl.read_parquet(out / f"{name}.parquet") for name in ("interactions", "users", "items")
        )
    counts = report["interactions"]
    assert counts["read"] == len(rows)
    assert counts["kept"] == interactions.height
    assert counts["kept"] + counts["duplicate"] + counts["outside_k_core"] == len(good)
    assert counts["duplicate"] == len(good) - len(set(good))
    reasons = Counter(e["reason"] for e in quarantine if e["file"] == "reviews.json")
    assert dict(reasons) == counts["quarantined"]
    assert reasons.total() == len(rows) - len(good)
    key = ["timestamp", "user_id", "item_id"]
    assert interactions.equals(interactions.sort(key).unique(maintain_order=True))
    assert users["user_id"].to_list() == sorted(set(interactions["user_id"]), key=str.encode)
    known = {item for item in items if item} | set(interactions["item_id"])
    assert catalog["item_id"].to_list() == sorted(known, key=str.encode)
    titled = catalog.filter(pl.col("title").is_not_null())["item_id"].to_list()
    assert set(titled) == {item for item in items if item}


def _frame(rows: list[tuple[str, str, object]]) -> pl.DataFrame:
    return pl.DataFrame({"user_id": [r[0] for r in rows], "item_id": [r[1] for r in rows]})


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40), st.integers(1, 4))
def test_k_core_equals_its_definition(pairs: list[tuple[int, int]], k: int) -> None:
    stays = set(pairs)
    while True:  # drop one side at a time until nothing changes
        users = Counter(u for u, _ in stays)
        smaller = {(u, i) for u, i in stays if users[u] >= k}
        items = Counter(i for _, i in smaller)
        smaller = {(u, i) for u, i in smaller if items[i] >= k}
        if smaller == stays:
            break
        stays = smaller
    frame = pl.DataFrame(pairs, schema={"user_id": pl.Int64, "item_id": pl.Int64}, orient="row")
    assert k_core(frame.cast(pl.String), k).to_list() == [pair in stays for pair in pairs]


def test_tables_are_as_the_later_stages_expect(tmp_path: Path) -> None:
    run_ingest(IngestSettings(), write(tmp_path / "shop", [("u", "i1", 1_400_000_000)], ["i2"]), tmp_path / "work")
    out = tmp_path / "work/ingest"
    assert pl.read_parquet_schema(out / "interactions.parquet") == {
        "user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "rating": pl.Float32,
    }  # fmt: skip
    assert pl.read_parquet_schema(out / "items.parquet") == {
        "item_id": pl.String, "title": pl.String, "description": pl.String, "brand": pl.String,
        "category": pl.String, "price": pl.Float32, "image": pl.String,
    }  # fmt: skip
    assert pl.read_parquet_schema(out / "users.parquet") == {"user_id": pl.String}
    report = json.loads((out / "report.json").read_text())
    assert report["catalog"] | {"missing": 0} == {
        "items": 2, "cold": 1, "missing": 0, "image_sources": {"file": 0, "archive": 0, "url": 0},
    }  # fmt: skip
    assert report["items"]["only_in_interactions"] == 1


def test_runs_again_only_when_something_changed(tmp_path: Path) -> None:
    data = write(tmp_path / "shop", [("u", "i1", 1_400_000_000)], ["i1"])

    def run(**options: int) -> tuple[float, str | None]:
        run_ingest(IngestSettings(**options), data, tmp_path / "work")
        record = read_record(tmp_path / "work/ingest")
        assert record is not None
        image = pl.read_parquet(tmp_path / "work/ingest/items.parquet")["image"][0]
        return (tmp_path / "work/ingest/stage.json").stat().st_mtime_ns, image

    first = run()
    assert run() == first
    (data / "truth.json").write_text("{}")  # no file that is read
    assert run() == first
    (data / "images").mkdir()
    (data / "images/i1.jpg").write_bytes(b"")
    second = run()
    assert second[1] == "images/i1.jpg"
    assert run(max_text_chars=60) != second


def test_a_summary_for_people_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "shop", [("u", "i1", 1_400_000_000), ("u", "i1", 5)], ["i1"])
    run_ingest(IngestSettings(), data, tmp_path / "work")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "1 kept of 2" in captured.err
    assert "interactions: timestamp is before 1995" in captured.err
    assert "by URL alone" not in captured.err
    (data / "meta.json").write_text("{'asin': 'i1', 'imUrl': 'https://images.example/i1.jpg'}")
    run_ingest(IngestSettings(), data, tmp_path / "work")
    assert "1  by URL alone: `plotpointe-jobs fetch-images`" in capsys.readouterr().err


def table_shop(data: Path, products: list[str]) -> Path:
    """A shop of its own tables, whose products have a colour and, in two parts, a season."""
    data.mkdir()
    (data / "shop.toml").write_text(
        "[interactions]\nfile = 'orders.csv'\nuser_id = 'who'\nitem_id = 'sku'\n"
        "[items]\nfile = 'products.csv'\nitem_id = 'sku'\ntitle = '{name}'\n"
        "[items.attributes]\ncolour = '{colour}'\nseason = ['{season}', '{year}']\n"
    )
    (data / "orders.csv").write_text("who,sku\nu,b\nu,z\n")
    (data / "products.csv").write_text("\n".join(["sku,name,colour,season,year", *products]) + "\n")
    return data


def test_attributes_are_kept_beside_what_every_item_has(tmp_path: Path) -> None:
    products = ["b,Cap,  dark   blue ,winter,2020", "a,Hat,,,", f"c,Bag,{'x' * 300},summer,", "b,Cap,red,,"]
    run_ingest(IngestSettings(), table_shop(tmp_path / "shop", products), tmp_path / "work")
    items = pl.read_parquet(tmp_path / "work/ingest/items.parquet")
    assert items["item_id"].to_list() == ["a", "b", "c", "z"]
    assert items["attribute.colour"].to_list() == [None, "dark blue", "x" * 200, None]
    assert items["attribute.season"].to_list() == [None, "winter 2020", "summer", None]
    report = json.loads((tmp_path / "work/ingest/report.json").read_text())
    assert report["items"]["conflicting"] == 1
    assert report["conflicts"]["items"][0]["field"] == "attribute.colour"


def test_an_attribute_that_names_each_item_is_refused(tmp_path: Path) -> None:
    products = [f"i{n},Cap,colour {n},winter," for n in range(10_001)]
    with pytest.raises(DataError, match=r"attribute.colour has 10,00[12] distinct values, at most 10,000"):
        run_ingest(IngestSettings(), table_shop(tmp_path / "shop", products), tmp_path / "work")
    assert not (tmp_path / "work/ingest").exists()


@pytest.mark.real_data
def test_fashion_week(tmp_path: Path) -> None:
    data = DATA / "fashion-week"
    if not data.is_dir():
        pytest.skip(f"no real data: {data} is not there; set PLOTPOINTE_REAL_DATA")
    run_ingest(IngestSettings(), data, tmp_path)
    run_split(SplitSettings(), tmp_path)
    report = json.loads((tmp_path / "ingest/report.json").read_text())
    rows = report["interactions"]
    assert (report["format"], rows["read"], rows["quarantined"]) == ("fashion-week", 207_445, {})
    assert (rows["kept"], rows["duplicate"]) == (187_306, 20_139)
    assert (report["users"], report["catalog"]["items"], report["catalog"]["cold"]) == (60_492, 21_986, 4_825)
    assert report["catalog"]["image_sources"] == {"file": 0, "archive": 21_900, "url": 0}
    assert report["time"]["days"] == 6
    first = pl.read_parquet(tmp_path / "ingest/items.parquet").row(0, named=True)
    assert (first["item_id"], first["title"], first["category"]) == ("0108775044", "Strap top", "Vest top")
    assert (first["attribute.colour"], first["attribute.section"]) == ("White", "Womens Everyday Basics")


@pytest.mark.real_data
def test_amazon_baby_with_the_split_of_the_papers(tmp_path: Path) -> None:
    data = DATA / "amazon-baby"
    if not data.is_dir():
        pytest.skip(f"no real data: {data} is not there; set PLOTPOINTE_REAL_DATA")
    run_ingest(IngestSettings(), data, tmp_path)
    run_split(SplitSettings(kind="given"), tmp_path)
    record = read_record(tmp_path / "split")
    assert record is not None
    assert [record.counts[name] for name in ("train", "validation", "test")] == [118_551, 20_559, 21_682]
    report = json.loads((tmp_path / "ingest/report.json").read_text())
    assert (report["users"], report["catalog"]["items"], report["time"]) == (19_445, 7_050, None)
    assert report["items"]["quarantined"] == {}


def test_reviews_follow_their_interactions_and_conflicts_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offline_jobs.row_order.RANGE_ROWS", 7)
    monkeypatch.setattr("offline_jobs.ingest_tables.RANGE_ROWS", 7)
    times = [1_400_000_000 + (n * 37) % 60 for n in range(60)]
    rows = [
        {
            "reviewerID": "u",
            "asin": f"i{n}",
            "unixReviewTime": t,
            "overall": 4,
            **({"reviewText": f"text {n}"} if n % 3 else {}),
        }
        for n, t in enumerate(times)
    ]
    rows += [rows[1] | {"reviewText": "<script>alert(1)</script>"}, rows[2] | {"overall": 1}, rows[3]]
    items = [{"asin": f"i{n}", "title": f"Title {n}"} for n in range(50)] + [
        {"asin": "i5", "title": "<b>other</b> & <i"}
    ]
    data = tmp_path / "shop"
    data.mkdir()
    (data / "reviews.json").write_text("\n".join(map(json.dumps, rows)))
    (data / "meta.json").write_text("\n".join(map(repr, items)) + "\n<img src=x onerror=alert(1)>")
    run_ingest(IngestSettings(), data, tmp_path / "work")
    out = tmp_path / "work/ingest"
    interactions, reviews = (pl.read_parquet(out / f"{name}.parquet") for name in ("interactions", "reviews"))
    assert reviews["interaction_row"].is_sorted()
    texts = dict(zip(interactions["item_id"].gather(reviews["interaction_row"]), reviews["text"], strict=True))
    assert texts == {f"i{n}": f"text {n}" for n in range(60) if n % 3}
    catalog = pl.read_parquet(out / "items.parquet")
    assert catalog["item_id"].to_list() == sorted(f"i{n}" for n in range(60))
    assert dict(catalog.select("item_id", "title").iter_rows()) == {
        f"i{n}": f"Title {n}" if n < 50 else None for n in range(60)
    }
    report = json.loads((out / "report.json").read_text())
    assert (report["interactions"]["duplicate"], report["interactions"]["conflicting"]) == (3, 2)
    assert (report["items"]["duplicate"], report["items"]["conflicting"]) == (1, 1)
    page = (out / "report.html").read_text()
    assert "&lt;img src=x onerror" in page
    assert not re.search(r"<(script|img|i|link|iframe)\b", page)
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page)
    run_ingest(IngestSettings(max_review_chars=0), data, tmp_path / "work")
    assert not (out / "reviews.parquet").exists()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40))
def test_core_sizes_are_those_of_the_cores(pairs: list[tuple[int, int]]) -> None:
    frame = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row") if pairs else _frame([])
    frame = frame.cast(pl.String)
    for k, users, items, interactions in core_sizes(frame, (1, 2, 3)):
        core = frame.filter(k_core(frame, k)).unique()
        assert (users, items, interactions) == (core["user_id"].n_unique(), core["item_id"].n_unique(), core.height)
