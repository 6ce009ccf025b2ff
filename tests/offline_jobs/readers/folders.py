"""Folders of a shop as tests need them, and everything that is read from one."""

import gzip
import json
import tempfile
import time
from pathlib import Path

import polars as pl

from offline_jobs.readers import Quarantine, clean_interactions, clean_items, open_shop

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
REVIEW = {"reviewerID": "U1", "asin": "B1", "unixReviewTime": 1400000000, "overall": 5.0}
ITEM = {"asin": "B1", "title": "Tea &amp; pot", "price": 9.5, "categories": [["Home", "Teapot"]], "brand": "Nor"}


def jsonl(*records: object) -> bytes:
    """Strict JSON, a line each."""
    return "".join(json.dumps(record) + "\n" for record in records).encode()


class Read:
    """Everything a folder gives: clean rows, quarantine entries, counters that add up."""

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
        self.dropped = dict(quarantine.dropped["items"])
        assert len(self.refused) == quarantine.total("interactions") + quarantine.total("items")
        assert len(self.interactions) + quarantine.total("interactions") == self.rows_read["interactions"]
        assert len(self.items) + quarantine.total("items") == self.rows_read["items"]


def amazon(folder: Path, reviews: bytes, meta: bytes = b"", suffix: str = ".json", name: str = "reviews_Toys") -> Path:
    """`<name>` and `meta_Toys`, packed where the suffix says so."""
    folder.mkdir(exist_ok=True)
    pack = gzip.compress if suffix.endswith(".gz") else bytes
    (folder / f"{name}{suffix}").write_bytes(pack(reviews))
    (folder / f"meta_Toys{suffix}").write_bytes(pack(meta))
    return folder


def table(folder: Path, orders: str | bytes = ORDERS, products: str | bytes = PRODUCTS, toml: str = SHOP_TOML) -> Path:
    """A shop.toml with the two tables it maps."""
    folder.mkdir(exist_ok=True)
    (folder / "shop.toml").write_text(toml)
    for name, text in (("orders.csv", orders), ("products.csv", products)):
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder
