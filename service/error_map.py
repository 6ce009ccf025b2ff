"""One table: error class -> HTTP status, gRPC code, title. Both transports answer from it; a test asks for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from service import errors

GrpcCode = Literal[
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "UNAUTHENTICATED",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "UNIMPLEMENTED",
    "ABORTED",
    "FAILED_PRECONDITION",
    "UNIMPLEMENTED",
    "UNAVAILABLE",
    "INTERNAL",
]
"""Names of `grpc.StatusCode`; names, so that REST does not load gRPC."""

RETRY_AFTER_S = 1
"""Seconds after which a caller may try again where nobody knows better."""


@dataclass(frozen=True, slots=True)
class WireError:
    """How one class of error leaves the process."""

    http_status: int
    grpc_code: GrpcCode
    title: str
    """The same for every occurrence; RFC 9457's `title`."""


ERROR_MAP: dict[type[errors.PlotPointeError], WireError] = {
    errors.PlotPointeError: WireError(500, "INTERNAL", "Internal error"),
    errors.InputError: WireError(400, "INVALID_ARGUMENT", "Invalid input"),
    errors.DataError: WireError(400, "INVALID_ARGUMENT", "Invalid data"),
    errors.InvalidQueryError: WireError(400, "INVALID_ARGUMENT", "Invalid request"),
    errors.InvalidFilterError: WireError(400, "INVALID_ARGUMENT", "Invalid request"),
    errors.RequestTooLargeError: WireError(413, "RESOURCE_EXHAUSTED", "Request too large"),
    errors.UnknownItemError: WireError(404, "NOT_FOUND", "No such item"),
    errors.UnknownTenantError: WireError(404, "NOT_FOUND", "No such tenant"),
    errors.UnauthenticatedError: WireError(401, "UNAUTHENTICATED", "Not authenticated"),
    errors.DeadlineError: WireError(504, "DEADLINE_EXCEEDED", "Deadline exceeded"),
    errors.InvalidImageError: WireError(400, "INVALID_ARGUMENT", "Invalid image"),
    errors.BundleError: WireError(409, "FAILED_PRECONDITION", "Bundle refused"),
    errors.BundleMissingError: WireError(404, "NOT_FOUND", "No such bundle"),
    errors.BundleCorruptError: WireError(409, "FAILED_PRECONDITION", "Bundle corrupt"),
    errors.BundleForeignError: WireError(409, "FAILED_PRECONDITION", "Bundle foreign"),
    errors.StageError: WireError(500, "INTERNAL", "Stage failed"),
    errors.StageBusyError: WireError(409, "ABORTED", "Stage busy"),
    errors.PortBusyError: WireError(500, "INTERNAL", "Port busy"),
    errors.ModelError: WireError(500, "INTERNAL", "Model failed"),
    errors.EncoderUnavailableError: WireError(501, "UNIMPLEMENTED", "No encoder"),
    errors.CatalogFullError: WireError(429, "RESOURCE_EXHAUSTED", "Live catalogue full"),
    errors.CatalogCorruptError: WireError(500, "INTERNAL", "Live catalogue corrupt"),
    errors.UnavailableError: WireError(503, "UNAVAILABLE", "Temporarily unavailable"),
    errors.NotReadyError: WireError(503, "UNAVAILABLE", "Not ready"),
    errors.OverloadedError: WireError(503, "UNAVAILABLE", "Overloaded"),
}


def wire_error(error: errors.PlotPointeError) -> WireError:
    """The mapping of the error's class, or of the nearest class that it derives from."""
    return next(ERROR_MAP[cls] for cls in type(error).__mro__ if cls in ERROR_MAP)


def retry_after_s(error: errors.PlotPointeError) -> float | None:
    """Seconds after which the same request may succeed; None where it would fail again."""
    return error.retry_after_s if isinstance(error, errors.UnavailableError) else None
