"""How the client calls: one deadline over all attempts, retries of what the service could not take, errors by name."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from service import errors
from service.validation.violations import FieldViolation, InvalidFieldsError

FIRST_BACKOFF_S = 0.025
"""Longest wait before the first retry, in seconds; doubles with each further one. The wait is a random part of it."""
KNOWN_REASONS: dict[str, type[errors.PlotPointeError]] = {
    cls.reason: cls
    for cls in (
        errors.InvalidQueryError,
        errors.InvalidImageError,
        errors.RequestTooLargeError,
        errors.CatalogFullError,
        errors.UnknownItemError,
        errors.BundleMissingError,
        errors.BundleCorruptError,
        errors.BundleForeignError,
        errors.UnknownTenantError,
        errors.UnauthenticatedError,
        errors.DeadlineError,
        errors.EncoderUnavailableError,
        errors.UnavailableError,
        errors.NotReadyError,
        errors.OverloadedError,
    )
}
"""`ErrorInfo.reason` -> the error that is raised for it. Others, and those of a newer server, are PlotPointeError."""

Response = TypeVar("Response", bound=Message)


class Caller:
    """Calls methods of one service, for all threads of a process."""

    def __init__(self, target: str, timeout_s: float, attempts: int, metadata: tuple[tuple[str, str], ...]) -> None:
        """`metadata` goes with every call; `target` is named in errors."""
        self._target = target
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._metadata = metadata

    def call(
        self,
        method: Callable[..., Any],
        kind: Callable[..., Message],
        answer: type[Response],
        fields: dict[str, Any],
        request_id: str,
    ) -> Response:
        """The `answer` of `method` to a request of `kind` with `fields`. Raises as the client's methods do."""
        try:
            request = kind(**fields)
        except (ValueError, UnicodeEncodeError) as error:  # half a surrogate pair, or a k beyond 32 bits
            raise errors.InvalidQueryError(f"the request cannot be sent: {error}") from error
        named = (("x-request-id", request_id),) if request_id else ()
        response = self._tried(method, request, (*self._metadata, *named))
        assert isinstance(response, answer)
        return response

    def _tried(self, method: Callable[..., object], request: Message, metadata: tuple[tuple[str, str], ...]) -> object:
        deadline = time.monotonic() + self._timeout_s
        for attempt in range(self._attempts):
            try:
                return method(request, timeout=max(deadline - time.monotonic(), 0.001), metadata=metadata)
            except grpc.RpcError as error:
                pause = max(_retry_delay_s(error), random.random() * FIRST_BACKOFF_S * 2**attempt)
                last = attempt + 1 == self._attempts or time.monotonic() + pause >= deadline
                if last or error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise self._named(error) from error
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _named(self, error: Any) -> errors.PlotPointeError:
        """The error class that the service's status names."""
        info, bad, _ = _details(error)
        what = error.details() or error.code().name
        if bad.field_violations and info.reason == errors.InvalidQueryError.reason:
            return InvalidFieldsError(
                *(FieldViolation(fault.field, fault.description) for fault in bad.field_violations)
            )
        if info.reason in KNOWN_REASONS:
            return KNOWN_REASONS[info.reason](what, where=self._target)
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return errors.UnavailableError(f"no answer within {self._timeout_s} s", where=self._target)
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return errors.UnavailableError(what, where=self._target, todo="Is the service running?")
        return errors.PlotPointeError(what, where=self._target)


def _retry_delay_s(error: Any) -> float:
    """Seconds that the service asks to be left alone for; 0 where it does not."""
    delay = _details(error)[2].retry_delay
    return float(delay.seconds + delay.nanos / 1e9)


def _details(error: Any) -> tuple[ErrorInfo, BadRequest, RetryInfo]:
    """The parts of a rich status; those that the error does not have are empty."""
    raw = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    parts = (ErrorInfo(), BadRequest(), RetryInfo())
    for detail in Status.FromString(raw).details:
        for part in parts:
            detail.Unpack(part)
    return parts
