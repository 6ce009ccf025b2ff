"""Errors as `google.rpc.Status`: an ErrorInfo with the REST body's `reason`, field violations, when to retry."""

from __future__ import annotations

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from service.error_map import retry_after_s, wire_error
from service.errors import PlotPointeError
from service.validation.violations import detail_of, violations_of

DOMAIN = "plotpointe.v1"
"""Domain of every ErrorInfo: who gave the reason its meaning."""
DETAILS_KEY = "grpc-status-details-bin"
"""Trailing metadata that carries the serialised Status, by gRPC's convention."""


def status_of(error: PlotPointeError, request_id: str) -> tuple[grpc.StatusCode, Status]:
    """The code and the rich status of an error that the service raised on purpose."""
    wire = wire_error(error)
    details: list[Message] = []
    if violations := violations_of(error):
        fields = [BadRequest.FieldViolation(field=fault.field, description=fault.message) for fault in violations]
        details.append(BadRequest(field_violations=fields))
    if (seconds := retry_after_s(error)) is not None:
        details.append(RetryInfo(retry_delay=Duration(nanos=round(seconds % 1 * 1e9), seconds=int(seconds))))
    code = grpc.StatusCode[wire.grpc_code]
    return code, rich_status(code, error.reason, detail_of(error), request_id, details)


def rich_status(
    code: grpc.StatusCode, reason: str, message: str, request_id: str, details: list[Message] | None = None
) -> Status:
    """A Status with an ErrorInfo, a RequestInfo and any further details."""
    status = Status(code=code.value[0], message=message)
    parts = [ErrorInfo(reason=reason, domain=DOMAIN), RequestInfo(request_id=request_id), *(details or [])]
    for part in parts:
        status.details.add().Pack(part)
    return status
