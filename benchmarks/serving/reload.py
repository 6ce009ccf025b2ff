"""What a reload costs those who are being answered: the event loop's delay, the answers' time, memory before and after.

    python -m benchmarks.serving.reload --bundles FOLDER [--reloads 3]

The folder holds two bundles or more. One process without ports answers one uncached request after another, while the
next version is activated, loaded beside the serving one, and swapped in. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import uvloop

from benchmarks.serving.processes import memory_mib
from service.bundle.files import load_ids
from service.bundle.store import activate, active_version, versions
from service.domain import Query
from service.engine import Engine
from service.settings import Settings
from service.wiring import open_service

PAUSE_S = 0.002


class Watched:
    """One shopper after another, and how late the loop is between them; milliseconds."""

    def __init__(self, engine: Engine, shoppers: Iterator[str]) -> None:
        self._engine = engine
        self._shoppers = shoppers

    async def until(self, over: Callable[[], bool]) -> tuple[list[float], list[float]]:
        """Ask until it is over; the delays and the answers' times, ascending."""
        delays, answers = [], []
        while not over():
            begun = time.perf_counter()
            await asyncio.sleep(PAUSE_S)
            asked = time.perf_counter()
            await self._engine.recommend(Query(next(self._shoppers), 20, "benchmark"), transport="rest")
            delays.append((asked - begun - PAUSE_S) * 1000)
            answers.append((time.perf_counter() - asked) * 1000)
        return sorted(delays), sorted(answers)


def row(name: str, seconds: float, measured: tuple[list[float], list[float]]) -> str:
    """One row of the table."""
    cells = [name, f"{seconds:.1f}"]
    for values in measured:
        cells += [f"{values[len(values) // 2]:.1f}", f"{values[int(len(values) * 0.99)]:.1f}", f"{values[-1]:.1f}"]
    return f"| {' | '.join(cells)} | {memory_mib(os.getpid())['dirty']:.0f} |"


def _serves(engine: Engine, version: str) -> bool:
    return engine.model().version == version


async def measure(bundles: Path, reloads: int) -> None:
    """Print the table."""
    before = active_version(bundles)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            bundles=bundles,
            events_dir=Path(folder) / "events",
            state_dir=Path(folder) / "state",
            reload_seconds=0.2,
            recall_sample_share=0,
        )
        async with open_service(settings) as service:
            engine = service.engines.get()
            watched = Watched(engine, itertools.cycle(load_ids(bundles / before, "user_ids")[:50_000]))
            print("| | seconds | loop delay p50, ms | p99 | max | answer p50, ms | p99 | max | private, MiB |")
            print("|---|---|---|---|---|---|---|---|---|")
            over = time.monotonic() + 5
            print(row("not loading", 5.0, await watched.until(lambda: time.monotonic() > over)))
            others = [version for version in versions(bundles) if version != before]
            for version in itertools.islice(itertools.cycle([*others, before]), reloads):
                begun = time.monotonic()
                activate(bundles, version)
                seen = await watched.until(partial(_serves, engine, version))
                await asyncio.sleep(0.2)
                print(row(f"to {version}", time.monotonic() - begun, seen))
    activate(bundles, before)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundles", type=Path, required=True)
    parser.add_argument("--reloads", type=int, default=3)
    given = parser.parse_args()
    uvloop.run(measure(given.bundles, given.reloads))
