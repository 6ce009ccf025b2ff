"""HTTP on the wire: uvicorn's protocol with a bound on a request's head, in bytes and in time.

Uvicorn keeps what a client sends as request line and headers, however much it is and however long it takes. Here a head
that is too large or too late ends the connection, and what is no HTTP is refused with a problem body.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.errors import InvalidQueryError
from service.rest.problems import MEDIA_TYPE, problem_body
from service.validation.identity import REQUEST_ID, accepted_request_id

MAX_HEAD_BYTES = 64 << 10
"""Largest request line with all headers."""
HEAD_S = 30.0
"""Seconds from the first byte of a head to its last."""


class BoundedHttp(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._in_head = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Take what came; a head that is not whole yet is counted, and waited for no longer than HEAD_S."""
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the head has more than {MAX_HEAD_BYTES} bytes")
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._head_over()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head is whole; one that came at once is bounded as well."""
        self._head_over()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _head_over(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the head did not arrive within {HEAD_S} s")

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer by hand, for there is no request that an application could answer; and close."""
        self._head_over()
        request_id = accepted_request_id(None)
        body = orjson.dumps(problem_body(request_id, status, InvalidQueryError.reason, status.phrase, detail))
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
            f"{REQUEST_ID}: {request_id}\r\ncache-control: private, no-store\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
