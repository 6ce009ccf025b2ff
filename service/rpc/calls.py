"""What stands around every unary call: its id, its time, its errors as rich statuses, its line in the metrics.

Messages are parsed here and not by gRPC, so that bytes that are no message are refused with a reason, and are timed.
When a client's deadline passes, gRPC cancels the handler, and the call is timed as DEADLINE_EXCEEDED; the engine is
told of the deadline too, and may answer with less in time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from service.errors import InvalidQueryError, PlotPointeError, RequestTooLargeError
from service.metrics import Metrics
from service.rpc.statuses import DETAILS_KEY, rich_status, status_of
from service.validation.identity import AUTHORIZATION, REQUEST_ID, TENANT, accepted_request_id, admin_key

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[bytes, Message]

MAX_MESSAGE_BYTES = 1 << 20
"""Largest request; it holds some thousands of events or items."""
MAX_PICTURE_MESSAGE_BYTES = 2 << 20
"""The same where a picture may be in it."""


@dataclass(slots=True)
class Call:
    """One call and what is known of its answer."""

    request_id: str
    metadata: Mapping[str, str | bytes]
    """Of a key given twice the last value."""
    deadline: float | None
    """The client's, in `time.monotonic()` seconds; None where it has none."""
    strategy: str = ""
    """Strategy of the recommendation; empty where the answer is none."""

    def tenant(self) -> str:
        """The tenant that the call names, as it came; empty where it names none."""
        return _text(self.metadata.get(TENANT)) or ""

    def admin_key(self) -> str:
        """The key of `authorization: Bearer <key>`; empty where there is none."""
        return admin_key(_text(self.metadata.get(AUTHORIZATION)))


Request = TypeVar("Request", bound=Message)


def unary(
    method: Callable[[Request, Call], Awaitable[Message]],
    parse: Callable[[bytes], Request],
    route: str,
    metrics: Metrics,
    limit: int = MAX_MESSAGE_BYTES,
) -> grpc.RpcMethodHandler[bytes, Message]:
    """A gRPC handler around `method`; `parse` raises DecodeError on bytes that are no request."""

    async def answer(raw: bytes, context: Context) -> Message:
        started = perf_counter()
        call = _call(context)
        code = grpc.StatusCode.OK
        try:
            with metrics.in_flight():
                request = _parsed(raw, parse, limit)
                response = await method(request, call)
            context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
            return response
        except PlotPointeError as error:
            code, status = status_of(error, call.request_id)
            await _abort(context, code, status, call)
        except asyncio.CancelledError:
            code = _cancelled_code(context)
            raise
        except Exception:
            log.exception("a call failed: %s", route, extra={"request_id": call.request_id})
            code = grpc.StatusCode.INTERNAL
            detail = "The service failed on this request; the log holds the cause under this request_id"
            await _abort(context, code, rich_status(code, PlotPointeError.reason, detail, call.request_id), call)
        finally:
            metrics.observe_request(
                route=route, status=code.name, strategy=call.strategy, seconds=perf_counter() - started
            )

    return grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=None, response_serializer=lambda message: message.SerializeToString()
    )


class UnknownMethods(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its stubs alone
    """Takes what no other handler took: answers UNIMPLEMENTED with a reason, and counts it."""

    def __init__(self, metrics: Metrics) -> None:
        # Streams on both sides: gRPC serves a call of any kind with them.
        self._handler = grpc.stream_stream_rpc_method_handler(self._refuse)
        self._metrics = metrics

    def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """The same refusal for every method."""
        return self._handler

    async def _refuse(self, _: AsyncIterator[bytes], context: Context) -> NoReturn:
        code, call = grpc.StatusCode.UNIMPLEMENTED, _call(context)
        status = rich_status(code, code.name, "There is no such method", call.request_id)
        self._metrics.observe_request(route="unmatched", status=code.name, strategy="", seconds=0.0)
        await _abort(context, code, status, call)


def _parsed(raw: bytes, parse: Callable[[bytes], Request], limit: int) -> Request:
    if len(raw) > limit:
        raise RequestTooLargeError(f"the message has more than {limit} bytes", todo="Send it in several calls")
    try:
        return parse(raw)
    except DecodeError as error:
        raise InvalidQueryError("the message is not what the contract says, or holds text that is not UTF-8") from error


def _call(context: Context) -> Call:
    metadata = dict(context.invocation_metadata() or ())
    remaining = context.time_remaining()
    deadline = None if remaining is None else time.monotonic() + remaining
    return Call(accepted_request_id(_text(metadata.get(REQUEST_ID))), metadata, deadline)


def _text(value: str | bytes | None) -> str | None:
    return value if isinstance(value, str) else None


def _cancelled_code(context: Context) -> grpc.StatusCode:
    """Why gRPC cancelled the handler: the deadline passed, or the client went away."""
    remaining = context.time_remaining()
    late = remaining is not None and remaining <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED


async def _abort(context: Context, code: grpc.StatusCode, status: Status, call: Call) -> NoReturn:
    trailing = ((DETAILS_KEY, status.SerializeToString()), (REQUEST_ID, call.request_id))
    await context.abort(code, status.message, trailing)
