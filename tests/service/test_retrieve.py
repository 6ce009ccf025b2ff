from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from service.bundle.reader import open_bundle
from service.bundle.store import active_version
from service.errors import BundleForeignError
from service.retrieve import Retriever
from service.settings import Settings
from service.wiring import open_service

NOTHING = np.empty(0, np.int32)


def opened(root: Path) -> Retriever:
    return Retriever(open_bundle(root / active_version(root)))


@pytest.fixture
def exact(exact_bundle_root: Path) -> Retriever:
    return opened(exact_bundle_root)


@pytest.fixture
def approximate(bundle_root: Path) -> Retriever:
    return opened(bundle_root)


def nearest(world: Any, vector: Any, exclude: Any) -> Any:
    similarity = world.vectors @ vector
    similarity[exclude] = -np.inf
    return np.argsort(-similarity, kind="stable")[: len(similarity) - len(exclude)]


@pytest.mark.parametrize("excluded", [0, 1, 90, 400, 590])
def test_the_nearest_are_found_even_where_all_that_come_first_are_excluded(
    exact: Retriever, world: Any, excluded: int
) -> None:
    for row in range(0, 600, 60):
        vector = world.vectors[row]
        exclude = np.sort(nearest(world, vector, NOTHING)[:excluded]).astype(np.int32)
        found = exact.search(vector, 100, at_least=0, exclude=exclude)
        expected = nearest(world, vector, exclude)[:100]
        assert found.rows.tolist() == expected.tolist()
        np.testing.assert_allclose(found.scores, world.vectors[expected] @ vector, rtol=1e-5)


def test_an_approximate_index_finds_most_of_the_nearest(approximate: Retriever, world: Any) -> None:
    hits = 0
    for vector in world.vectors[::10]:
        found = approximate.search(vector, 20, at_least=0, exclude=NOTHING)
        hits += len(set(found.rows.tolist()) & set(nearest(world, vector, NOTHING)[:20].tolist()))
    assert hits / (60 * 20) > 0.95


@pytest.mark.parametrize("excluded", [0, 100, 500, 590, 600])
def test_an_approximate_index_leaves_nobody_short(approximate: Retriever, world: Any, excluded: int) -> None:
    """The planted clusters lie so far apart that the graph alone does leave some short."""
    for row in range(0, 600, 60):
        vector = world.vectors[row]
        exclude = np.sort(nearest(world, vector, NOTHING)[:excluded]).astype(np.int32)
        found = approximate.search(vector, 50, at_least=50, exclude=exclude)
        assert len(found.rows) == min(50, 600 - excluded)
        assert len(set(found.rows.tolist())) == len(found.rows)
        assert not set(found.rows.tolist()) & set(exclude.tolist())
        assert np.all(np.diff(found.scores) <= 0)


async def test_a_search_depth_for_an_index_without_one_is_refused(
    planted: ModuleType, world: Any, tmp_path: Path
) -> None:
    good = planted.publish(world, tmp_path / "good", factory="Flat")
    wrong = good.index.model_copy(update={"ef_search": 64})
    planted.publish(world, tmp_path / "wrong", factory="Flat", index=wrong)
    with pytest.raises(BundleForeignError, match="search depth"):
        async with open_service(Settings(bundles=tmp_path / "wrong", events_dir=tmp_path / "events")):
            pass
