"""Which format a folder is in, by looking into it."""

from __future__ import annotations

from pathlib import Path

from offline_jobs.readers.amazon2014 import FORMAT as AMAZON
from offline_jobs.readers.amazon2014 import REVIEWS, AmazonShop, find_files
from offline_jobs.readers.inter import FORMAT as INTER
from offline_jobs.readers.inter import INTERACTIONS, InterShop
from offline_jobs.readers.mapping import FASHION_WEEK, MAPPING_FILE, read_mapping
from offline_jobs.readers.raw import Shop
from offline_jobs.readers.table import TableShop
from service.errors import DataError

FORMATS = {
    "table": f"a {MAPPING_FILE} that maps the columns of your own CSV or Parquet files",
    "fashion-week": "transactions.parquet, items.parquet and images_128.tar",
    AMAZON: "reviews*.json[.gz] and meta*.json[.gz], pictures in images/<asin>.jpg",
    INTER: "RecBole's <name>.inter[.gz], with or without <name>.item[.gz]",
}
"""Every known format and what its folder holds; the order in which a folder is looked at."""


def open_shop(data: Path, name: str = "auto", *, max_line_bytes: int = 1 << 20) -> Shop:
    """Open a shop's folder as format `name`, or as the one that its files show.

    Raises DataError for a wrong path, an unknown or unrecognised format, a missing file or column.
    """
    if not data.is_dir():
        what = "is a file, not a folder" if data.exists() else "no such folder"
        raise DataError(what, where=str(data), todo="Give the folder that holds the shop's files")
    if name == "auto":
        name = recognise(data)
    match name:
        case "table":
            return TableShop(data, read_mapping(data), max_line_bytes, name)
        case "fashion-week":
            return TableShop(data, FASHION_WEEK, max_line_bytes, name)
        case "amazon-2014":
            return AmazonShop(data, max_line_bytes)
        case "inter":
            return InterShop(data, max_line_bytes)
    raise DataError(f"unknown format '{name}'", where="--format", todo=f"Known formats: {', '.join(FORMATS)}")


def recognise(data: Path) -> str:
    """The name of the folder's format; DataError lists what is known and what was found."""
    if (data / MAPPING_FILE).is_file():
        return "table"
    mapped = [FASHION_WEEK.interactions.file, FASHION_WEEK.items.file if FASHION_WEEK.items else ""]
    found = {
        "fashion-week": all((data / file).is_file() for file in mapped),
        AMAZON: bool(find_files(data, REVIEWS)),
        INTER: bool(find_files(data, INTERACTIONS)),
    }
    matching = [name for name, there in found.items() if there]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise DataError(
            f"files of more than one format: {', '.join(matching)}",
            where=str(data),
            todo="Say which one with --format",
        )
    known = "; ".join(f"{name}: {what}" for name, what in FORMATS.items())
    names = sorted(path.name for path in data.iterdir())
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    raise DataError(
        f"the format is not recognised; found {listed or 'nothing'}", where=str(data), todo=f"Known: {known}"
    )
