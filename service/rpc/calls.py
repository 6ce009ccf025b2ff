"""What stands around every unary call: its id, its time, its errors as rich statuses, its line in the metrics.

Messages are parsed here and not by gRPC, so that bytes that are no message are refused with a reason, and are timed.
A client's deadline needs no code: gRPC cancels the handler when it passes, and the call is timed as DEADLINE_EXCEEDED.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from service.errors import InvalidQueryError, PlotPointeError
from service.metrics import Metrics
from service.rpc.statuses import DETAILS_KEY, rich_status, status_of
from service.validation import accepted_request_id

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[bytes, Message]


@dataclass(slots=True)
class Call:
    """One call and what is known of its answer."""

    request_id: str
    strategy: str = ""
    """Strategy of the recommendation; empty where the answer is none."""


Request = TypeVar("Request", bound=Message)


def unary(
    method: Callable[[Request, Call], Awaitable[Message]],
    parse: Callable[[bytes], Request],
    route: str,
    metrics: Metrics,
) -> grpc.RpcMethodHandler[bytes, Message]:
    """A gRPC handler around `method`; `parse` raises DecodeError on bytes that are no request."""

    async def answer(raw: bytes, context: Context) -> Message:
        started = perf_counter()
        call = Call(_request_id(context))
        code = grpc.StatusCode.OK
        try:
            with metrics.in_flight():
                request = _parsed(raw, parse)
                response = await method(request, call)
            context.set_trailing_metadata((("x-request-id", call.request_id),))
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
        code, call = grpc.StatusCode.UNIMPLEMENTED, Call(_request_id(context))
        status = rich_status(code, code.name, "There is no such method", call.request_id)
        self._metrics.observe_request(route="unmatched", status=code.name, strategy="", seconds=0.0)
        await _abort(context, code, status, call)


def _parsed(raw: bytes, parse: Callable[[bytes], Request]) -> Request:
    try:
        return parse(raw)
    except DecodeError as error:
        raise InvalidQueryError("the message is not what the contract says, or holds text that is not UTF-8") from error


def _request_id(context: Context) -> str:
    offered = next((value for key, value in context.invocation_metadata() or () if key == "x-request-id"), None)
    return accepted_request_id(offered if isinstance(offered, str) else None)


def _cancelled_code(context: Context) -> grpc.StatusCode:
    """Why gRPC cancelled the handler: the deadline passed, or the client went away."""
    remaining = context.time_remaining()
    late = remaining is not None and remaining <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED


async def _abort(context: Context, code: grpc.StatusCode, status: Status, call: Call) -> NoReturn:
    trailing = ((DETAILS_KEY, status.SerializeToString()), ("x-request-id", call.request_id))
    await context.abort(code, status.message, trailing)
