"""Rows a second of ingest's reading (parse, validate, clean) against the same file read raw in the same run.

Reviews: the reference is Polars, reading every field of the file with nothing checked (`scan_ndjson`, streaming).
Metadata that are Python literals: no library reads them, so the reference is `ast.literal_eval`, line after line.

    python benchmarks/offline/ingest.py --items 498196 --users 192403 --out ingest.jsonl
    python benchmarks/offline/ingest.py --data /path/to/an/amazon-2014/folder
"""

import argparse
import ast
import gzip
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
from results import peak_of_tree, record

from offline_jobs.generated_shop import generate_shop
from offline_jobs.generated_world import GeneratedShopSettings
from offline_jobs.readers import Quarantine, clean_interactions, clean_items, open_shop
from training.stage import read_record


def read_reviews(data: Path) -> int:
    """Ingest's own way to clean interactions; rows."""
    shop = open_shop(data)
    now = int(time.time())
    with tempfile.TemporaryDirectory() as scratch, Quarantine(Path(scratch) / "quarantine.jsonl") as quarantine:
        for batch in shop.interactions(quarantine):
            clean_interactions(batch, quarantine, now=now, has_time=shop.has_time)
        return quarantine.rows_read["interactions"]


def read_items(data: Path) -> int:
    """Ingest's own way to clean items; rows."""
    shop = open_shop(data)
    with tempfile.TemporaryDirectory() as scratch, Quarantine(Path(scratch) / "quarantine.jsonl") as quarantine:
        for batch in shop.items(quarantine):
            clean_items(batch, quarantine, max_text_chars=2000)
        return quarantine.rows_read["items"]


def raw_reviews(path: Path) -> int:
    """Polars, raw; rows."""
    return pl.scan_ndjson(path).collect(engine="streaming").height


def raw_literals(path: Path) -> int:
    """`ast.literal_eval` in a loop; rows."""
    rows = 0
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for line in file:
            ast.literal_eval(line)
            rows += 1
    return rows


def measure(read: Callable[[], int], raw: Callable[[], int], repeats: int) -> dict[str, float]:
    """Medians over `repeats` turns, one after the other so that both meet the same machine."""
    seconds: dict[str, list[float]] = {"ours": [], "raw": []}
    rows = {}
    for _ in range(repeats):
        for name, function in (("raw", raw), ("ours", read)):
            start = time.perf_counter()
            rows[name] = function()
            seconds[name].append(time.perf_counter() - start)
    assert rows["ours"] == rows["raw"], rows
    ours, base = (statistics.median(seconds[name]) for name in ("ours", "raw"))
    return {
        "rows": rows["ours"],
        "seconds": round(ours, 3),
        "raw_seconds": round(base, 3),
        "rows_per_second": round(rows["ours"] / ours),
        "raw_rows_per_second": round(rows["raw"] / base),
        "ratio": round(ours / base, 3),
    }


def run(data: Path, work: Path, repeats: int) -> dict[str, object]:
    """All figures of a folder in the amazon-2014 format."""
    (reviews,), (metadata,) = (sorted(data.glob(f"{kind}*.json*")) for kind in ("reviews", "meta"))
    command = [sys.executable, "-m", "offline_jobs", "ingest", "--data", str(data), "--work", str(work)]
    peak = peak_of_tree(command)
    stage = read_record(work / "ingest")
    assert stage is not None
    return {
        "reviews_bytes": reviews.stat().st_size,
        "reviews": measure(lambda: read_reviews(data), lambda: raw_reviews(reviews), repeats),
        "metadata": measure(lambda: read_items(data), lambda: raw_literals(metadata), repeats),
        "stage_seconds": stage.wall_seconds,
        "stage_peak_mib": peak,
    }


def main() -> None:
    """Print a table; with --out append a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder in the amazon-2014 format; without it one is generated")
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--users", type=int, default=8_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file to append a JSON line to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = options.data or Path(scratch) / "raw"
        if options.data is None:
            settings = GeneratedShopSettings(items=options.items, users=options.users, image_share=0.0)
            generate_shop(settings, data)
        figures = run(data, Path(scratch) / "work", options.repeats)
    print(f"{'':10} {'rows':>10} {'rows/s':>12} {'raw rows/s':>12} {'ratio to raw':>13}")
    for name in ("reviews", "metadata"):
        part = figures[name]
        assert isinstance(part, dict)
        print(
            f"{name:10} {part['rows']:>10,} {part['rows_per_second']:>12,} {part['raw_rows_per_second']:>12,} "
            f"{part['ratio']:>13.2f}"
        )
    print(f"whole stage: {figures['stage_seconds']:.1f} s, peak {figures['stage_peak_mib']:.0f} MiB")
    record("ingest", figures, options.out)


if __name__ == "__main__":
    main()
