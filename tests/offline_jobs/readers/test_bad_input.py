"""Input that is bad at full size: nothing crashes, memory stays bounded, nothing is lost."""

import gzip
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_jobs.readers.lines import read_blocks
from tests.offline_jobs.readers.folders import ITEM, REVIEW, Read, amazon, jsonl

LONG_LINE = 1 << 28
MEASURE = """
import sys
from pathlib import Path
from offline_jobs.readers.lines import Line, read_lines
from training.stage import peak_rss_kib
before = peak_rss_kib()
print(*[(line.number, line.problem or line.text) for line in read_lines(Path(sys.argv[1]), 1 << 20)], sep="|")
print((peak_rss_kib() - before) // 1024)
"""


@pytest.mark.parametrize("fill", [b"\0", b" ", b"["])
def test_a_line_of_a_quarter_gigabyte_is_never_held(tmp_path: Path, fill: bytes) -> None:
    path = tmp_path / "long.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"first\n")
        for _ in range(LONG_LINE >> 22):
            file.write(fill * (1 << 22))
        file.write(b"\nlast\n")
    output = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True, timeout=60
    ).stdout.splitlines()
    assert output[0] == "(1, 'first')|(2, 'line longer than 1048576 bytes')|(3, 'last')"
    assert int(output[1]) < 64, "MiB gained"


@pytest.mark.parametrize(
    ("stamp", "reason"),
    [
        (253_402_214_400, "timestamp is in the future"),  # year 9999
        (-1, "timestamp is before 1995"),
        (1_400_000_000_000, "timestamp is in milliseconds, not seconds"),
        (float("inf"), "timestamp is in the future"),
        (float("-inf"), "timestamp is before 1995"),
    ],
)
def test_times_that_cannot_be(tmp_path: Path, stamp: float, reason: str) -> None:
    read = Read(amazon(tmp_path, jsonl(REVIEW, REVIEW | {"unixReviewTime": stamp})))
    assert len(read.interactions) == 1
    assert [(entry["line"], entry["reason"]) for entry in read.refused] == [(2, reason)]


@pytest.mark.parametrize("rating", [float("nan"), float("inf"), 1e9])
def test_ratings_that_cannot_be(tmp_path: Path, rating: float) -> None:
    read = Read(amazon(tmp_path, jsonl(REVIEW, REVIEW | {"overall": rating}, REVIEW | {"overall": None})))
    assert [row["rating"] for row in read.interactions] == [5.0, None]
    assert read.refused[0]["reason"] == "rating is not a number"


def test_a_mark_at_the_start_and_foreign_line_ends(tmp_path: Path) -> None:
    reviews = b"\xef\xbb\xbf" + jsonl(REVIEW, REVIEW).replace(b"\n", b"\r\n")
    assert len(Read(amazon(tmp_path, reviews)).interactions) == 2


def test_nul_bytes_and_lone_surrogates(tmp_path: Path) -> None:
    rows = [REVIEW | {"reviewText": "a\0b \ud800"}, REVIEW | {"asin": "B\0"}, REVIEW | {"asin": "\ud800"}]
    read = Read(amazon(tmp_path, jsonl(*rows) + b"\0\0\n"))
    assert [row["review"] for row in read.interactions] == ["a b ?"]
    assert [(entry["line"], entry["reason"]) for entry in read.refused] == [
        (3, "asin is not valid Unicode"),
        (4, "not valid JSON"),
        (2, "item_id holds control characters"),
    ]


def test_metadata_read_by_processes_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [ITEM | {"asin": f"B{n}", "title": f"It's {n}", "price": n if n % 100 else "no"} for n in range(2000)]
    folder = amazon(tmp_path, jsonl(REVIEW), "\n".join(map(repr, items)).encode())
    here = Read(folder)
    monkeypatch.setattr("offline_jobs.readers.records.LARGE_BYTES", 0)
    monkeypatch.setattr("offline_jobs.readers.lines.CHUNK_BYTES", 1 << 15)
    there = Read(folder)
    assert len(here.items) == 1980
    assert (there.items, there.refused) == (here.items, here.refused)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 80), st.integers(1, 30))
def test_every_byte_of_a_file_is_in_a_block_or_a_refused_line(content: bytes, cut: int, limit: int) -> None:
    packed = gzip.compress(content)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "file"
        path.write_bytes(packed[: max(2, cut)])
        numbers = [getattr(part, "number", getattr(part, "first", 0)) for part in read_blocks(path, limit)]
    assert numbers == sorted(set(numbers))
    assert bool(numbers) or not content or cut >= len(packed)
