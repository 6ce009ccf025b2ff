"""More than can be answered: the others get their answers, the rest hears at once when to come back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from protos import recommender_pb2 as pb
from protos.recommender_pb2_grpc import RecommendationServiceStub
from service.domain import Query
from service.engine import Engine
from service.errors import OverloadedError
from service.recommend import Recommender
from service.settings import Settings
from service.wiring import open_service

COMPUTE_S = 0.006
"""What a computation takes at least: capacity is then known, and the same on any machine."""
SECONDS = 2.0
QUEUE_MS = 150.0


@pytest.fixture
def slowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every computation holds the event loop for COMPUTE_S, like one of a larger bundle."""
    answers: Callable[..., Any] = Recommender.answers

    def slow(*given: Any) -> Any:
        until = time.perf_counter() + COMPUTE_S
        result = answers(*given)
        time.sleep(max(0.0, until - time.perf_counter()))
        return result

    monkeypatch.setattr(Recommender, "answers", slow)


async def offered(engine: Engine, users: list[str], rate: float) -> tuple[float, list[float], list[float]]:
    """Arrivals at a `rate` a second that does not care how the service does, each another question.

    Answers a second, and the seconds that each answer and each refusal took.
    """
    answered: list[float] = []
    refused: list[float] = []

    async def ask(number: int) -> None:
        query = Query(users[number % len(users)], 1 + number // len(users) % 200, "q")
        begun = time.perf_counter()
        try:
            await engine.recommend(query, transport="rest")
            answered.append(time.perf_counter() - begun)
        except OverloadedError:
            refused.append(time.perf_counter() - begun)

    asks: list[asyncio.Task[None]] = []
    begun = time.perf_counter()
    while (now := time.perf_counter() - begun) < SECONDS:
        while len(asks) < now * rate:
            asks.append(asyncio.create_task(ask(len(asks))))
        await asyncio.sleep(0.001)
    await asyncio.gather(*asks)
    return len(answered) / (time.perf_counter() - begun), answered, refused


async def test_goodput_stays_where_it_was_at_three_times_the_capacity(
    slowed: None, bundle_root: Path, tmp_path: Path, world: Any
) -> None:
    folders = {"bundles": bundle_root, "events_dir": tmp_path / "events", "state_dir": tmp_path / "state"}
    users = list(world.taste)
    async with open_service(
        Settings(**folders, max_queue_ms=QUEUE_MS, cache_ttl_seconds=0.001, cache_stale_seconds=0)
    ) as service:
        engine = service.engines.get()
        peak, _, few = await offered(engine, users, 0.8 / COMPUTE_S)
        goodput, answered, refused = await offered(engine, users, 3 / COMPUTE_S)
        shed = service.metrics.render().decode()
    assert goodput > 0.8 * peak
    assert len(refused) > len(answered) / 2
    assert sorted(answered)[len(answered) // 2] < 2 * QUEUE_MS / 1000  # in time, and not only at all
    assert sorted(refused)[int(len(refused) * 0.9)] < 0.05
    assert f'plotpointe_shed_total{{reason="queue"}} {float(len(few) + len(refused))}' in shed


def test_both_ports_say_when_to_come_back(serve: Any, bundle_root: Path, tmp_path: Path, world: Any) -> None:
    folders = ("--events-dir", str(tmp_path / "events"), "--state-dir", str(tmp_path / "state"))
    with (
        serve("--bundles", str(bundle_root), *folders, "--max-queue-ms", "0.5") as served,
        httpx.Client(base_url=served.rest, limits=httpx.Limits(max_connections=64)) as http,
        grpc.insecure_channel(served.grpc) as channel,
        ThreadPoolExecutor(64) as pool,
    ):
        stub = RecommendationServiceStub(channel)

        def rest(number: int) -> tuple[int, str]:
            query = {"user_id": world.user_ids[number % 100], "k": 100 + number // 100}
            response = http.get("/recommend", params=query, timeout=30)
            return response.status_code, response.json().get("reason", "") + response.headers.get("retry-after", "")

        def rpc(call: Any) -> tuple[str, float]:
            try:
                call.result()
            except grpc.RpcError as error:
                info = RetryInfo()
                said = any(detail.Unpack(info) for detail in rpc_status.from_call(error).details)
                return error.code().name, info.retry_delay.seconds + info.retry_delay.nanos / 1e9 if said else 0.0
            return "OK", 0.0

        over_rest = Counter(pool.map(rest, range(400)))
        requests = [pb.RecommendRequest(user_id=world.user_ids[n % 100], k=50 + n // 100) for n in range(400)]
        over_rpc = Counter(map(rpc, [stub.Recommend.future(request, timeout=30) for request in requests]))
    assert over_rest.keys() == {(200, ""), (503, "OVERLOADED1")}
    assert {code for code, _ in over_rpc} == {"OK", "UNAVAILABLE"}
    assert min(delay for code, delay in over_rpc if code == "UNAVAILABLE") >= 1
