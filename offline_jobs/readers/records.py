"""Files with one record a line: each block of lines parsed beside the reading of the next, the rows in order.

What parses a block is a function that other threads or processes can run (`json_lines`, `product_lines`); what it
refuses comes back with it and is written down here, so that the quarantine has one writer.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import polars as pl

from offline_jobs.readers.lines import Block, Line, decode, read_blocks
from offline_jobs.readers.quarantine import MAX_ROW_CHARS, Quarantine, RefusedRowError, Table
from offline_jobs.readers.raw import RawBatch

T = TypeVar("T")

WORKERS = min(4, os.cpu_count() or 1)
LARGE_BYTES = 8 << 20
"""Processes are started for files larger than this; a smaller one is read before they are up."""


@dataclass
class Parsed:
    """What a block gave."""

    frame: pl.DataFrame
    numbers: list[int]
    """The line number of every row of `frame`."""
    refused: list[tuple[int, str]] = field(default_factory=list)
    """(line number, reason) of every line that is no row."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Values left out of rows that are kept, by reason."""


Parse = Callable[[Block], Parsed]


def converted(block: Block, convert: Callable[[str], T]) -> tuple[list[T], list[int], list[tuple[int, str]]]:
    """What `convert` makes of each line, the lines' numbers, and (number, reason) of every line that it refuses.

    It refuses by raising RefusedRowError; lines that are not UTF-8 are refused here.
    """
    rows, numbers, refused = [], [], []
    for number, raw in block.lines():
        line = decode(number, raw)
        if line.problem:
            refused.append((number, line.problem))
            continue
        try:
            rows.append(convert(line.text))
            numbers.append(number)
        except RefusedRowError as error:
            refused.append((number, str(error)))
    return rows, numbers, refused


def read_records(
    path: Path,
    table: Table,
    parse: Parse,
    quarantine: Quarantine,
    max_line_bytes: int,
    *,
    workers: Literal["threads", "processes"],
) -> Iterator[RawBatch]:
    """Batches of a file, in the order of its lines. `parse` must be picklable for processes.

    At most two blocks a worker are held. Lines that cannot be used go to the quarantine.
    """
    parts = read_blocks(path, max_line_bytes)
    if workers == "processes" and path.stat().st_size < LARGE_BYTES:
        done: Iterator[tuple[Block | Line, Parsed | None]] = (
            (part, None if isinstance(part, Line) else parse(part)) for part in parts
        )
    else:
        done = _side_by_side(parts, parse, workers)
    for part, parsed in done:
        if isinstance(part, Line):
            quarantine.read(table, 1)
            quarantine.refuse(table, path.name, part.number, part.problem, part.text)
        elif parsed is not None:
            yield _batch(path.name, table, part, parsed, quarantine)


def _batch(file: str, table: Table, block: Block, parsed: Parsed, quarantine: Quarantine) -> RawBatch:
    texts: list[bytes] = []

    def text(number: int) -> str:
        if not texts:
            texts.extend(block.data.split(b"\n"))
        return texts[number - block.first][: 4 * MAX_ROW_CHARS].decode("utf-8", "backslashreplace")

    quarantine.read(table, parsed.frame.height + len(parsed.refused))
    for number, reason in parsed.refused:
        quarantine.refuse(table, file, number, reason, text(number))
    for reason, count in parsed.dropped.items():
        quarantine.drop(table, reason, count)
    return RawBatch(file, parsed.frame, parsed.numbers.__getitem__, lambda row: text(parsed.numbers[row]))


def _side_by_side(
    parts: Iterator[Block | Line], parse: Parse, workers: Literal["threads", "processes"]
) -> Iterator[tuple[Block | Line, Parsed | None]]:
    """(part, what it gave), in order, WORKERS of them at once."""
    waiting: deque[tuple[Block | Line, Future[Parsed] | None]] = deque()
    pool = _pool(workers)
    try:
        for part in parts:
            waiting.append((part, None if isinstance(part, Line) else pool.submit(parse, part)))
            if len(waiting) > 2 * WORKERS:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(part: Block | Line, future: Future[Parsed] | None) -> tuple[Block | Line, Parsed | None]:
    return part, None if future is None else future.result()


def _pool(workers: Literal["threads", "processes"]) -> Executor:
    if workers == "threads":
        return ThreadPoolExecutor(WORKERS)
    return ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn"))
