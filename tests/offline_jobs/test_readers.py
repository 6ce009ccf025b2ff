"""No bytes crash a reader, every record is accounted for, and a refused row says what, where and why."""

import contextlib
import gzip
import io
import json
import tarfile
import tempfile
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_jobs.readers import FORMATS, Quarantine, clean_interactions, clean_items, lines, open_shop
from offline_jobs.readers.lines import read_lines
from offline_jobs.readers.mapping import InteractionMapping, ItemMapping, Mapping
from service.errors import DataError

REVIEW = {"reviewerID": "U1", "asin": "B1", "unixReviewTime": 1400000000, "overall": 5.0}
ITEM = {"asin": "B1", "title": "Tea &amp; pot", "price": 9.5, "categories": [["Home", "Teapot"]], "brand": "Nor"}

SHOP_TOML = """
[interactions]
file = "orders.csv"
user_id = "customer"
item_id = "sku"
timestamp = "at"
[items]
file = "products.csv"
item_id = "sku"
title = "{name}"
description = ["{colour} {kind}.", "{details}"]
price = "price"
image = "photos/{sku}.jpg"
"""
ORDERS = "customer,sku,at\nU1,001,2020-01-02\n"
PRODUCTS = "sku,name,colour,kind,details,price\n001,Pot,red,pot,Nice.,9.5\n"


class Read:
    """Everything a folder gives: clean rows, quarantine entries, counters."""

    def __init__(self, data: Path, name: str = "auto", **options: int) -> None:
        shop = open_shop(data, name, **options)
        now = int(time.time())
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "quarantine.jsonl"
            with Quarantine(path) as quarantine:
                rows = [
                    clean_interactions(b, quarantine, now=now, has_time=shop.has_time)
                    for b in shop.interactions(quarantine)
                ]
                items = [clean_items(b, quarantine, max_text_chars=200) for b in shop.items(quarantine)]
            self.refused = [json.loads(line) for line in path.read_text().splitlines()]
        self.shop = shop
        self.interactions = pl.concat(rows).to_dicts() if rows else []
        self.items = pl.concat(items).to_dicts() if items else []
        self.rows_read = quarantine.rows_read
        assert len(self.refused) == quarantine.total("interactions") + quarantine.total("items")
        assert len(self.interactions) + quarantine.total("interactions") == self.rows_read["interactions"]
        assert len(self.items) + quarantine.total("items") == self.rows_read["items"]


def amazon(folder: Path, reviews: bytes, meta: bytes = b"", suffix: str = ".json") -> Path:
    folder.mkdir(exist_ok=True)
    pack = gzip.compress if suffix.endswith(".gz") else bytes
    (folder / f"reviews_Toys{suffix}").write_bytes(pack(reviews))
    (folder / f"meta_Toys{suffix}").write_bytes(pack(meta))
    return folder


def jsonl(*records: object) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def table(folder: Path, orders: str | bytes = ORDERS, products: str | bytes = PRODUCTS, toml: str = SHOP_TOML) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "shop.toml").write_text(toml)
    for name, text in (("orders.csv", orders), ("products.csv", products)):
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


# ---- any bytes

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
CELL = st.one_of(
    st.sampled_from(["U1", "001", "2020-01-02", "9.5", "-1", "nan", "", '"', "1e400", "x,y"]), st.text(max_size=5)
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
@given(st.binary(max_size=200), st.binary(max_size=100))
def test_any_bytes_in_inter_and_jsonl_files(rows: bytes, items: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "toys.inter").write_bytes(b"user_id:token\titem_id:token\ttimestamp:float\n" + rows)
        (Path(name) / "items.jsonl").write_bytes(items)
        Read(Path(name))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["orders.csv", "products.csv", "shop.toml"]), st.binary(max_size=80))
def test_any_file_at_all_gives_rows_or_a_data_error(file: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = table(Path(name))
        (folder / file).write_bytes(content)
        with contextlib.suppress(DataError):
            Read(folder)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=120), st.integers(1, 40), st.integers(1, 12))
def test_lines_are_the_same_whatever_the_chunk(content: bytes, chunk: int, limit: int) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "CHUNK_BYTES", chunk)
        path = Path(name) / "file"
        path.write_bytes(b"\n\n" + content)  # never mistaken for gzip
        found = list(read_lines(path, limit + 200))
        short = list(read_lines(path, limit))
    wanted = [raw.removesuffix(b"\r") for raw in content.split(b"\n")]
    wanted_lines = [(n, raw) for n, raw in enumerate(wanted, start=3) if raw and not raw.isspace()]
    assert [line.number for line in found] == [n for n, _ in wanted_lines]
    assert [line.text for line in found if not line.problem] == [
        raw.decode() for _, raw in wanted_lines if _is_utf8(raw)
    ]
    too_long = [n for n, raw in enumerate(content.split(b"\n"), start=3) if len(raw) > limit]
    assert [line.number for line in short if "longer" in line.problem] == too_long


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


