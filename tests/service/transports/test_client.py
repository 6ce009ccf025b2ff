"""The client against real servers: answers, named errors, deadlines, bounded retries."""

import asyncio
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from service.client import RecommendationClient
from service.domain import Query, Recommendation, Strategy
from service.errors import InvalidQueryError, NotReadyError, PlotPointeError, UnavailableError
from service.validation.violations import FieldViolation, InvalidFieldsError


@pytest.fixture
def client(served):
    with RecommendationClient(served.grpc, timeout_s=5) as client:
        yield client


def test_recommend_and_get_model(client, served, world):
    answer = client.recommend("shopper-009", 5)
    assert [item.item_id for item in answer.items] == world.recommend("shopper-009", 5)[0]
    assert len(client.recommend("shopper-009").items) == 20
    assert client.get_model().version == served.version


def test_threads_share_a_client(client):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(client.recommend, [f"shopper-{n:03d}" for n in range(64)]))
    assert [answer.user_id for answer in answers] == [f"shopper-{n:03d}" for n in range(64)]


def test_a_refused_request_names_its_fields(client):
    with pytest.raises(InvalidFieldsError) as caught:
        client.recommend("", 0)
    assert [violation.field for violation in caught.value.violations] == ["user_id", "k"]
    assert isinstance(caught.value.violations[0], FieldViolation)


@pytest.mark.parametrize(("user_id", "k"), [("\ud800", 5), ("a", 2**40)])
def test_what_cannot_be_sent_is_refused_here(client, user_id, k):
    with pytest.raises(InvalidQueryError, match="cannot be sent"):
        client.recommend(user_id, k)


def test_nobody_listens_is_found_out_in_time():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(UnavailableError, match=f"127.0.0.1:{port}"):
        ask(f"127.0.0.1:{port}", timeout_s=0.5)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(("timeout_s", "attempts"), [(0, 1), (-1, 1), (1, 0)])
def test_senseless_bounds_are_refused(timeout_s, attempts):
    with pytest.raises(ValueError, match="timeout_s must be above 0"):
        RecommendationClient("127.0.0.1:1", timeout_s=timeout_s, attempts=attempts)


class Engine:
    """Fails with `error` for the first `failures` calls, then answers after `seconds`."""

    def __init__(self, error: Exception, failures: int, seconds: float = 0) -> None:
        self.error, self.failures, self.seconds, self.calls = error, failures, seconds, 0

    async def recommend(self, query: Query, *, transport: str) -> Recommendation:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        await asyncio.sleep(self.seconds)
        return Recommendation("r", query.user_id, (), Strategy.POPULAR, "test", False, (), {})


def ask(target: str, **bounds):
    with RecommendationClient(target, **bounds) as client:
        return client.recommend("a")


async def test_unavailable_is_tried_again(answering):
    engine = Engine(NotReadyError("not yet"), failures=2)
    async with answering(engine) as served:
        answer = await asyncio.to_thread(ask, served.grpc, timeout_s=5)
    assert (answer.user_id, engine.calls) == ("a", 3)


async def test_attempts_are_bounded(answering):
    engine = Engine(NotReadyError("not yet"), failures=100)
    async with answering(engine) as served:
        with pytest.raises(NotReadyError, match="not yet"):
            await asyncio.to_thread(ask, served.grpc, timeout_s=5, attempts=4)
    assert engine.calls == 4


async def test_a_bug_is_not_tried_again(answering):
    engine = Engine(ZeroDivisionError(), failures=100)
    async with answering(engine) as served:
        with pytest.raises(PlotPointeError, match="failed on this request"):
            await asyncio.to_thread(ask, served.grpc, timeout_s=5)
    assert engine.calls == 1


async def test_the_timeout_bounds_the_call(answering):
    engine = Engine(NotReadyError("not yet"), failures=0, seconds=30)
    async with answering(engine) as served:
        started = time.monotonic()
        with pytest.raises(UnavailableError, match=r"no answer within 0\.3 s"):
            await asyncio.to_thread(ask, served.grpc, timeout_s=0.3)
        assert time.monotonic() - started < 2
    assert engine.calls == 1


def test_it_loads_nothing_of_the_server():
    heavy = (
        "numpy",
        "pydantic",
        "fastapi",
        "uvicorn",
        "faiss",
        "onnxruntime",
        "redis",
        "prometheus_client",
        "pydantic_settings",
        "orjson",
    )
    code = f"import sys, service.client; print([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_credentials_make_it_a_secure_channel(served):
    with pytest.raises(UnavailableError):
        ask(served.grpc, timeout_s=1, credentials=grpc.ssl_channel_credentials())
