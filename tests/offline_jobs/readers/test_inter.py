"""RecBole's .inter and .item, and JSON lines of items."""

import gzip
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.offline_jobs.readers.folders import Read


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=100))
def test_any_bytes_in_inter_and_jsonl_files(rows: bytes, items: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "toys.inter").write_bytes(b"user_id:token\titem_id:token\ttimestamp:float\n" + rows)
        (Path(name) / "items.jsonl").write_bytes(items)
        Read(Path(name))


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


def test_typed_columns_of_an_item_file_become_our_own(tmp_path: Path) -> None:
    (tmp_path / "toys.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t7\t4.5\t1400000000\n"
    )
    (tmp_path / "toys.item").write_text(
        "item_id:token\tprice:float\tsales_rank:float\tstore:token\tcategories:token_seq\titem_name:token_seq\n"
        "7\t9.5\t3\tNor\tHome Tea\tPot\n8\tnan\t3\t\t\t\n9\t\t3\t\t\t\n"
    )
    read = Read(tmp_path)
    assert read.interactions == [{"user_id": "1", "item_id": "7", "timestamp": 1400000000, "rating": 4.5}]
    first, second = read.items
    assert (first["title"], first["brand"], first["category"], first["price"]) == ("Pot", "Nor", "Home Tea", 9.5)
    assert (second["item_id"], second["price"]) == ("9", None)
    assert read.refused[0]["reason"] == "price is not a finite number"
