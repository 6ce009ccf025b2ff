"""What is known of each URL: written down as soon as it is known, so that nothing is asked for twice.

    <work>/.images/journal.jsonl   one line an outcome, after a first line with the limits
    <work>/.images/files/          the images; linked into <work>/images/files/ when the run is finished

A line that a kill tore is dropped: that URL is asked again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TextIO

State = Literal["ok", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a URL."""

    state: State
    """`refused` for good, `failed` where another day may help."""
    reason: str | None
    attempts: int
    file: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True)
class Rules:
    """By which earlier outcomes still hold."""

    limits: Mapping[str, object]
    """FetchImagesSettings.limits()."""
    retries: int
    """How many times failed ones were asked for again in runs of their own."""

    def hold(self, outcome: Outcome, earlier: Rules) -> bool:
        """Whether what was found under `earlier` rules still holds under these; an image's file is not looked at."""
        if outcome.state == "ok":
            pixels = (outcome.width or 0) * (outcome.height or 0)
            limits: dict[str, int] = {name: int(str(self.limits[name])) for name in ("max_bytes", "max_pixels")}
            return (outcome.bytes or 0) <= limits["max_bytes"] and pixels <= limits["max_pixels"]
        if dict(self.limits) != dict(earlier.limits):
            return False
        return outcome.state == "refused" or self.retries == earlier.retries


class Journal:
    """An open journal. Use as a context manager."""

    def __init__(self, store: Path, rules: Rules, known: Mapping[str, Outcome]) -> None:
        """Start the journal anew with what is known; a kill meanwhile leaves the one before."""
        store.mkdir(parents=True, exist_ok=True)
        partial = store / "journal.partial"
        with partial.open("w") as file:
            file.write(json.dumps(asdict(rules)) + "\n")
            file.writelines(_line(url, outcome) for url, outcome in known.items())
        os.replace(partial, store / "journal.jsonl")
        self._file: TextIO = (store / "journal.jsonl").open("a")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, url: str, outcome: Outcome) -> None:
        """Note an outcome; once this returns, a kill of the process does not lose it."""
        self._file.write(_line(url, outcome))
        self._file.flush()


def read_journal(store: Path, rules: Rules) -> dict[str, Outcome]:
    """The outcomes of an unfinished run that still hold and whose files are whole."""
    try:
        with (store / "journal.jsonl").open(errors="replace") as file:
            earlier = Rules(**json.loads(next(file, "")))
            return dict(whole(_entries(file), store, rules, earlier))
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def whole(
    entries: Iterator[tuple[str, Outcome]], folder: Path, rules: Rules, earlier: Rules
) -> Iterator[tuple[str, Outcome]]:
    """The entries that still hold and whose files are in `folder` at their full size."""
    for url, outcome in entries:
        if rules.hold(outcome, earlier) and (outcome.file is None or _size(folder / outcome.file) == outcome.bytes):
            yield url, outcome


def _entries(lines: Iterator[str]) -> Iterator[tuple[str, Outcome]]:
    for line in lines:
        try:
            url, values = json.loads(line)
            yield url, Outcome(**values)
        except (ValueError, TypeError):  # torn by a kill
            continue


def _line(url: str, outcome: Outcome) -> str:
    return json.dumps([url, asdict(outcome)]) + "\n"


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
