"""Error answers after RFC 9457 (`application/problem+json`): every status, never a framework's default body."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.error_map import retry_after_s, wire_error
from service.errors import InvalidQueryError, PlotPointeError, RequestTooLargeError, UnauthenticatedError
from service.rest.answers import errors_body
from service.rest.envelope import exchange_of
from service.validation.violations import FieldViolation, detail_of, violations_of

MEDIA_TYPE = "application/problem+json"


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error of `app`, its routing errors and its bugs included, with a problem body."""
    app.add_exception_handler(PlotPointeError, _on_known_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_refused_body)
    app.add_exception_handler(Exception, _on_bug)


def problem_body(
    request_id: str, status: int, reason: str, title: str, detail: str, violations: Sequence[FieldViolation] = ()
) -> dict[str, Any]:
    """The body of `schemas.ProblemBody`; `errors` names fields, `request_id` finds the request in the log."""
    return {
        "type": f"urn:plotpointe:error:{reason.lower().replace('_', '-')}",
        "title": title,
        "status": status,
        "detail": detail,
        "reason": reason,
        "errors": errors_body(violations),
        "request_id": request_id,
    }


def problem(
    request_id: str,
    status: int,
    reason: str,
    title: str,
    detail: str,
    violations: Sequence[FieldViolation] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An answer with a problem body."""
    body = problem_body(request_id, status, reason, title, detail, violations)
    return Response(orjson.dumps(body), status, dict(headers or {}), MEDIA_TYPE)


def refusal(request_id: str, error: PlotPointeError) -> Response:
    """What the service refuses or fails to do on purpose."""
    wire = wire_error(error)
    detail, violations = detail_of(error), violations_of(error)
    return problem(request_id, wire.http_status, error.reason, wire.title, detail, violations, _headers(error))


def bug(request_id: str) -> Response:
    """What nobody foresaw; the log tells more, and the caller is told no more."""
    detail = "The service failed on this request; the log holds the cause under this request_id"
    return problem(request_id, 500, PlotPointeError.reason, "Internal error", detail)


async def _on_known_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PlotPointeError)
    return refusal(exchange_of(request.scope).request_id, error)


def _headers(error: PlotPointeError) -> dict[str, str]:
    headers = {}
    if (seconds := retry_after_s(error)) is not None:
        headers["retry-after"] = str(math.ceil(seconds))
    if isinstance(error, UnauthenticatedError):
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, RequestTooLargeError):
        headers["connection"] = "close"  # what is left of the body is not read
    return headers


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    detail = f"{request.method} {request.url.path}: {status.description or status.phrase}"
    return problem(
        exchange_of(request.scope).request_id, status, status.name, status.phrase, detail, headers=error.headers
    )


async def _on_refused_body(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    violations = [FieldViolation(".".join(map(str, fault["loc"][1:])), str(fault["msg"])) for fault in error.errors()]
    detail = "; ".join(f"{violation.field}: {violation.message}" for violation in violations)
    return problem(
        exchange_of(request.scope).request_id, 422, InvalidQueryError.reason, "Invalid request", detail, violations
    )


async def _on_bug(request: Request, _: Exception) -> Response:
    return bug(exchange_of(request.scope).request_id)
