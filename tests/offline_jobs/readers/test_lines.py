"""Lines are the same whatever the chunk, and a file that is cut short gives what it holds."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_jobs.readers import lines
from offline_jobs.readers.lines import read_lines
from tests.offline_jobs.readers.folders import ITEM, REVIEW, Read, amazon, jsonl


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
