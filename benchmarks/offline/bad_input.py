"""Ingest of a shop of any size whose files are broken in every known way: is each row kept, deduplicated or refused?

    python benchmarks/offline/bad_input.py --data var/electronics/raw

Takes a generated shop's reviews and metadata and breaks one row in a hundred: broken JSON and literals, a missing id, a
NUL in one, the year 9999, milliseconds, a NaN and a negative price, duplicates that agree and that do not; puts a line
of 1 GB in the middle, and cuts the last 3 % off the reviews' gzip file. Ends with an error where the counts do not
add up.
"""

import argparse
import ast
import gzip
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from results import peak_of_tree, record

from training.stage import read_record

YEAR_9999 = 253_370_764_800
SHARE = 0.01
CUT = 0.97

Row = dict[str, Any]
Breaker = Callable[[Row, bytes], list[bytes]]


def line_of(row: Row) -> bytes:
    return json.dumps(row).encode() + b"\n"


REVIEWS: dict[str, Breaker] = {
    "broken": lambda row, line: [line[:-20] + b"\n"],
    "no id": lambda row, line: [line_of(row | {"asin": ""})],
    "NUL": lambda row, line: [line_of(row | {"reviewerID": row["reviewerID"] + "\0"})],
    "year 9999": lambda row, line: [line_of(row | {"unixReviewTime": YEAR_9999})],
    "milliseconds": lambda row, line: [line_of(row | {"unixReviewTime": row["unixReviewTime"] * 1000})],
    "duplicate": lambda row, line: [line, line],
    "conflict": lambda row, line: [line, line_of(row | {"reviewText": "something else"})],
}
METADATA: dict[str, Breaker] = {
    "broken": lambda row, line: [line[:-15] + b"\n"],
    "NaN price": lambda row, line: [repr(row | {"price": "NaN"}).encode() + b"\n"],
    "negative price": lambda row, line: [repr(row | {"price": -3.0}).encode() + b"\n"],
    "conflict": lambda row, line: [line, repr(row | {"title": "Another title"}).encode() + b"\n"],
}


def spoil(
    source: Path,
    target: Path,
    parse: Callable[[str], Row],
    breakers: dict[str, Breaker],
    long_line_at: int | None = None,
) -> Counter[str]:
    """Write the broken copy of a file; how often each way was used."""
    rng = random.Random(0)
    used: Counter[str] = Counter()
    with gzip.open(source) as before, gzip.open(target, "wb", compresslevel=1) as after:
        for at, line in enumerate(before):
            if at == long_line_at:
                after.writelines(gigabyte())
            if rng.random() >= SHARE:
                after.write(line)
                continue
            how = rng.choice(list(breakers))
            used[how] += 1
            after.writelines(breakers[how](parse(line.decode()), line))
    return used


def gigabyte() -> Iterator[bytes]:
    yield b'{"reviewerID": "'
    for _ in range(1024):
        yield b" " * (1 << 20)
    yield b'"}\n'


def main() -> None:
    """Print what became of the rows; with --out append a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a generated shop")
    parser.add_argument("--out", type=Path, help="file to append the JSON line to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data, work = Path(scratch) / "raw", Path(scratch) / "work"
        data.mkdir()
        reviews, metadata = "reviews.json.gz", "meta.json.gz"
        used = {
            "reviews": spoil(options.data / reviews, data / reviews, json.loads, REVIEWS, 100_000),
            "metadata": spoil(options.data / metadata, data / metadata, ast.literal_eval, METADATA),
        }
        whole = (data / reviews).read_bytes()
        (data / reviews).write_bytes(whole[: int(len(whole) * CUT)])
        command = [sys.executable, "-m", "offline_jobs", "ingest", "--data", str(data), "--work", str(work)]
        peak = peak_of_tree(command)
        report = json.loads((work / "ingest" / "report.json").read_text())
        refused = sum(1 for _ in (work / "ingest" / "quarantine.jsonl").open())
        stage = read_record(work / "ingest")
        assert stage is not None
    result: dict[str, Any] = {"planted": used}
    for table in ("interactions", "items"):
        counts = report[table]
        accounted = counts["kept"] + counts["duplicate"] + sum(counts["quarantined"].values())
        if accounted != counts["read"]:
            sys.exit(f"{table}: {counts['read']} rows read, {accounted} accounted for")
        result[table] = {key: counts[key] for key in ("read", "kept", "duplicate", "conflicting", "quarantined")}
    if refused != sum(sum(report[table]["quarantined"].values()) for table in ("interactions", "items")):
        sys.exit(f"{refused} rows in quarantine.jsonl, and the report says otherwise")
    record("bad input", result | {"seconds": stage.wall_seconds, "peak_mib": peak}, options.out)


if __name__ == "__main__":
    main()
