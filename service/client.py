"""A typed gRPC client with a deadline and bounded retries. Needs grpcio and googleapis-common-protos, no server part.

    with RecommendationClient("127.0.0.1:50051") as client:
        for item in client.recommend("user-0001", k=5).items:
            print(item.rank, item.item_id, item.title)

One client serves all threads of a process. Answers are the contract's own messages, so that a newer server's
strategies and degradations reach an older client as they are.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from protos import recommender_pb2 as pb
from protos.recommender_pb2_grpc import RecommendationServiceStub
from service.errors import InvalidQueryError, NotReadyError, PlotPointeError, UnavailableError
from service.validation.violations import FieldViolation, InvalidFieldsError

FIRST_BACKOFF_S = 0.025
"""Longest wait before the first retry, in seconds; doubles with each further one. The wait is a random part of it."""
OPTIONS = (
    ("grpc.enable_retries", 0),  # retries are counted here, in one place
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)

Response = TypeVar("Response", bound=Message)


class RecommendationClient:
    """Asks one PlotPointe service. Close it, or use it as a context manager."""

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = 1.0,
        attempts: int = 3,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """`timeout_s` bounds a call with all its attempts; only what the service could not take is tried again."""
        if timeout_s <= 0 or attempts < 1:
            raise ValueError(f"timeout_s must be above 0 and attempts at least 1, not {timeout_s} and {attempts}")
        self._target = target
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._channel = (
            grpc.insecure_channel(target, OPTIONS)
            if credentials is None
            else grpc.secure_channel(target, credentials, OPTIONS)
        )
        self._stub = RecommendationServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def recommend(self, user_id: str, k: int | None = None, *, request_id: str | None = None) -> pb.RecommendResponse:
        """The best items for one user, best first; `k` as the service has it where it is not given.

        Raises InvalidQueryError where the request breaks the contract, NotReadyError or UnavailableError where there
        was no answer in time, PlotPointeError where the service failed.
        """
        try:
            request = pb.RecommendRequest(user_id=user_id, k=k)
        except (ValueError, UnicodeEncodeError) as error:  # half a surrogate pair, or a k beyond 32 bits
            raise InvalidQueryError(f"the request cannot be sent: {error}") from error
        metadata = () if request_id is None else (("x-request-id", request_id),)
        response: pb.RecommendResponse = self._call(self._stub.Recommend, request, metadata)
        return response

    def get_model(self) -> pb.GetModelResponse:
        """What is being served. Raises as `recommend` does."""
        response: pb.GetModelResponse = self._call(self._stub.GetModel, pb.GetModelRequest(), ())
        return response

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> RecommendationClient:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def _call(
        self, method: Callable[..., Response], request: Message, metadata: tuple[tuple[str, str], ...]
    ) -> Response:
        deadline = time.monotonic() + self._timeout_s
        for attempt in range(self._attempts):
            try:
                return method(request, timeout=max(deadline - time.monotonic(), 0.001), metadata=metadata)
            except grpc.RpcError as error:
                pause = random.random() * FIRST_BACKOFF_S * 2**attempt
                last = attempt + 1 == self._attempts or time.monotonic() + pause >= deadline
                if last or error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise self._named(error) from error
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _named(self, error: Any) -> PlotPointeError:
        """The error class that the service's status names."""
        info, violations = _details(error)
        what = error.details() or error.code().name
        if info.reason == InvalidQueryError.reason:
            return InvalidFieldsError(*violations) if violations else InvalidQueryError(what)
        if info.reason == NotReadyError.reason:
            return NotReadyError(what, where=self._target)
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return UnavailableError(f"no answer within {self._timeout_s} s", where=self._target)
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return UnavailableError(what, where=self._target, todo="Is the service running?")
        return PlotPointeError(what, where=self._target)


def _details(error: Any) -> tuple[ErrorInfo, list[FieldViolation]]:
    """The ErrorInfo and the field violations of a rich status; empty where the error has none."""
    raw = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    info, bad = ErrorInfo(), BadRequest()
    for detail in Status.FromString(raw).details:
        detail.Unpack(info) or detail.Unpack(bad)
    return info, [FieldViolation(fault.field, fault.description) for fault in bad.field_violations]
