"""Amazon reviews 2014: no bytes crash the reader, and a refused row says what, where and why."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.offline_jobs.readers.folders import ITEM, REVIEW, Read, amazon, jsonl

JSON_VALUE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just([["a"], 1]), st.just({"a": 1})
)
RECORD = st.fixed_dictionaries(
    {}, optional={key: JSON_VALUE for key in {*REVIEW, *ITEM, "description", "imUrl", "title"}}
)
LINE = st.one_of(
    st.binary(max_size=40),
    RECORD.map(lambda record: json.dumps(record).encode()),
    RECORD.map(lambda record: repr(record).encode("utf-8", "surrogatepass")),
    st.just(jsonl(REVIEW).strip()),
    st.just(repr(ITEM).encode()),
    st.just(b"[" * 3000),
    st.just(b'{"asin": "\\ud800", "reviewerID": "x\\u0000", "unixReviewTime": 1e999}'),
    st.just(b"{'asin': '\\d', [] : 1}"),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(LINE, max_size=8), st.lists(LINE, max_size=8), st.sampled_from([".json", ".json.gz"]), st.data())
def test_any_lines_in_amazon_files(reviews: list[bytes], meta: list[bytes], suffix: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = amazon(Path(name), b"\n".join(reviews), b"\n".join(meta), suffix)
        file = folder / f"reviews_Toys{suffix}"
        whole = file.read_bytes()
        file.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
        Read(folder)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"reviewerID": "U1"', "not valid JSON"),
        (b"[1, 2]", "not a JSON object"),
        (jsonl(REVIEW | {"reviewerID": None}), "user_id is missing"),
        (jsonl(REVIEW | {"asin": "  "}), "item_id is missing"),
        (jsonl(REVIEW | {"asin": 1.5}), "asin is neither text nor a whole number"),
        (jsonl(REVIEW | {"asin": "B\n1"}), "item_id holds control characters"),
        (jsonl(REVIEW | {"asin": "\ud800"}), "asin is not valid Unicode"),
        (jsonl(REVIEW | {"asin": "B" * 300}), "item_id is longer than 256 bytes"),
        (jsonl(REVIEW | {"unixReviewTime": None}), "timestamp is missing"),
        (jsonl(REVIEW | {"unixReviewTime": "soon"}), "unixReviewTime is not a number"),
        (jsonl(REVIEW | {"unixReviewTime": float("nan")}), "timestamp cannot be read"),
        (jsonl(REVIEW | {"unixReviewTime": 1000}), "timestamp is before 1995"),
        (jsonl(REVIEW | {"unixReviewTime": 10**40}), "timestamp is in the future"),
        (b'{"reviewerID": "\xff"}', "not UTF-8"),
        (b'{"reviewerID": "' + b"x" * 5000, "line longer than 4096 bytes"),
    ],
)
def test_a_refused_review_names_file_line_and_reason(tmp_path: Path, row: bytes, reason: str) -> None:
    folder = amazon(tmp_path / "shop", jsonl(REVIEW) + b"\n" + row.strip() + b"\n" + jsonl(REVIEW))
    read = Read(folder, max_line_bytes=4096)
    assert len(read.interactions) == 2
    (entry,) = read.refused
    assert (entry["file"], entry["line"], entry["reason"]) == ("reviews_Toys.json", 3, reason)
    assert 0 < len(entry["row"]) <= 500


@pytest.mark.parametrize(
    ("price", "reason"),
    [
        (-1, "price is negative"),
        (float("nan"), "price is not a finite number"),
        (float("inf"), "price is not a finite number"),
        (1e12, "price is above 1e+09"),
        ("cheap", "price is not a number"),
    ],
)
def test_a_refused_item_names_file_line_and_reason(tmp_path: Path, price: object, reason: str) -> None:
    folder = amazon(tmp_path / "shop", jsonl(REVIEW), jsonl(ITEM, ITEM | {"asin": "B2", "price": price}))
    read = Read(folder)
    assert [item["item_id"] for item in read.items] == ["B1"]
    assert [(entry["line"], entry["reason"]) for entry in read.refused] == [(2, reason)]


def test_amazon_rows(tmp_path: Path) -> None:
    literal = (
        "{'asin': 'B2', 'title': \"Kid's \\x43up\", 'description': 'a <b>b</b>', 'imUrl': 'http://x/2.jpg', 'price': 3}"
    )
    folder = amazon(
        tmp_path / "shop",
        jsonl(REVIEW | {"summary": "Good", "reviewText": "pot,<br />&quot;the&#34;  best"}),
        jsonl(ITEM) + literal.encode(),
    )
    (folder / "images").mkdir()
    (folder / "images/B1.png").write_bytes(b"")
    read = Read(folder)
    assert read.shop.format == "amazon-2014"
    assert read.interactions == [
        {"user_id": "U1", "item_id": "B1", "timestamp": 1400000000, "rating": 5.0, "review": 'Good pot, "the" best'}
    ]
    first, second = read.items
    assert first == {
        "item_id": "B1", "title": "Tea & pot", "description": None, "brand": "Nor", "category": "Teapot",
        "price": 9.5, "image": "images/B1.png",
    }  # fmt: skip
    assert (second["title"], second["description"], second["image"]) == ("Kid's Cup", "a b", "http://x/2.jpg")
