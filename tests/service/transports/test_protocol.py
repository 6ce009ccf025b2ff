"""Heads that are too large, too late or no HTTP end the connection, with a problem body."""

import asyncio
import contextlib

import httpx
import pytest
import uvicorn

from service.admin import Admin
from service.engine import Engines
from service.rest import protocol
from service.rest.app import build_app
from service.rest.protocol import MAX_HEAD_BYTES, BoundedHttp
from service.rest.schemas import ProblemBody


@pytest.fixture
async def port(metrics, ready):
    app = build_app(Engines({}), Admin({}, None), metrics, ready)
    config = uvicorn.Config(app, port=0, http=BoundedHttp, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event to wait for
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await running


async def send(port: int, *parts: bytes, pause: float = 0.0) -> tuple[bytes, bytes]:
    """The head and the body of what comes back until the connection closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
    answer = b""
    with contextlib.suppress(ConnectionError):
        while chunk := await asyncio.wait_for(reader.read(65_536), 10):
            answer += chunk
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


REQUEST = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"


async def test_a_whole_head_is_answered(port):
    head, body = await send(port, REQUEST + b"\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b"ok"


async def test_a_head_in_parts_is_answered(port):
    head, _ = await send(port, *(bytes([byte]) for byte in REQUEST + b"\r\n"))
    assert head.startswith(b"HTTP/1.1 200 ")


async def test_two_requests_on_one_connection_are_counted_apart(port):
    padding = b"x-pad: " + b"x" * (MAX_HEAD_BYTES * 2 // 3) + b"\r\n"
    one = REQUEST.replace(b"connection: close\r\n", b"") + padding
    head, body = await send(port, one, b"\r\n", REQUEST + padding, b"\r\n", pause=0.05)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body.count(b"HTTP/1.1 200 ") == 1


@pytest.mark.parametrize("start", [b"GET /", REQUEST + b"x-pad: ", REQUEST])
async def test_a_head_without_end_is_refused(port, start):
    endless = start + (b"x-pad: y\r\n" if start == REQUEST else b"x") * MAX_HEAD_BYTES
    head, body = await send(port, endless[: MAX_HEAD_BYTES // 2], endless[MAX_HEAD_BYTES // 2 : MAX_HEAD_BYTES + 1])
    assert head.startswith(b"HTTP/1.1 431 ")
    assert ProblemBody.model_validate_json(body).detail == f"the head has more than {MAX_HEAD_BYTES} bytes"


async def test_a_head_that_does_not_come_is_not_waited_for(port, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)
    head, body = await send(port, b"GET /livez HT")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert ProblemBody.model_validate_json(body).status == 408


@pytest.mark.parametrize(
    "raw", [b"\x00\x01\x02\r\n\r\n", b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03\x01\x02\x00"]
)
async def test_what_is_no_http_is_a_problem(port, raw, caplog):
    head, body = await send(port, raw)
    assert head.startswith(b"HTTP/1.1 400 ")
    problem = ProblemBody.model_validate_json(body)
    assert (problem.status, problem.reason) == (400, "INVALID_ARGUMENT")


def test_the_service_itself_bounds_a_head(served) -> None:
    answer = httpx.get(f"{served.rest}/livez", headers={"x-long": "a" * (16 * MAX_HEAD_BYTES)}, timeout=30)
    assert answer.status_code == 431
    assert answer.headers["content-type"] == "application/problem+json"
