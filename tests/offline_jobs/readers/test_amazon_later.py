"""Amazon reviews 2018 and 2023: rows in their published form, any lines at all, and which release a folder is."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_jobs.readers import open_shop
from offline_jobs.readers.amazon import BAD_PRICE
from offline_jobs.readers.values import as_price
from service.errors import DataError
from tests.offline_jobs.readers.folders import ITEM, REVIEW, Read, amazon, jsonl

REVIEW_2018 = REVIEW | {"verified": True, "vote": "1,234", "style": {"Size:": " L"}, "reviewText": "b", "summary": "a"}
META_2018 = {
    "asin": "B1", "title": "Pot", "description": ["One.", "", "Two &amp; more."], "brand": "Nor", "rank": ["7"],
    "category": ["Home", "Tea", "</span>"], "price": "$1,234.56", "also_buy": ["B2"],
    "imageURL": ["http://x/s.jpg"], "imageURLHighRes": ["http://x/l.jpg", "http://x/m.jpg"],
}  # fmt: skip
REVIEW_2023 = {
    "rating": 4.0, "title": "Nice", "text": "pot", "images": [], "asin": "V1", "parent_asin": "B1", "user_id": "U1",
    "timestamp": 1400000000123, "helpful_vote": 0, "verified_purchase": True,
}  # fmt: skip
META_2023 = {
    "main_category": "Home", "title": "Pot", "average_rating": 4.5, "rating_number": 9, "features": ["Red.", "Big."],
    "description": ["Fine."], "price": 9.5, "store": "Nor", "categories": ["Home", "Tea"], "parent_asin": "B1",
    "images": [{"variant": "PT01", "large": "http://x/2.jpg"}, {"variant": "MAIN", "hi_res": None, "thumb": "http://x/t.jpg",
               "large": "http://x/1.jpg"}], "bought_together": None,
}  # fmt: skip

Release = tuple[str, dict[str, object], dict[str, object], str]
RELEASES: list[Release] = [
    (".json", REVIEW_2018, META_2018, "amazon-2018"),
    (".jsonl", REVIEW_2023, META_2023, "amazon-2023"),
]


def test_2018_rows(tmp_path: Path) -> None:
    junk = META_2018 | {
        "asin": "B2",
        "price": ".a-box-inner{background-color:#fff}",
        "imageURLHighRes": [],
        "title": None,
    }
    read = Read(amazon(tmp_path, jsonl(REVIEW_2018), jsonl(META_2018, junk), ".json.gz", "Toys_5"))
    assert read.shop.format == "amazon-2018"
    assert read.interactions == [
        {"user_id": "U1", "item_id": "B1", "timestamp": 1400000000, "rating": 5.0, "review": "a b"}
    ]
    first, second = read.items
    assert first == {
        "item_id": "B1", "title": "Pot", "description": "One. Two & more.", "brand": "Nor", "category": "Tea",
        "price": pytest.approx(1234.56), "image": "http://x/l.jpg",
    }  # fmt: skip
    assert (second["price"], second["image"]) == (None, "http://x/s.jpg")
    assert read.dropped == {BAD_PRICE: 1}


def test_2023_rows(tmp_path: Path) -> None:
    read = Read(amazon(tmp_path, jsonl(REVIEW_2023), jsonl(META_2023), ".jsonl", "Toys"))
    assert read.shop.format == "amazon-2023"
    assert read.interactions == [
        {"user_id": "U1", "item_id": "B1", "timestamp": 1400000000, "rating": 4.0, "review": "Nice pot"}
    ]
    assert read.items == [
        {"item_id": "B1", "title": "Pot", "description": "Fine. Red. Big.", "brand": "Nor", "category": "Tea",
         "price": 9.5, "image": "http://x/1.jpg"}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "price"),
    [("$1,234.56", (1234.56, True)), ("from 12.99", (12.99, True)), ("$5.00 - $9.99", (5.0, True)),
     ("—", (None, False)), ("", (None, True)), (None, (None, True)), (3, (3.0, True)),
     ("<div>9</div>", (None, False)), ([1], (None, False))],
)  # fmt: skip
def test_prices(text: object, price: tuple[float | None, bool]) -> None:
    assert as_price(text) == price


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["large", "variant"]), inner),
    max_leaves=4,
)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(
        [(".json", REVIEW_2018, META_2018, "amazon-2018"), (".jsonl", REVIEW_2023, META_2023, "amazon-2023")]
    ),
    st.data(),
)
def test_any_values_in_any_field(
    release: tuple[str, dict[str, object], dict[str, object], str], data: st.DataObject
) -> None:
    suffix, review, meta, name = release
    reviews, items = (
        data.draw(
            st.lists(
                st.binary(max_size=20)
                | st.dictionaries(st.sampled_from(sorted(of)), ANY).map(
                    lambda odd, of=of: json.dumps({**of, **odd}).encode()
                ),
                max_size=5,
            )
        )
        for of in (review, meta)
    )
    with tempfile.TemporaryDirectory() as folder:
        Read(amazon(Path(folder), b"\n".join(reviews), b"\n".join(items), suffix, "Toys"), name)


def test_the_fields_tell_2018_under_the_names_of_2014(tmp_path: Path) -> None:
    assert open_shop(amazon(tmp_path / "a", jsonl(REVIEW_2018), jsonl(META_2018))).format == "amazon-2018"
    assert open_shop(amazon(tmp_path / "b", jsonl(REVIEW), jsonl(ITEM), name="Toys")).format == "amazon-2014"


def test_ambiguous_folders_say_what_to_do(tmp_path: Path) -> None:
    folder = amazon(tmp_path / "a", jsonl(REVIEW_2018), jsonl(META_2018), name="Toys")
    amazon(folder, jsonl(REVIEW_2018), jsonl(META_2018), name="Toys_5")
    with pytest.raises(DataError, match=r"one is a part of the other.*Leave one of the two"):
        open_shop(folder)
    with pytest.raises(DataError, match=r"files of two releases.*--format"):
        open_shop(amazon(tmp_path / "b", jsonl(REVIEW | {"helpful": [0, 0]}), jsonl(META_2018)))
    both = amazon(tmp_path / "c", jsonl(REVIEW), jsonl(ITEM))
    amazon(both, jsonl(REVIEW_2023), jsonl(META_2023), ".jsonl", "Toys")
    with pytest.raises(DataError, match=r"more than one format.*--format"):
        open_shop(both)