# ---- refused rows


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


def test_a_truncated_gzip_keeps_what_was_read(tmp_path: Path) -> None:
    rows = b"".join(jsonl(REVIEW | {"reviewerID": f"user {n} {hash(str(n))}"}) for n in range(3000))
    folder = amazon(tmp_path / "shop", rows, repr(ITEM).encode(), ".json.gz")
    file = folder / "reviews_Toys.json.gz"
    file.write_bytes(file.read_bytes()[:-2000])
    read = Read(folder)
    assert 1000 < len(read.interactions) < 3000
    (entry,) = read.refused
    assert "truncated" in entry["reason"]
    assert entry["line"] == len(read.interactions) + 1


def test_damaged_gzip_bytes_are_reported(tmp_path: Path) -> None:
    folder = amazon(tmp_path / "shop", jsonl(REVIEW), b"", ".json.gz")
    (folder / "reviews_Toys.json.gz").write_bytes(b"\x1f\x8b\x08\x00" + b"\xff" * 50)
    assert "damaged gzip" in Read(folder).refused[0]["reason"]


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


# ---- what is read


def test_amazon_rows(tmp_path: Path) -> None:
    literal = (
        "{'asin': 'B2', 'title': \"Kid's \\x43up\", 'description': 'a <b>b</b>', 'imUrl': 'http://x/2.jpg', 'price': 3}"
    )
    folder = amazon(tmp_path / "shop", jsonl(REVIEW), jsonl(ITEM) + literal.encode())
    (folder / "images").mkdir()
    (folder / "images/B1.png").write_bytes(b"")
    read = Read(folder)
    assert read.shop.format == "amazon-2014"
    assert read.interactions == [{"user_id": "U1", "item_id": "B1", "timestamp": 1400000000}]
    first, second = read.items
    assert first == {
        "item_id": "B1", "title": "Tea & pot", "description": None, "brand": "Nor", "category": "Teapot",
        "price": 9.5, "image": "images/B1.png",
    }  # fmt: skip
    assert (second["title"], second["description"], second["image"]) == ("Kid's Cup", "a b", "http://x/2.jpg")


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


@pytest.mark.parametrize("header", ["user_id:token\titem_id:token\ttimestamp:float", "userID\titemID\ttimestamp"])
@pytest.mark.parametrize("suffix", [".inter", ".inter.gz"])
def test_inter(tmp_path: Path, header: str, suffix: str) -> None:
    text = f'{header}\n1\t"7\t1400000000.0\n'.encode()
    (tmp_path / f"toys{suffix}").write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    (tmp_path / "toys.item").write_text("item_id:token\ttitle:token_seq\n7\tPot\n")
    read = Read(tmp_path)
    assert read.interactions == [{"user_id": "1", "item_id": '"7', "timestamp": 1400000000}]
    assert [(item["item_id"], item["title"]) for item in read.items] == [("7", "Pot")]


def test_inter_with_labels_and_no_times(tmp_path: Path) -> None:
    (tmp_path / "baby.inter").write_text("userID\titemID\tx_label\n0\t1\t2\n0\t2\t3\n")
    read = Read(tmp_path)
    assert read.interactions == [{"user_id": "0", "item_id": "1", "timestamp": 0, "label": 2}]
    assert read.refused[0]["reason"] == "label is not 0, 1 or 2"


