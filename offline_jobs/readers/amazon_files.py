"""Which files of a folder are Amazon reviews, which their metadata, and which release they are of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from offline_jobs.readers.json_lines import parse_object
from offline_jobs.readers.lines import read_lines
from offline_jobs.readers.literals import parse_literal
from offline_jobs.readers.quarantine import RefusedRowError
from service.errors import DataError

SNIFFED_LINES = 20
REVIEW_MARKS: Mapping[str, tuple[str, ...]] = {
    "amazon-2014": ("helpful",),
    "amazon-2018": ("verified", "vote", "style"),
}
META_MARKS: Mapping[str, tuple[str, ...]] = {
    "amazon-2014": ("categories", "imUrl", "related", "salesRank"),
    "amazon-2018": ("category", "also_buy", "also_view", "imageURL", "imageURLHighRes", "main_cat", "feature", "rank"),
}
"""Fields that only one of the two releases with the same names of files has."""


def find_metadata(data: Path, suffixes: tuple[str, ...]) -> tuple[Path, ...]:
    """Files called `meta*` with one of the suffixes (or that and .gz), by name."""
    return _find(data, tuple(f"meta*{suffix}" for suffix in suffixes))


def find_reviews(data: Path, suffixes: tuple[str, ...]) -> tuple[Path, ...]:
    """Files called `reviews*`, and `<name>` or `<name>_5` beside a `meta_<name>`, by name.

    Raises DataError where a whole file and its 5-core stand side by side: one is a part of the other.
    """
    names = {_stem(path).removeprefix("meta").lstrip("_") for path in find_metadata(data, suffixes)} - {""}
    candidates = _find(data, tuple(f"*{suffix}" for suffix in suffixes))
    found = {
        path: stem
        for path in candidates
        if not (stem := _stem(path)).startswith("meta")
        and (stem.startswith("reviews") or re.sub(r"_\d+$", "", stem) in names)
    }
    stems = set(found.values())
    for path, stem in found.items():
        whole = re.sub(r"_\d+$", "", stem)
        if whole != stem and whole in stems:
            other = next(each.name for each, its in found.items() if its == whole)
            raise DataError(
                f"both {other} and {path.name}: one is a part of the other",
                where=str(data),
                todo="Leave one of the two in the folder",
            )
    return tuple(found)


def json_release(data: Path) -> str | None:
    """amazon-2014 or amazon-2018, by the fields in the first lines; None where there are no such files.

    Raises DataError where files of both are there.
    """
    reviews, metadata = find_reviews(data, (".json",)), find_metadata(data, (".json",))
    if not reviews:
        return None
    votes: dict[str, str] = {}
    for marks, paths in ((REVIEW_MARKS, reviews), (META_MARKS, metadata)):
        for path in paths:
            fields = _fields(path)
            votes |= {name: path.name for name, its in marks.items() if fields.intersection(its)}
    if len(votes) == 2:
        seen = " and ".join(f"{file} of {name}" for name, file in sorted(votes.items()))
        raise DataError(
            f"files of two releases: {seen}", where=str(data), todo="Part them, or say which one with --format"
        )
    if votes:
        return next(iter(votes))
    return "amazon-2014" if any(_stem(path).startswith("reviews") for path in reviews) else "amazon-2018"


def _fields(path: Path) -> set[str]:
    fields: set[str] = set()
    for line in islice(read_lines(path, 1 << 20), SNIFFED_LINES):
        for parse in (parse_object, parse_literal):
            try:
                fields.update(str(name) for name in parse(line.text))
                break
            except RefusedRowError:
                continue
    return fields


def _find(data: Path, patterns: tuple[str, ...]) -> tuple[Path, ...]:
    return find_files(data, (*patterns, *(f"{pattern}.gz" for pattern in patterns)))


def find_files(data: Path, patterns: tuple[str, ...]) -> tuple[Path, ...]:
    """The files of `data` that match one of the patterns, in the order of their names."""
    return tuple(sorted(path for pattern in patterns for path in data.glob(pattern) if path.is_file()))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[0]
