"""Servers that answer with constant bytes: what a framework costs before anything is computed, and what a load can ask.

    python -m benchmarks.serving.bare {fastapi|grpc|http-ceiling|grpc-ceiling} PORT FILE

FILE holds the answer: a body of JSON, or a serialized RecommendResponse. `fastapi` is a route on uvicorn, `grpc` a
method of grpc.aio, both on uvloop as the service is. The ceilings speak the protocol just well enough for `load.py`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import uvicorn
import uvloop
from fastapi import FastAPI, Response

from benchmarks.serving.load import END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame, split_frames
from protos import recommender_pb2, recommender_pb2_grpc


def fastapi(port: int, body: bytes) -> None:
    """A route with the query parameters of /recommend that returns `body`."""
    app = FastAPI()

    @app.get("/recommend")
    async def bare(user_id: str, k: int = 20) -> Response:
        return Response(body, media_type="application/json")

    uvicorn.run(app, host="127.0.0.1", port=port, http="httptools", loop="uvloop", log_level="error", access_log=False)


def grpc_aio(port: int, body: bytes) -> None:
    """Recommend, always with the same message, which is serialized for each call."""
    message = recommender_pb2.RecommendResponse.FromString(body)

    class Bare(recommender_pb2_grpc.RecommendationServiceServicer):
        async def Recommend(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
            return message

    async def serve() -> None:
        server = grpc.aio.server()
        recommender_pb2_grpc.add_RecommendationServiceServicer_to_server(Bare(), server)
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()

    uvloop.run(serve())


class HttpCeiling(asyncio.Protocol):
    """One constant answer for whatever arrives: `load.py` sends a request in one piece."""

    def __init__(self, body: bytes) -> None:
        self._answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body

    def connection_made(self, transport: Any) -> None:
        """See asyncio.Protocol."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._transport.write(self._answer)


class GrpcCeiling(asyncio.Protocol):
    """One constant message for each stream that ended."""

    def __init__(self, body: bytes) -> None:
        self._message = b"\x00" + len(body).to_bytes(4, "big") + body
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        """See asyncio.Protocol."""
        self._transport = transport
        transport.write(frame(SETTINGS, 0, 0, b""))

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        frames, self._buffer = split_frames((self._buffer + data).removeprefix(PREFACE))
        for kind, flags, stream, _ in frames:
            if kind == 0 and flags & END_STREAM:
                self._transport.write(
                    frame(HEADERS, END_HEADERS, stream, b"\x88")
                    + frame(0, 0, stream, self._message)
                    + frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x88")
                )


def ceiling(port: int, body: bytes, protocol: type[HttpCeiling | GrpcCeiling]) -> None:
    """Serve a protocol."""

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: protocol(body), "127.0.0.1", port)
        await server.serve_forever()

    uvloop.run(serve())


def main() -> None:
    kind, port, body = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).read_bytes()
    match kind:
        case "fastapi":
            fastapi(port, body)
        case "grpc":
            grpc_aio(port, body)
        case "http-ceiling":
            ceiling(port, body, HttpCeiling)
        case "grpc-ceiling":
            ceiling(port, body, GrpcCeiling)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
