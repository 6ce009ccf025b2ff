"""Exact nearest neighbours: every pair is looked at in float32, whatever could be among the k best again in float64.

Two ways, the same answer:

- `by_rows`: a few rows against all; the (k + 1)-th score of a row bounds what could be a neighbour. For few rows, few
  items, and GPUs.
- `all_pairs`: each pair of blocks once, for both sides, against bounds that an approximate search gave. Half the
  arithmetic, no sorting, and it goes on from its last state after a kill.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from threadpoolctl import threadpool_limits

from offline_jobs.array_types import FloatArray, IntArray, RowArray
from offline_jobs.compute import available_threads
from offline_jobs.knn_rank import Scores, cosines, keep_best

ROUNDING = 1e-5
"""float32 dot products of unit vectors are nearer than this to the true cosine."""
ROWS_ELEMENTS = 2**25
"""float32 scores of one step of `by_rows` (128 MiB a thread)."""
ROWS, COLUMNS = 1_024, 2_048
"""A tile of `all_pairs`: 8 MiB of scores."""
PENDING = 4_000_000
"""Pairs that wait to be scored in float64, about: many equal scores cost time, not memory."""
Task = TypeVar("Task")
Answer = TypeVar("Answer")

SAVE_SECONDS = 30.0
"""How often `all_pairs` keeps its state."""


def by_rows(
    table: FloatArray, asked: RowArray, k: int, *, device: str | None = None, title: str = "knn"
) -> tuple[IntArray, Scores]:
    """The k nearest other rows of `asked` (a,) in a table (rows, d): neighbours (a, k), -1 for none, and scores.

    device: where torch computes the float32 scores; NumPy's BLAS where None, which is faster on a CPU.
    """
    found = np.full((len(asked), k), -1, np.int32)
    scores = np.full((len(asked), k), -np.inf)
    rows = max(1, min(ROWS_ELEMENTS // max(len(table), 1), 1_024))
    on_device = None if device is None else torch.tensor(table, device=device)

    def propose(start: int) -> tuple[int, RowArray, RowArray]:
        few = asked[start : start + rows]
        if on_device is None:
            product = torch.from_numpy(table[few] @ table.T)
        else:
            product = on_device[torch.from_numpy(few).to(on_device.device)] @ on_device.T
        # Of k + 1 proposals k are others, so the k-th other scores no less than the last; both sides may be rounded.
        floor = product.topk(min(k + 1, len(table)), dim=1).values.amin(dim=1, keepdim=True) - 2 * ROUNDING
        left, right = torch.nonzero(product >= floor, as_tuple=True)
        return start, left.cpu().numpy() + start, right.cpu().numpy()

    starts = range(0, len(asked), rows)
    for _, left, right in track(
        in_parallel(propose, starts),
        description=title,
        total=len(starts),
        console=Console(stderr=True),
        transient=True,
    ):
        other = asked[left] != right
        left, right = left[other], right[other]
        keep_best(found, scores, left, right, cosines(table, asked[left], right))
    return found, scores


def all_pairs(
    table: FloatArray,
    bounds: Callable[[], Scores],
    k: int,
    *,
    scratch: Path | None = None,
    title: str = "knn",
) -> tuple[IntArray, Scores]:
    """The k nearest other rows of each row of a table (rows, d), as `by_rows`.

    bounds: called once, gives (rows,) true scores that k others are known to reach, -inf where nothing is known. The
    state is kept in the folder `scratch` about every `SAVE_SECONDS`, and a run that finds one there goes on from it.
    """
    sweep = _Sweep(table, bounds, k, scratch)
    blocks = range(0, len(table), ROWS)
    for start in track(
        blocks[sweep.done // ROWS :],
        description=title,
        total=len(blocks),
        completed=sweep.done // ROWS,
        console=Console(stderr=True),
        transient=True,
    ):
        sweep.block(start)
    sweep.flush()
    return sweep.found, sweep.scores


class _Sweep:
    """The state of `all_pairs`: every pair with a row before `done` has been looked at."""

    def __init__(self, table: FloatArray, bounds: Callable[[], Scores], k: int, scratch: Path | None) -> None:
        self.table = table
        self.file = None if scratch is None else scratch / "sweep.npz"
        self.pending: list[tuple[RowArray, RowArray]] = []
        self.waiting = 0
        self.saved = time.monotonic()
        if self.file is not None and self.file.exists():
            with np.load(self.file, allow_pickle=False) as state:
                self.done, self.found, self.scores = int(state["done"]), state["found"], state["scores"]
                self.least = state["least"]
            return
        self.done = 0
        self.found = np.full((len(table), k), -1, np.int32)
        self.scores = np.full((len(table), k), -np.inf)
        self.least = (bounds() - ROUNDING).astype(np.float32)

    def block(self, start: int) -> None:
        """Compare the rows from `start` with themselves and with all after them."""
        end = min(start + ROWS, len(self.table))
        rows, floor = self.table[start:end], self.least[start:end, None]

        def propose(column: int) -> list[tuple[RowArray, RowArray]]:
            stop = end if column == start else min(column + COLUMNS, len(self.table))
            product = rows @ self.table[column:stop].T
            left, right = np.divmod(np.flatnonzero(product >= floor), stop - column)
            if column == start:
                other = left != right
                return [(left[other] + start, right[other] + start)]
            their_floor = self.least[column:stop]
            back, forth = np.divmod(np.flatnonzero(product >= their_floor), stop - column)
            return [(left + start, right + column), (forth + column, back + start)]

        for pairs in in_parallel(propose, itertools.chain([start], range(end, len(self.table), COLUMNS))):
            self.pending += pairs
            self.waiting += sum(len(left) for left, _ in pairs)
            if self.waiting > PENDING:
                self.flush()
        self.done = end
        if self.file is not None and time.monotonic() - self.saved > SAVE_SECONDS:
            self.flush()
            self._save(self.file)

    def flush(self) -> None:
        """Score what waits in float64, keep each row's best, and raise its bound."""
        if not self.waiting:
            return
        row, col = (np.concatenate(side) for side in zip(*self.pending, strict=True))
        self.pending, self.waiting = [], 0
        score = cosines(self.table, row, col)
        touched = np.unique(row)
        found, there = self.found[touched], self.found[touched] >= 0
        row = np.concatenate([row, np.repeat(touched, there.sum(axis=1))])
        col = np.concatenate([col, found[there]])
        score = np.concatenate([score, self.scores[touched][there]])
        keep_best(self.found, self.scores, row, col, score)
        self.least = np.maximum(self.least, (self.scores[:, -1] - ROUNDING).astype(np.float32))

    def _save(self, file: Path) -> None:
        part = file.with_suffix(".part.npz")
        np.savez(part, done=self.done, found=self.found, scores=self.scores, least=self.least)
        os.replace(part, file)
        self.saved = time.monotonic()


def in_parallel(work: Callable[[Task], Answer], tasks: Iterable[Task]) -> Iterator[Answer]:
    """The answers in order, on all cores, each with one thread of BLAS and torch; a few tasks ahead, no more."""
    threads = available_threads(0)
    before = torch.get_num_threads()
    waiting: deque[Future[Answer]] = deque()
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, before)
        torch.set_num_threads(1)
        stack.enter_context(threadpool_limits(1))
        pool = stack.enter_context(ThreadPoolExecutor(threads))
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
