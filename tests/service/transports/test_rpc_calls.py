"""Deadlines, cancellation, bugs and the drain of gRPC, around engines that are slow or fail."""

import asyncio
import contextlib
import json

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from protos import recommender_pb2 as pb
from protos.recommender_pb2_grpc import RecommendationServiceStub
from service.domain import Query, Recommendation, Strategy
from service.errors import NotReadyError
from service.rpc.health import SERVICE_NAME

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def call_counts(text: str) -> dict[tuple[str, str, str], float]:
    return {
        (sample.labels["route"].rpartition("/")[2], sample.labels["status"], sample.labels["strategy"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "plotpointe_request_duration_seconds_count"
    }


class Slow:
    """An engine that takes its time, and notes whether it was stopped."""

    def __init__(self, seconds: float = 30.0) -> None:
        self.seconds = seconds
        self.calls = 0
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def recommend(self, query: Query, *, transport: str) -> Recommendation:
        self.calls += 1
        self.began.set()
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Recommendation("r", query.user_id, (), Strategy.POPULAR, "test", False, (), {})


class Failing:
    """An engine that raises what it was given."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def recommend(self, query: Query, *, transport: str) -> Recommendation:
        raise self.error


async def test_the_clients_deadline_stops_the_work(answering, metrics):
    slow = Slow()
    async with answering(slow) as served, grpc.aio.insecure_channel(served.grpc) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await RecommendationServiceStub(channel).Recommend(pb.RecommendRequest(user_id="a"), timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(slow.cancelled.wait(), 2)
        await asyncio.sleep(0.05)
        assert call_counts(metrics.render().decode())["Recommend", "DEADLINE_EXCEEDED", ""] == 1


async def test_a_client_that_leaves_stops_the_work(answering, metrics):
    slow = Slow()
    async with answering(slow) as served, grpc.aio.insecure_channel(served.grpc) as channel:
        call = RecommendationServiceStub(channel).Recommend(pb.RecommendRequest(user_id="a"))
        asking = asyncio.ensure_future(call)
        await asyncio.wait_for(slow.began.wait(), 5)
        call.cancel()
        await asyncio.wait_for(slow.cancelled.wait(), 2)
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        await asyncio.sleep(0.05)
        assert call_counts(metrics.render().decode())["Recommend", "CANCELLED", ""] == 1


async def test_a_bug_is_internal_and_tells_nothing(answering, caplog):
    engine = Failing(ZeroDivisionError("the secret"))
    async with answering(engine) as served, grpc.aio.insecure_channel(served.grpc) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await RecommendationServiceStub(channel).Recommend(
                pb.RecommendRequest(user_id="a"), metadata=(("x-request-id", "r-9"),)
            )
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value)
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.request_id == "r-9"


async def test_unavailable_says_when_to_retry(answering):
    engine = Failing(NotReadyError("draining"))
    async with answering(engine) as served, grpc.aio.insecure_channel(served.grpc) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await RecommendationServiceStub(channel).Recommend(pb.RecommendRequest(user_id="a"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    status_bytes = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    assert b"NOT_READY" in status_bytes
    assert b"google.rpc.RetryInfo" in status_bytes


async def test_draining_is_told_to_every_watcher_and_finishes_what_runs(answering, ready):
    stop, slow = asyncio.Event(), Slow(seconds=1.2)
    async with answering(slow, stop, drain_seconds=10) as served, grpc.aio.insecure_channel(served.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        left, *watches = (health.Watch(health_pb2.HealthCheckRequest(service=s)) for s in ("", "", SERVICE_NAME))
        for watch in (left, *watches):
            assert (await watch.read()).status == SERVING
        left.cancel()
        running = asyncio.ensure_future(RecommendationServiceStub(channel).Recommend(pb.RecommendRequest(user_id="a")))
        reader, writer = await asyncio.open_connection(*served.rest.removeprefix("http://").split(":"))
        writer.write(b"GET /recommend?user_id=a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        await asyncio.wait_for(slow.began.wait(), 5)
        await asyncio.sleep(0.1)
        stop.set()
        for watch in watches:
            assert (await asyncio.wait_for(watch.read(), 2)).status == NOT_SERVING
        check = await health.Check(health_pb2.HealthCheckRequest())
        assert check.status == NOT_SERVING
        assert (await running).user_id == "a"
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert head.startswith(b"HTTP/1.1 200 ")
        assert json.loads(body)["user_id"] == "a"
        for watch in watches:
            assert await watch.read() is grpc.aio.EOF
    assert not ready.is_ready()


async def test_the_drain_has_an_end(answering, metrics):
    stop, slow = asyncio.Event(), Slow()
    async with answering(slow, stop, drain_seconds=0.2) as served:
        reader, writer = await asyncio.open_connection(*served.rest.removeprefix("http://").split(":"))
        writer.write(b"GET /recommend?user_id=a HTTP/1.1\r\nhost: x\r\n\r\n")
        async with grpc.aio.insecure_channel(served.grpc) as channel:
            call = RecommendationServiceStub(channel).Recommend(pb.RecommendRequest(user_id="a"))
            while slow.calls < 2:
                await asyncio.wait_for(slow.began.wait(), 5)
                await asyncio.sleep(0.01)
            started = asyncio.get_running_loop().time()
            stop.set()
            with pytest.raises(grpc.aio.AioRpcError):
                await call
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
    assert asyncio.get_running_loop().time() - started < 4
    counts = call_counts(metrics.render().decode())
    assert counts["recommend", "499", ""] == counts["Recommend", "CANCELLED", ""] == 1
