"""Parts of the generated shop made by many processes and written in order: the files do not depend on how many."""

from __future__ import annotations

import gzip
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from offline_jobs.drawing import draw_picture
from offline_jobs.generated_plan import open_plan

T = TypeVar("T")
Part = Callable[[str, int], bytes]
"""Makes chunk k of a part of the shop from the plan in a folder."""
Makers = Callable[[Callable[..., T], Iterable[tuple[object, ...]]], Iterator[T]]
"""Calls a function with each tuple of arguments, here or elsewhere, and gives the results in order."""

PICTURES_PART = 5
PICTURES_CHUNK = 500


@contextmanager
def makers(processes: int) -> Iterator[Makers[bytes]]:
    """Processes that make parts of a shop; one means this process. A few results are ahead of their reader, no more."""
    if processes == 1:
        yield lambda function, calls: (function(*call) for call in calls)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=_end_with_parent) as pool:

        def ahead(function: Callable[..., bytes], calls: Iterable[tuple[object, ...]]) -> Iterator[bytes]:
            waiting: deque[Future[bytes]] = deque()
            for call in calls:
                waiting.append(pool.submit(function, *call))
                if len(waiting) > 2 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        try:
            yield ahead
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """Leave Ctrl-C to the parent, and end when it does, however it ends: a killed parent can tell nobody."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def write_part(path: Path, part: Part, plan: Path, rows: int, chunk: int, run: Makers[bytes]) -> None:
    """Write `path` (compressed where it ends in .gz) from its chunks of `chunk` rows each."""
    compress = path.suffix == ".gz"
    chunks = range(-(-rows // chunk))
    calls: list[tuple[object, ...]] = [(part, str(plan), number, compress) for number in chunks]
    with path.open("wb") as file:
        for content in _tracked(run(_chunk, calls), len(calls), path.name):
            file.write(content)


def _chunk(part: Part, plan: str, number: int, compress: bool) -> bytes:
    """A gzip file may have several members; no time stamp is inside, so the same lines give the same bytes."""
    content = part(plan, number)
    return gzip.compress(content, compresslevel=1, mtime=0) if compress else content


def write_pictures(folder: Path, plan: Path, items: int, run: Makers[bytes]) -> None:
    """Draw `folder`/<item_id>.jpg for every item that has a picture."""
    folder.mkdir()
    calls: list[tuple[object, ...]] = [(str(folder), str(plan), k) for k in range(-(-items // PICTURES_CHUNK))]
    for _ in _tracked(run(_draw, calls), len(calls), "pictures"):
        pass


def _draw(folder: str, plan_folder: str, chunk: int) -> bytes:
    plan = open_plan(plan_folder)
    first = chunk * PICTURES_CHUNK
    has_picture = plan.has_picture[first : first + PICTURES_CHUNK]
    draws = plan.random(PICTURES_PART, chunk).random((len(has_picture), 6)).tolist()
    for place in has_picture.nonzero()[0].tolist():
        look = plan.theme(int(plan.cluster_of_item[first + place])).look
        name = plan.item_ids[first + place].decode()
        Path(folder, f"{name}.jpg").write_bytes(draw_picture(look, draws[place]))
    return b""


def _tracked(values: Iterable[T], total: int, title: str) -> Iterable[T]:
    return track(values, total=total, description=f"generating {title}", console=Console(stderr=True))
