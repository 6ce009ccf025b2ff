"""Load over keep-alive connections at the level of sockets, HTTP/1.1 and gRPC: as much as one core can ask for.

A connection has one request under way. `closed` sends the next one when an answer came, and so finds the capacity;
`open_model` sends each when it is due, whether or not the earlier ones were answered, and counts from then.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt

Answered = Callable[["Connection"], None]
HEADERS, SETTINGS, PING, GOAWAY, RESET = 1, 4, 6, 7, 3
END_STREAM, END_HEADERS, ACK = 1, 4, 1
WINDOW = (1 << 31) - 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Connection(asyncio.Protocol):
    """One connection; `reply` is the last answer's body once `answered` is called."""

    def __init__(self, answered: Answered) -> None:
        self.answered = answered
        self.reply = b""
        self.refused = ""
        """What the server said in place of an answer, if it did: then there is nothing more to ask it."""
        self.number = -1
        """Of the request under way."""
        self.sent = 0.0
        self._transport: asyncio.Transport | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None

    def close(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.close()

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self._transport is None:
            self._refuse("the server closed a connection")
        else:
            self._transport.write(data)

    def _refuse(self, what: str) -> None:
        self.refused = what
        self.answered(self)


class Http(Connection):
    """HTTP/1.1: a request is its bytes."""

    def ask(self, request: bytes) -> None:
        """Send one request."""
        self.write(request)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self._buffer.lower().index(b"content-length:", 0, end) + 15
        length = int(self._buffer[at : self._buffer.index(b"\r", at)])
        if len(self._buffer) < end + 4 + length:
            return
        if not self._buffer.startswith(b"HTTP/1.1 200"):
            self._refuse(f"{self._buffer[:600]!r}")
            return
        self.reply, self._buffer = self._buffer[end + 4 :], b""
        self.answered(self)


class Grpc(Connection):
    """gRPC over HTTP/2: a request is its message; one method. Answers are not looked into but for there being one."""

    def __init__(self, answered: Answered, path: str) -> None:
        super().__init__(answered)
        self._stream = -1
        fields = b"\x83\x86" + b"\x04" + _text(path) + b"\x01" + _text("127.0.0.1")
        for name, value in (("te", "trailers"), ("content-type", "application/grpc")):
            fields += b"\x00" + _text(name) + _text(value)
        self._fields = fields

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello, and that any amount may be sent."""
        super().connection_made(transport)
        settings = struct.pack(">HIHIHI", 1, 0, 2, 0, 4, WINDOW)
        more = frame(8, 0, 0, struct.pack(">I", WINDOW - 65_535))
        self.write(PREFACE + frame(SETTINGS, 0, 0, settings) + more)

    def ask(self, request: bytes) -> None:
        """Send one message on a new stream."""
        self._stream += 2
        self.reply = b""
        message = b"\x00" + struct.pack(">I", len(request)) + request
        self.write(
            frame(HEADERS, END_HEADERS, self._stream, self._fields) + frame(0, END_STREAM, self._stream, message)
        )

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        frames, self._buffer = split_frames(self._buffer + data)
        for kind, flags, _, payload in frames:
            if kind == 0:
                self.reply += payload
            elif kind in (SETTINGS, PING) and not flags & ACK:
                self.write(frame(kind, ACK, 0, payload if kind == PING else b""))
            elif kind in (GOAWAY, RESET):
                self._refuse(f"the server ended a stream: frame {kind} {payload!r}")
            if kind in (0, HEADERS) and flags & END_STREAM:
                if self.reply:
                    self.answered(self)
                else:
                    self._refuse(f"an error instead of a message: {payload!r}")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame."""
    return struct.pack(">IBI", (len(payload) << 8) | kind, flags, stream) + payload


def split_frames(data: bytes) -> tuple[list[tuple[int, int, int, bytes]], bytes]:
    """(kind, flags, stream, payload) of the whole frames in `data`, and what is left of it."""
    frames = []
    at = 0
    while len(data) >= at + 9:
        head, flags, stream = struct.unpack_from(">IBI", data, at)
        end = at + 9 + (head >> 8)
        if len(data) < end:
            break
        frames.append((head & 255, flags, stream, data[at + 9 : end]))
        at = end
    return frames, data[at:]


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


@dataclass
class Measured:
    """What came of a load."""

    seconds: float
    latencies: npt.NDArray[np.float64]
    """(n,) seconds, in the order answered."""
    replies: list[bytes] = field(repr=False)
    cpu_seconds: float = 0.0
    """Processor time of the server meanwhile, where the caller looked."""

    @property
    def a_second(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    @property
    def a_cpu_second(self) -> float:
        """Answers a second of the server's processor time."""
        return len(self.latencies) / self.cpu_seconds

    def ms(self, *quantiles: float) -> dict[str, float]:
        """Latency quantiles (in percent), in milliseconds."""
        return {f"p{q:g}_ms": round(float(np.percentile(self.latencies, q)) * 1e3, 3) for q in quantiles}


Opener = Callable[[Answered], Connection]


async def _connect(opener: Opener, port: int, count: int, answered: Answered) -> list[Connection]:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: opener(answered), "127.0.0.1", port) for _ in range(count)]
    return [protocol for _, protocol in made]