def test_fashion_week_columns(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"t_dat": ["2020-09-16", None], "customer_id": ["c", "d"], "article_id": ["0108775044"] * 2}),
        tmp_path / "transactions.parquet",
    )
    names = ("prod_name", "product_type_name", "colour_group_name", "graphical_appearance_name", "section_name")
    item = {"article_id": "0108775044", **{name: name.split("_")[0] for name in names}, "department_name": "dep"}
    pq.write_table(
        pa.table({key: [value] for key, value in {**item, "detail_desc": None}.items()}), tmp_path / "items.parquet"
    )
    with tarfile.open(tmp_path / "images_128.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("0108775044.jpg"), io.BytesIO())
    read = Read(tmp_path)
    assert read.shop.format == "fashion-week"
    assert read.interactions == [{"user_id": "c", "item_id": "0108775044", "timestamp": 1600214400}]
    assert [(e["line"], e["reason"]) for e in read.refused] == [(2, "timestamp is missing")]
    assert '"customer_id": "d"' in read.refused[0]["row"]
    assert read.items[0]["description"] == "colour product, graphical. section, dep."
    assert read.items[0]["image"] == "images_128.tar::0108775044.jpg"


# ---- folders that cannot be read


def test_wrong_paths(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        open_shop(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file, not a folder"):
        open_shop(tmp_path / "file")


def test_an_unrecognised_folder_lists_what_is_known_and_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "sales.xlsx").touch()
    with pytest.raises(DataError, match=r"found sales\.xlsx") as caught:
        open_shop(tmp_path)
    assert all(name in caught.value.todo for name in FORMATS)
    with pytest.raises(DataError, match=r"unknown format 'xml'.*amazon-2014"):
        open_shop(tmp_path, "xml")


def test_two_formats_in_one_folder_need_a_flag(tmp_path: Path) -> None:
    amazon(tmp_path, jsonl(REVIEW))
    (tmp_path / "x.inter").write_text("user_id\titem_id\n1\t2\n")
    with pytest.raises(DataError, match="more than one format"):
        open_shop(tmp_path)
    assert Read(tmp_path, "inter").interactions[0]["item_id"] == "2"


def test_a_missing_column_names_it_and_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"products\.csv: missing column 'colour'; found 'sku', 'name'"):
        open_shop(table(tmp_path / "shop", products="sku,name,kind,details,price\n"))
    with pytest.raises(DataError, match="column 'sku' is there twice"):
        open_shop(table(tmp_path / "shop", orders="customer,sku,at,sku\n"))
    (tmp_path / "x.inter").write_text("buyer\titem_id\n1\t2\n")
    with pytest.raises(DataError, match=r"x\.inter:1: no column for user_id; found buyer, item_id"):
        open_shop(tmp_path)


def test_damaged_parquet_and_foreign_columns(tmp_path: Path) -> None:
    toml = SHOP_TOML.replace("orders.csv", "orders.parquet")
    folder = table(tmp_path / "shop", toml=toml)
    (folder / "orders.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r"orders\.parquet: not a whole Parquet file"):
        open_shop(folder)
    pq.write_table(pa.table({"customer": [["a"]], "sku": ["b"], "at": ["2020-01-01"]}), folder / "orders.parquet")
    with pytest.raises(DataError, match="column 'customer' is list"):
        open_shop(folder)
    pq.write_table(pa.table({"customer": [1.5], "sku": ["b"], "at": ["2020-01-01"]}), folder / "orders.parquet")
    with pytest.raises(DataError, match=r"column 'customer' is double\. It must hold text or whole numbers"):
        open_shop(folder)


def test_parquet_kinds(tmp_path: Path) -> None:
    folder = table(tmp_path / "shop", toml=SHOP_TOML.replace("orders.csv", "orders.parquet"))
    moment = datetime(2014, 5, 13, 16, 53, 20, tzinfo=UTC)
    for kind in (pa.timestamp("us", "Europe/Paris"), pa.timestamp("ns"), pa.timestamp("s", "UTC")):
        value = moment if kind.tz else moment.replace(tzinfo=None)
        sku = pa.array(["b"]).dictionary_encode()
        orders = pa.table({"customer": pa.array([7], pa.int32()), "sku": sku, "at": pa.array([value], kind)})
        pq.write_table(orders, folder / "orders.parquet")
        assert Read(folder).interactions == [{"user_id": "7", "item_id": "b", "timestamp": 1400000000}]


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[interactions", "not valid TOML"),
        ("[interactions]\nfile = 'a.csv'\n", "interactions.user_id: Field required"),
        (SHOP_TOML.replace("orders.csv", "../orders.csv"), "leaves the shop's folder"),
        (SHOP_TOML.replace("orders.csv", "orders.xlsx"), "no such file"),
        (SHOP_TOML.replace('"at"', '"at"\ntimestamp_format = "soon"'), "'soon' is neither auto"),
        (SHOP_TOML.replace('"at"', '"at"\ntimestamp_format = "%H"'), "'%H' is neither auto"),
        (SHOP_TOML + 'colour = "x"\n', "items.colour: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_mapping_names_the_key(tmp_path: Path, toml: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_shop(table(tmp_path / "shop", toml=toml))


# ---- the documentation


def test_the_documentation_names_every_format_and_key() -> None:
    text = (Path(__file__).parents[2] / "docs/DATA_FORMATS.md").read_text()
    for word in (*FORMATS, *InteractionMapping.model_fields, *ItemMapping.model_fields):
        assert f"`{word}`" in text
    example = text.split("```toml\n")[1].split("```")[0]
    Mapping.model_validate(tomllib.loads(example))
