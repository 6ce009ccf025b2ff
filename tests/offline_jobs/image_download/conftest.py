"""A real HTTP server on loopback that misbehaves in every way a host on the web can, and counts what it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import io
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from pydantic import BaseModel

from offline_jobs.image_download.settings import FetchImagesSettings
from offline_jobs.image_download.stage import run_fetch_images
from training.stage import open_stage

Answer = Callable[["ImageServer", asyncio.StreamWriter, str], Awaitable[None]]


def picture(shade: int = 0, form: str = "JPEG", side: int = 64) -> bytes:
    """An image whose bytes depend on `shade`."""
    noise = bytes((x * 7 + y * 13 + shade * 31 + x * y * shade) % 256 for x in range(side) for y in range(side))
    out = io.BytesIO()
    Image.frombytes("L", (side, side), noise).convert("RGB").save(out, form)
    return out.getvalue()


def png_that_declares(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header speaks of billions of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + rows + chunk(b"IEND", b"")


def http(body: bytes, status: str = "200 OK", length: int | None = None, **headers: str) -> bytes:
    """A whole answer; `length` is what it says of its body."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def says(content: bytes) -> Answer:
    """The answer that is `content`."""

    async def answer(server: ImageServer, writer: asyncio.StreamWriter, path: str) -> None:
        writer.write(content)

    return answer


async def good(server: ImageServer, writer: asyncio.StreamWriter, path: str) -> None:
    """`/good/N.jpg`: image N."""
    if server.delay_s:
        await asyncio.sleep(server.delay_s)
    writer.write(http(picture(int(path.rsplit("/", 1)[1].split(".")[0])), Content_Type="image/jpeg"))


class ImageServer:
    """Answers by the longest prefix of the path; every other path is not found. In a thread of its own."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {"/good/": good}
        self.asked: Counter[str] = Counter()
        self.headers: dict[str, str] = {}
        self.most_at_once = 0
        self.delay_s = 0.0
        self._at_once = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self._ready.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _serve(self) -> None:
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                path = head.split(" ", 2)[1]
                self.asked[path] += 1
                self.headers[path] = head
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                try:
                    found = max((name for name in self.answers if path.startswith(name)), key=len, default=None)
                    answer = self.answers[found] if found else says(http(b"", "404 Not Found"))
                    await answer(self, writer, path)
                    await writer.drain()
                finally:
                    self._at_once -= 1
        writer.close()


@pytest.fixture
def server() -> Iterator[ImageServer]:
    running = ImageServer()
    yield running
    running.close()


class NoSettings(BaseModel):
    """Of the stage that stands in for ingest."""


def make_work(work: Path, images: list[str | None]) -> Path:
    """A work folder whose items have these images."""
    with open_stage(work, "ingest", version=len(images), inputs={}, settings=NoSettings()) as stage:
        ids = [f"item{row:05}" for row in range(len(images))]
        pl.DataFrame(
            {"item_id": ids, "image": images}, schema={"item_id": pl.String, "image": pl.String}
        ).write_parquet(stage.out / "items.parquet")
    return work


def patient(server: ImageServer, **changes: object) -> FetchImagesSettings:
    """Settings for a server on loopback, with little patience."""
    values: dict[str, object] = {
        "allow_hosts": "127.0.0.1",
        "ports": f"80,443,{server.port}",
        "requests_per_second": 0,
        "backoff_s": 0.01,
        "attempts": 3,
        "stall_timeout_s": 0.3,
        "request_timeout_s": 0.8,
        "connect_timeout_s": 1,
        "max_bytes": 100_000,
    }
    return FetchImagesSettings(**(values | changes))


def fetch(work: Path, settings: FetchImagesSettings, **more: object) -> list[dict[str, object]]:
    """Run the stage and read its ledger."""
    run_fetch_images(settings, work, **more)
    return pl.read_parquet(work / "images" / "ledger.parquet").to_dicts()


@pytest.fixture(name="make_work")
def _make_work() -> Callable[[Path, list[str | None]], Path]:
    return make_work


@pytest.fixture(name="patient")
def _patient() -> Callable[..., FetchImagesSettings]:
    return patient


@pytest.fixture(name="fetch")
def _fetch() -> Callable[..., list[dict[str, object]]]:
    return fetch


@pytest.fixture(name="http")
def _http() -> Callable[..., bytes]:
    return http


@pytest.fixture(name="says")
def _says() -> Callable[[bytes], Answer]:
    return says


@pytest.fixture(name="picture")
def _picture() -> Callable[..., bytes]:
    return picture


@pytest.fixture
def bomb() -> bytes:
    return png_that_declares(50_000, 50_000)