def _close(connections: Sequence[Connection]) -> None:
    """Raises SystemExit where an answer was a refusal: nothing was measured then."""
    for connection in connections:
        connection.close()
    for connection in connections:
        if connection.refused:
            raise SystemExit(f"refused: {connection.refused}")


async def closed(opener: Opener, port: int, requests: Iterator[bytes], *, seconds: float, connections: int) -> Measured:
    """As many requests as `connections` can keep under way for some seconds, or until there are no more."""
    latencies: list[float] = []
    replies: list[bytes] = []
    over = asyncio.Event()
    under_way = 0

    def next_one(connection: Connection) -> None:
        nonlocal under_way
        request = next(requests, None) if time.perf_counter() < end else None
        if request is None:
            if not under_way:
                over.set()
            return
        under_way += 1
        connection.sent = time.perf_counter()
        connection.ask(request)  # type: ignore[attr-defined]

    def answered(connection: Connection) -> None:
        nonlocal under_way
        under_way -= 1
        if connection.refused:
            over.set()
            return
        latencies.append(time.perf_counter() - connection.sent)
        replies.append(connection.reply)
        next_one(connection)

    opened = await _connect(opener, port, connections, answered)
    begin = time.perf_counter()
    end = begin + seconds
    for connection in opened:
        next_one(connection)
    await over.wait()
    took = time.perf_counter() - begin
    _close(opened)
    return Measured(took, np.array(latencies), replies)


async def open_model(
    opener: Opener, port: int, requests: Sequence[bytes], *, rate: float, connections: int, seed: int = 0
) -> Measured:
    """Poisson arrivals at `rate` a second; latency counts from when a request was due. Keeps its core busy."""
    due = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, len(requests))).tolist()
    latencies = np.zeros(len(requests))
    replies: list[bytes] = []
    free: list[Connection] = []

    def answered(connection: Connection) -> None:
        latencies[connection.number] = time.perf_counter() - begin - due[connection.number]
        replies.append(connection.reply)
        free.append(connection)

    opened = await _connect(opener, port, connections, answered)
    free += opened
    waiting: deque[int] = deque()
    begin = time.perf_counter() + 0.1
    arrived = 0
    while len(replies) < len(requests) and not any(connection.refused for connection in opened):
        now = time.perf_counter() - begin
        while arrived < len(due) and due[arrived] <= now:
            waiting.append(arrived)
            arrived += 1
        while waiting and free:
            connection = free.pop()
            connection.number = waiting.popleft()
            connection.ask(requests[connection.number])  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    took = time.perf_counter() - begin
    _close(opened)
    return Measured(took, latencies, replies)
