"""Bundles in motion, over real bundles on disk. What the service makes of it all: transports/test_reload.py."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from service.bundle.reader import open_bundle
from service.bundle.store import CURRENT, activate, active_version
from service.errors import BundleCorruptError, BundleError, BundleMissingError, InvalidQueryError
from service.generations import Generations, Roles
from service.loader import Loader
from service.rollout import Part, change_rollout, read_rollout

USERS = [f"shopper-{n}" for n in range(4000)]


class Opened:
    """As much of a generation as bundles in motion need: a real bundle, mapped."""

    def __init__(self, directory: Path) -> None:
        self.bundle = open_bundle(directory)

    @property
    def version(self) -> str:
        return self.bundle.manifest.version


class Told:
    """What the holder tells of itself."""

    def __init__(self) -> None:
        self.changes: list[Any] = []
        self.refused: list[str] = []
        self.prepared: list[str] = []

    def changed(self, before: Roles[Opened] | None, after: Roles[Opened]) -> None:
        self.changes.append((before and before.summary(), after.summary()))

    async def prepare(self, generation: Opened) -> None:
        self.prepared.append(generation.version)


@pytest.fixture
def root(planted: ModuleType, world: Any, tmp_path: Path) -> Path:
    """A folder with three bundles; the last is active."""
    for name in "cba":
        planted.publish(replace(world, titles=[f"{name} {title}" for title in world.titles]), tmp_path)
    return tmp_path


@pytest.fixture
def a(root: Path) -> str:
    return active_version(root)


@pytest.fixture
def b(root: Path, a: str) -> str:
    return sorted(path.parent.name for path in root.glob("*/manifest.json") if path.parent.name != a)[0]


@pytest.fixture
def c(root: Path, a: str, b: str) -> str:
    return next(path.parent.name for path in root.glob("*/manifest.json") if path.parent.name not in (a, b))


@pytest.fixture
def told() -> Told:
    return Told()


@asynccontextmanager
async def following(root: Path, told: Told | None = None) -> AsyncIterator[Generations[Opened]]:
    """An open holder that looks at the folder every 10 ms."""
    told = told or Told()
    generations = Generations(root, Loader(root, Opened, told.prepare, told.refused.append), told.changed)
    await generations.open()
    watching = asyncio.create_task(generations.watch(0.01))
    try:
        yield generations
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert watching.cancelled()


def mapped() -> str:
    return Path("/proc/self/maps").read_text()


async def until(holds: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.005)


def corrupt(root: Path, version: str) -> Callable[[], None]:
    """Flip a byte of a table; returns how to flip it back."""
    path = root / version / "titles.bytes.npy"
    whole = path.read_bytes()

    def write(data: bytes) -> None:
        path.with_suffix(".new").write_bytes(data)
        path.with_suffix(".new").replace(path)

    write(whole[:-1] + bytes([whole[-1] ^ 1]))
    return lambda: write(whole)


async def test_a_version_that_current_names_takes_over(root: Path, a: str, b: str, told: Told) -> None:
    async with following(root, told) as generations:
        assert (generations.current.version, generations.previous, generations.state) == (a, "", "ok")
        held = generations.serving("someone")
        activate(root, b)
        await until(lambda: generations.current.version == b)
        assert generations.serving("someone").version == b
        assert held.version == a
        assert held.bundle.titles[0].startswith("a ")
        assert generations.previous == a
    assert told.prepared == [a, b]
    assert told.changes == [(None, (a, None, None)), ((a, None, None), (b, None, None))]


async def test_the_old_one_is_freed_with_its_last_request_and_its_files_are_closed(root: Path, a: str, b: str) -> None:
    async with following(root) as generations:
        held = generations.serving("someone")
        old = weakref.ref(held)
        gc.collect()
        gc.disable()  # freed by its last reference, not by a collection that comes some time
        try:
            await generations.activate(b)
            assert old() is held
            assert f"/{a}/" in mapped()
            del held
            assert old() is None
            assert f"/{a}/" not in mapped()
        finally:
            gc.enable()


async def test_a_refused_version_leaves_the_old_one_serving(
    root: Path, a: str, b: str, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    repair = corrupt(root, b)
    async with following(root, told) as generations:
        activate(root, b)
        await until(lambda: told.refused != [])
        await asyncio.sleep(0.1)
        assert told.refused == [b]  # tried once, not at every look
        assert generations.current.version == a
        assert generations.state.startswith(f"refused {b}: ")
        assert "titles.bytes.npy: sha256 is" in generations.state
        assert caplog.text.count("a bundle is refused") == 1
        repair()
        await until(lambda: generations.current.version == b)
        assert generations.state == "ok"
        corrupt(root, a)
        with pytest.raises(BundleCorruptError, match="sha256"):
            await generations.activate(a)
        assert (active_version(root), generations.current.version) == (b, b)


async def test_a_folder_without_current_changes_nothing_and_says_so(root: Path, a: str, b: str) -> None:
    async with following(root) as generations:
        (root / CURRENT).unlink()
        await until(lambda: "no CURRENT file" in generations.state)
        assert generations.current.version == a
        activate(root, b)
        await until(lambda: generations.current.version == b and generations.state == "ok")


async def test_a_rollback_reaches_everyone_who_follows_the_folder(root: Path, a: str, b: str) -> None:
    async with following(root) as one, following(root) as two:
        with pytest.raises(BundleMissingError, match="no version served before"):
            await one.rollback()
        await one.activate(b)
        assert one.current.version == b
        await until(lambda: two.current.version == b)
        await two.rollback()
        assert two.current.version == a
        await until(lambda: one.current.version == a)
        assert (one.previous, two.previous) == (b, b)
        assert active_version(root) == a


async def test_a_rollback_is_known_after_a_restart_and_a_bad_current_falls_back(
    root: Path, a: str, b: str, c: str
) -> None:
    async with following(root) as generations:
        await generations.activate(b)
    async with following(root) as generations:
        assert (generations.current.version, generations.previous) == (b, a)
    corrupt(root, c)
    activate(root, c)
    async with following(root) as generations:
        assert (generations.current.version, generations.previous) == (b, a)
        assert generations.state.startswith(f"refused {c}: ")


async def test_merely_to_serve_leaves_nothing_in_the_folder(root: Path) -> None:
    before = set(os.listdir(root))
    async with following(root):
        await asyncio.sleep(0.1)
    assert set(os.listdir(root)) == before


async def test_who_starts_while_current_is_refused_serves_what_the_others_do(root: Path, a: str, b: str) -> None:
    """The first change of a folder is to a broken bundle, and then a worker dies."""
    corrupt(root, b)
    async with following(root) as one:
        activate(root, b)
        await until(lambda: one.state != "ok")
        await until(lambda: read_rollout(root).serving == a)
        async with following(root) as two:
            assert (two.current.version, two.previous) == (a, "")


async def test_the_first_start_with_a_refused_bundle_is_none(root: Path, a: str) -> None:
    corrupt(root, a)
    with pytest.raises(BundleCorruptError):
        async with following(root):
            pass


async def test_a_canary_is_sticky_grows_and_reaches_everyone(root: Path, a: str, b: str, told: Told) -> None:
    async with following(root, told) as one, following(root) as two:
        await one.set_canary(b, 0.1)
        await until(lambda: two.roles.canary is not None)
        tenth = {user for user in USERS if one.serving(user).version == b}
        assert 0.08 < len(tenth) / len(USERS) < 0.12
        assert tenth == {user for user in USERS if two.serving(user).version == b}
        await one.set_canary(b, 0.5)
        half = {user for user in USERS if one.serving(user).version == b}
        assert tenth < half
        assert 0.47 < len(half) / len(USERS) < 0.53
        assert one.serving("").version == a
        assert one.serving("", b).version == b
        await one.set_canary("", 0)
        assert all(one.serving(user).version == a for user in USERS)
        await until(lambda: two.roles.canary is None)
    assert told.changes[1:] == [
        ((a, None, None), (a, (b, 0.1), None)),
        ((a, (b, 0.1), None), (a, (b, 0.5), None)),
        ((a, (b, 0.5), None), (a, None, None)),
    ]


async def test_another_canary_meets_other_shoppers(root: Path, b: str, c: str) -> None:
    async with following(root) as generations:
        chosen = []
        for version in (b, c):
            await generations.set_canary(version, 0.2)
            chosen.append({user for user in USERS if generations.serving(user).version == version})
        assert len(chosen[0] & chosen[1]) / len(USERS) < 0.06  # .04 where the two draws are independent


async def test_a_canary_that_is_activated_is_the_same_generation(root: Path, b: str) -> None:
    async with following(root) as generations:
        await generations.set_canary(b, 0.5)
        canary = generations.serving("", b)
        await generations.activate(b)
        assert generations.current is canary
        assert generations.roles.canary is None
        assert read_rollout(root).canary is None


async def test_a_shadow_serves_nobody(root: Path, a: str, b: str) -> None:
    async with following(root) as one, following(root) as two:
        await one.set_shadow(b, 0.3)
        await until(lambda: two.roles.shadow is not None)
        assert all(one.serving(user).version == a for user in USERS[:100])
        await two.set_shadow("", 0)
        await until(lambda: one.roles.shadow is None)


async def test_what_cannot_be_a_canary_is_refused_and_nothing_changes(root: Path, a: str, b: str) -> None:
    corrupt(root, b)
    async with following(root) as generations:
        for share in (-0.1, 1.1, float("nan")):
            with pytest.raises(InvalidQueryError, match="share"):
                await generations.set_canary(b, share)
        with pytest.raises(InvalidQueryError, match="serves everyone"):
            await generations.set_canary(a, 0.5)
        with pytest.raises(BundleCorruptError):
            await generations.set_canary(b, 0.5)
        for version in ("nowhere", "../a", ""):
            with pytest.raises(BundleMissingError):
                await generations.activate(version)
        with pytest.raises(BundleMissingError, match="not loaded"):
            generations.serving("someone", b)
        assert generations.roles.summary() == (a, None, None)


async def test_a_canary_refused_elsewhere_is_done_without(root: Path, a: str, b: str, told: Told) -> None:
    async with following(root, told) as generations:
        corrupt(root, b)
        change_rollout(root, lambda old: old.model_copy(update={"canary": Part(version=b, share=0.5)}))
        await until(lambda: told.refused != [])
        await asyncio.sleep(0.1)
        assert told.refused == [b]
        assert generations.roles.summary() == (a, None, None)
        assert generations.state.startswith(f"refused {b}: ")


async def test_a_read_only_folder_still_serves_and_follows(
    root: Path, a: str, b: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Root may write to any folder, so the refusal itself is what is put in place."""

    def refuse(*_: object) -> None:
        raise BundleError("the folder of bundles cannot be written to (Read-only file system)", where=str(root))

    monkeypatch.setattr("service.generations.change_rollout", refuse)
    with caplog.at_level(logging.INFO):
        async with following(root) as generations:
            activate(root, b)
            await until(lambda: generations.current.version == b)
            await until(lambda: "Read-only file system" in caplog.text)
            with pytest.raises(BundleError, match="Read-only"):
                await generations.set_canary(a, 0.5)
