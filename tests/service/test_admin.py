from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import SecretStr

from service.admin import Admin, PartState
from service.bundle.store import active_version, versions
from service.cache import AnswerCache, MemoryCache
from service.errors import (
    BundleMissingError,
    InvalidQueryError,
    PlotPointeError,
    UnauthenticatedError,
    UnknownTenantError,
)
from service.generation import Generation, open_generation
from service.generations import Generations
from service.loader import Loader

KEY = "the key of this service"


def load(directory: Path) -> Generation:
    def cache(_: Generation) -> AnswerCache:
        return AnswerCache(MemoryCache(max_entries=10, ttl_seconds=60), None, lambda tier, result: None)

    return open_generation(directory, num_candidates=None, cache=cache)


async def nothing(_: Generation) -> None:
    return None


@asynccontextmanager
async def administered(root: Path, key: str | None = KEY) -> AsyncIterator[Admin]:
    generations = Generations(root, Loader(root, load, nothing, lambda version: None), lambda before, after: None)
    await generations.open()
    yield Admin({"shop-a": generations}, None if key is None else SecretStr(key))


@pytest.fixture
def root(planted: ModuleType, world: Any, tmp_path: Path) -> Path:
    for name in ("second", "first"):
        planted.publish(replace(world, titles=[name] * len(world.titles)), tmp_path)
    return tmp_path


async def test_what_an_operator_does_and_sees(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "service.audit")
    a = active_version(root)
    b = next(version for version in versions(root) if version != a)
    async with administered(root) as admin:
        states = await admin.bundles("shop-a", KEY)
        assert (states.serving, states.previous, states.canary, states.shadow) == (a, "", None, None)
        assert (states.available, states.state) == (tuple(sorted((a, b))), "ok")
        assert (await admin.set_canary("shop-a", b, 0.25, KEY)).canary == PartState(b, 0.25)
        assert (await admin.set_canary("shop-a", "", 0, KEY)).canary is None
        assert (await admin.set_shadow("shop-a", b, 0.5, KEY)).shadow == PartState(b, 0.5)
        states = await admin.activate("shop-a", b, KEY)
        assert (states.serving, states.previous, states.shadow) == (b, a, None)
        states = await admin.rollback("", KEY)  # the only tenant needs no name
        assert (states.serving, states.previous) == (a, b)
    lines = [record.getMessage() for record in caplog.records if record.name == "service.audit"]
    assert len(lines) == 6
    assert lines[1].startswith(f"canary {b} for 0.25 of shop-a by key ")
    assert all(line.endswith(": done") for line in lines)
    assert KEY not in caplog.text


@pytest.mark.parametrize("key", ["", KEY + " ", "x", "\ud800"])
async def test_a_wrong_key_does_nothing(root: Path, key: str, caplog: pytest.LogCaptureFixture) -> None:
    a = active_version(root)
    async with administered(root) as admin:
        calls = [
            admin.bundles("shop-a", key),
            admin.activate("shop-a", a, key),
            admin.rollback("shop-a", key),
            admin.set_canary("shop-a", a, 0.1, key),
            admin.set_shadow("shop-a", a, 0.1, key),
            admin.bundles("no such tenant", key),  # nor does it tell which tenants there are
        ]
        for call in calls:
            with pytest.raises(UnauthenticatedError):
                await call
    assert "without the right key" in caplog.text


async def test_without_a_key_administration_is_off(root: Path) -> None:
    async with administered(root, None) as admin:
        with pytest.raises(UnauthenticatedError, match="PLOTPOINTE_ADMIN_KEY"):
            await admin.bundles("shop-a", "")


async def test_refusals_are_told_and_logged(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    a = active_version(root)
    async with administered(root) as admin:
        refusals: list[tuple[type[PlotPointeError], Any]] = [
            (BundleMissingError, admin.activate("shop-a", "nowhere\n", KEY)),
            (BundleMissingError, admin.rollback("shop-a", KEY)),
            (InvalidQueryError, admin.set_canary("shop-a", a, 2, KEY)),
            (InvalidQueryError, admin.set_shadow("shop-a", a, 0.5, KEY)),
            (UnknownTenantError, admin.bundles("shop-b", KEY)),
        ]
        for kind, call in refusals:
            with pytest.raises(kind):
                await call
        assert (await admin.bundles("shop-a", KEY)).serving == a
    assert caplog.text.count(": refused: ") == 4
