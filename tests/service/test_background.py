from __future__ import annotations

import asyncio

import pytest

from service.background import Background, every


async def test_what_was_begun_is_cancelled_and_awaited_at_the_end() -> None:
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)  # it takes a moment to let go
            ended.append(name)

    async with Background() as background:
        background.begin("one", work("one"))
        background.begin("two", work("two"))
        await asyncio.sleep(0)
    assert sorted(ended) == ["one", "two"]


async def test_an_error_ends_a_task_loudly_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("it broke")

    async with Background() as background:
        background.begin("a chore", fail())
        await asyncio.sleep(0.01)
    assert "'a chore' ended with an error" in caplog.text
    assert "it broke" in caplog.text


async def test_every_is_called_again_and_again() -> None:
    calls: list[int] = []
    async with Background() as background:
        background.begin("count", every(0.005, lambda: calls.append(1)))
        await asyncio.sleep(0.1)
    assert 3 <= len(calls) <= 20
