"""A shop's own tables: CSV and Parquet through a column mapping."""

import contextlib
import io
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_jobs.readers import open_shop
from service.errors import DataError
from tests.offline_jobs.readers.folders import ORDERS, PRODUCTS, SHOP_TOML, Read, table

CELL = st.one_of(
    st.sampled_from(["U1", "001", "2020-01-02", "9.5", "-1", "nan", "", '"', "1e400", "x,y"]), st.text(max_size=5)
)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200), st.lists(st.lists(CELL, max_size=7).map(",".join)).map("\n".join).map(str.encode)
    ),
    st.one_of(
        st.binary(max_size=200), st.lists(st.lists(CELL, max_size=7).map(",".join)).map("\n".join).map(str.encode)
    ),
)
def test_any_rows_in_csv_files(orders: bytes, products: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        heads = ORDERS.split("\n")[0].encode(), PRODUCTS.split("\n")[0].encode()
        Read(table(Path(name), heads[0] + b"\n" + orders, heads[1] + b"\n" + products))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["orders.csv", "products.csv", "shop.toml"]), st.binary(max_size=80))
def test_any_file_at_all_gives_rows_or_a_data_error(file: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = table(Path(name))
        (folder / file).write_bytes(content)
        with contextlib.suppress(DataError):
            Read(folder)


def test_refused_csv_rows(tmp_path: Path) -> None:
    rows = (b"U1,001,2020-01-02", b"U2,001", b"U3,002,yesterday", b"U\xff,1,2020-01-02", b"U4,003,2020-01-02 10:00:00")
    orders = b"\n".join((b"customer,sku,at", *rows))
    read = Read(table(tmp_path / "shop", orders))
    assert [row["user_id"] for row in read.interactions] == ["U1", "U4"]
    assert [(entry["line"], entry["reason"]) for entry in read.refused] == [
        (3, "2 cells where the header has 3"),
        (5, "not UTF-8"),
        (4, "timestamp cannot be read"),
    ]


@pytest.mark.parametrize("follow", [1, 50, 5000])
def test_an_unclosed_quote_costs_its_own_row_only(tmp_path: Path, follow: int) -> None:
    good = [f"U{n},001,2020-01-02" for n in range(follow)]
    read = Read(table(tmp_path / "shop", "\n".join(["customer,sku,at", 'U,"001,2020-01-02', *good])))
    assert [row["user_id"] for row in read.interactions] == [f"U{n}" for n in range(follow)]
    assert [(entry["line"], entry["row"]) for entry in read.refused] == [(2, 'U,"001,2020-01-02')]


def test_a_cell_larger_than_the_csv_limit_is_refused(tmp_path: Path) -> None:
    rows = f"customer,sku,at\nU1,{'x' * 200_000},2020-01-02\nU2,001,2020-01-02\n"
    read = Read(table(tmp_path / "shop", rows))
    assert [row["user_id"] for row in read.interactions] == ["U2"]
    assert "field larger than field limit" in read.refused[0]["reason"]


def test_a_mapped_csv_keeps_leading_zeros_and_skips_empty_parts(tmp_path: Path) -> None:
    products = PRODUCTS + '002,"Big, ""round"" pot",,pot,"Two\nlines.",\n'
    folder = table(tmp_path / "shop", "\ufeff" + ORDERS.replace("\n", "\r\n"), products)
    (folder / "photos").mkdir()
    (folder / "photos/001.jpg").write_bytes(b"")
    read = Read(folder)
    assert read.interactions == [{"user_id": "U1", "item_id": "001", "timestamp": 1577923200}]
    first, second = read.items
    assert (first["item_id"], first["description"], first["price"]) == ("001", "red pot. Nice.", 9.5)
    assert first["image"] == "photos/001.jpg"
    assert (second["title"], second["description"]) == ('Big, "round" pot', "Two lines.")
    assert (second["price"], second["image"]) == (None, None)


def test_images_in_an_archive_and_as_urls(tmp_path: Path) -> None:
    folder = table(tmp_path / "shop", toml=SHOP_TOML.replace("photos/{sku}.jpg", "photos.tar::{sku}.jpg"))
    with tarfile.open(folder / "photos.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("001.jpg"), io.BytesIO())
    assert Read(folder).items[0]["image"] == "photos.tar::001.jpg"
    (folder / "photos.tar").write_bytes(b"no archive")
    with pytest.raises(DataError, match="archive with the pictures cannot be read"):
        open_shop(folder)
    url = table(tmp_path / "url", toml=SHOP_TOML.replace("photos/{sku}.jpg", "https://cdn.example/{sku}.jpg"))
    assert Read(url).items[0]["image"] == "https://cdn.example/001.jpg"


def test_an_item_id_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"")
    folder = table(tmp_path / "shop", products=PRODUCTS.replace("001,", "../../secret,"))
    assert Read(folder).items[0]["image"] is None


@pytest.mark.parametrize(
    ("value", "pattern", "seconds"),
    [
        ("1400000000", "auto", 1400000000),
        ("1400000000123", "unix-ms", 1400000000),
        ("2014-05-13", "auto", 1399939200),
        ("2014-05-13 16:53:20", "auto", 1400000000),
        ("2014-05-13T16:53:20.5Z", "auto", 1400000000),
        ("13.05.2014", "%d.%m.%Y", 1399939200),
        ("2014-05-13 18:53:20+0200", "%Y-%m-%d %H:%M:%S%z", 1400000000),
    ],
)
def test_times(tmp_path: Path, value: str, pattern: str, seconds: int) -> None:
    toml = SHOP_TOML.replace('"at"', f'"at"\ntimestamp_format = "{pattern}"')
    read = Read(table(tmp_path / "shop", f"customer,sku,at\nU1,1,{value}\n", toml=toml))
    assert [row["timestamp"] for row in read.interactions] == [seconds]
