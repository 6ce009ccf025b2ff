"""How many threads torch uses for a piece of work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 200_000
"""Edges of an item graph below which more threads cost more than they bring."""


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Run the block on so many threads; None leaves torch's own choice.

    Small tensors gain nothing from a second thread, and where the cores are shared each operation waits at its
    barrier for a thread that is not scheduled: steps of a small model took up to ten times as long.
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
