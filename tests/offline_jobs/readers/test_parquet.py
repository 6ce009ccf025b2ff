"""Parquet tables: kinds of columns, damaged files, and the mapping that is built in."""

import io
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from offline_jobs.readers import open_shop
from service.errors import DataError
from tests.offline_jobs.readers.folders import SHOP_TOML, Read, table


def test_fashion_week_columns(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"t_dat": ["2020-09-16", None], "customer_id": ["c", "d"], "article_id": ["0108775044"] * 2}),
        tmp_path / "transactions.parquet",
    )
    names = ("prod_name", "product_type_name", "colour_group_name", "graphical_appearance_name", "section_name")
    names += ("perceived_colour_master_name", "product_group_name", "garment_group_name", "index_group_name")
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
    assert (read.items[0]["attribute.colour_family"], read.items[0]["attribute.department"]) == ("perceived", "dep")


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
