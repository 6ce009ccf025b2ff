"""What follows an answer, in the wired service: samples of recall, distributions, the shadow's bounds."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from service.bundle.store import activate, active_version
from service.domain import Query
from service.rollout import Part, change_rollout
from service.settings import Settings
from service.wiring import Service, open_service


@pytest.fixture
def settings(bundle_root: Path, tmp_path: Path) -> Callable[..., Settings]:
    def make(**given: Any) -> Settings:
        folders = {"bundles": bundle_root, "events_dir": tmp_path / "events", "state_dir": tmp_path / "state"}
        return Settings(**folders | given)

    return make


async def ask(service: Service, users: list[str], **asked: Any) -> None:
    for number, user_id in enumerate(users):
        await service.engines.get().recommend(Query(user_id, 20, f"q{number}", **asked), transport="rest")


def number(service: Service, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", service.metrics.render().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_the_recall_of_a_sample_is_measured_afterwards(settings: Callable[..., Settings], world: Any) -> None:
    async with open_service(settings(recall_sample_share=1.0)) as service:
        await ask(service, list(world.taste)[:1])
        await until(lambda: number(service, "plotpointe_retrieval_recall_ratio_count") == 1)
        assert 0.9 <= number(service, "plotpointe_retrieval_recall_ratio_sum") <= 1
        await ask(service, ["nobody"])  # popular items: nothing was retrieved
        await asyncio.sleep(0.1)
        assert number(service, "plotpointe_retrieval_recall_ratio_count") == 1
        await ask(service, list(world.taste)[1:2], filter='category: ANY("kind 3", "kind 4")')
        await until(lambda: number(service, "plotpointe_retrieval_recall_ratio_count") == 2)
        assert sum(number(service, f'plotpointe_retrieval_plan_total{{plan="{plan}"}}') for plan in PLANS) == 1
        stages = 'plotpointe_stage_duration_seconds_count{stage="retrieve"}'
        assert number(service, stages) == 2  # looking again is in no stage's time


PLANS = ("exact", "post_filter", "index")


async def test_without_a_share_nothing_is_computed_again(settings: Callable[..., Settings], world: Any) -> None:
    async with open_service(settings(recall_sample_share=0.0)) as service:
        await ask(service, list(world.taste)[:20])
        await asyncio.sleep(0.1)
        assert number(service, "plotpointe_retrieval_recall_ratio_count") == 0


async def test_scores_and_cold_items_of_some_answers_are_noted(settings: Callable[..., Settings], world: Any) -> None:
    async with open_service(settings()) as service:
        await ask(service, list(world.taste) * 2)
        noted = number(service, 'plotpointe_top_score_bucket{le="+Inf",strategy="personal"}')
        assert 5 < noted < len(world.taste)  # an eighth of 240
        assert number(service, "plotpointe_cold_items_served_ratio_count") == noted


async def test_the_same_bundle_as_a_shadow_shows_the_same(
    settings: Callable[..., Settings], planted: ModuleType, world: Any, tmp_path: Path
) -> None:
    root = tmp_path / "bundles"
    planted.publish(world, root)
    first = active_version(root)
    planted.publish(world, root, code_version="0.1.1")
    second = active_version(root)
    assert first != second
    activate(root, first)
    change_rollout(root, lambda old: old.model_copy(update={"shadow": Part(version=second, share=1.0)}))
    async with open_service(settings(bundles=root, recall_sample_share=0.0, max_queue_ms=60_000)) as service:
        for user_id in list(world.taste)[:10]:
            await ask(service, [user_id])
            await asyncio.sleep(0.02)
        compared = 'plotpointe_shadow_total{result="compared"}'
        await until(lambda: number(service, compared) == 10)
        assert number(service, "plotpointe_shadow_overlap_ratio_sum") == 10
        users = [user_id for user_id in list(world.taste) for _ in range(3)]
        await asyncio.gather(*(ask(service, [user_id], diversity=0.5) for user_id in users))
        # While others wait for their turn the shadow gets none; each request is counted one way or the other.
        dropped = 'plotpointe_shadow_total{result="dropped"}'
        await until(lambda: number(service, compared) + number(service, dropped) == 10 + len(users))
        assert number(service, dropped) > len(users) / 2
