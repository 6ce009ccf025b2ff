"""Tasks that run beside the answering for as long as the service does: ended and awaited with it, never lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any

log = logging.getLogger(__name__)


class Background:
    """An async context: what was begun in it is cancelled at its end, and awaited."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside everything else. An error that ends it is logged: the service goes on without it."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def __aenter__(self) -> Background:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Once is not always enough: a library that waits by `asyncio.wait_for` can drop a cancellation.
        while pending := [task for task in self._tasks if not task.done()]:
            for task in pending:
                task.cancel()
            await asyncio.wait(pending, timeout=0.1)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("the background task %r ended with an error", task.get_name(), exc_info=error)


async def every(seconds: float, do: Callable[[], None]) -> None:
    """Call `do` every so many seconds, until cancelled."""
    while True:
        await asyncio.sleep(seconds)
        do()
