"""Which format a folder is in, by looking into it."""

from __future__ import annotations

from pathlib import Path

from offline_jobs.readers.amazon import AmazonShop
from offline_jobs.readers.amazon2014 import AMAZON_2014
from offline_jobs.readers.amazon2018 import AMAZON_2018
from offline_jobs.readers.amazon2023 import AMAZON_2023
from offline_jobs.readers.amazon_files import find_files, find_reviews, json_release
from offline_jobs.readers.inter import FORMAT as INTER
from offline_jobs.readers.inter import INTERACTIONS, InterShop
from offline_jobs.readers.mapping import FASHION_WEEK, MAPPING_FILE, read_mapping
from offline_jobs.readers.raw import Shop
from offline_jobs.readers.table import TableShop
from service.errors import DataError

FORMATS = {
    "table": f"a {MAPPING_FILE} that maps the columns of your own CSV or Parquet files",
    "fashion-week": "transactions.parquet, items.parquet and images_128.tar",
    "amazon-2014": "reviews*.json[.gz] and meta*.json[.gz], pictures in images/<asin>.jpg",
    "amazon-2018": "<name>.json[.gz] (or <name>_5.json[.gz]) and meta_<name>.json[.gz]",
    "amazon-2023": "<name>.jsonl[.gz] and meta_<name>.jsonl[.gz]",
    INTER: "RecBole's <name>.inter[.gz], with or without <name>.item[.gz]",
}
"""Every known format and what its folder holds; the order in which a folder is looked at."""


RELEASES = {release.name: release for release in (AMAZON_2014, AMAZON_2018, AMAZON_2023)}


def open_shop(data: Path, name: str = "auto", *, max_line_bytes: int = 1 << 20, reviews: bool = True) -> Shop:
    """Open a shop's folder as format `name`, or as the one that its files show; `reviews=False` skips their texts.

    Raises DataError for a wrong path, an unknown or unrecognised format, a missing file or column.
    """
    if not data.is_dir():
        what = "is a file, not a folder" if data.exists() else "no such folder"
        raise DataError(what, where=str(data), todo="Give the folder that holds the shop's files")
    if name == "auto":
        name = recognise(data)
    match name:
        case "table":
            return TableShop(data, read_mapping(data), max_line_bytes, name, reviews=reviews)
        case "fashion-week":
            return TableShop(data, FASHION_WEEK, max_line_bytes, name, reviews=reviews)
        case "amazon-2014" | "amazon-2018" | "amazon-2023":
            return AmazonShop(data, RELEASES[name], max_line_bytes, reviews=reviews)
        case "inter":
            return InterShop(data, max_line_bytes, reviews=reviews)
    raise DataError(f"unknown format '{name}'", where="--format", todo=f"Known formats: {', '.join(FORMATS)}")


def recognise(data: Path) -> str:
    """The name of the folder's format; DataError lists what is known and what was found."""
    if (data / MAPPING_FILE).is_file():
        return "table"
    mapped = [FASHION_WEEK.interactions.file, FASHION_WEEK.items.file if FASHION_WEEK.items else ""]
    found = {
        "fashion-week": all((data / file).is_file() for file in mapped),
        "amazon-2023": bool(find_reviews(data, AMAZON_2023.suffixes)),
        INTER: bool(find_files(data, INTERACTIONS)),
    }
    matching = [name for name, there in found.items() if there]
    matching += [release] if (release := json_release(data)) else []
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise DataError(
            f"files of more than one format: {', '.join(matching)}",
            where=str(data),
            todo=f"Say which one with --format, for example --format {matching[0]}",
        )
    known = "; ".join(f"{name}: {what}" for name, what in FORMATS.items())
    names = sorted(path.name for path in data.iterdir())
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    raise DataError(
        f"the format is not recognised; found {listed or 'nothing'}", where=str(data), todo=f"Known: {known}"
    )
