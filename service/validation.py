"""What both transports ask of a request before it becomes a `Query`: one place, so that they refuse the same things."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

from service.domain import MAX_ID_BYTES, MAX_K, Query
from service.errors import InvalidQueryError, PlotPointeError

DEFAULT_K = 20
"""Items in an answer whose request does not say how many."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request and what is wrong with it."""

    field: str
    message: str


class InvalidFieldsError(InvalidQueryError):
    """A request breaks the contract in one field or several; all of them are named at once."""

    def __init__(self, *violations: FieldViolation) -> None:
        super().__init__(
            "; ".join(violation.message for violation in violations),
            where=", ".join(violation.field for violation in violations),
        )
        self.violations = violations


def validated_query(user_id: str | None, k: int | str | None, request_id: str) -> Query:
    """The request as a `Query`; InvalidFieldsError names every field at fault. A textual `k` is decimal digits."""
    size = DEFAULT_K if k is None else _whole_number(k)
    violations = [
        FieldViolation(field, message)
        for field, message in (("user_id", _user_id_fault(user_id)), ("k", _k_fault(size)))
        if message
    ]
    if violations:
        raise InvalidFieldsError(*violations)
    assert user_id is not None
    assert size is not None
    return Query(user_id=user_id, k=size, request_id=request_id)


def violations_of(error: PlotPointeError) -> tuple[FieldViolation, ...]:
    """The fields at fault, as far as the error knows them."""
    if isinstance(error, InvalidFieldsError):
        return error.violations
    if isinstance(error, InvalidQueryError) and error.where:
        return (FieldViolation(error.where, error.what),)
    return ()


def detail_of(error: PlotPointeError) -> str:
    """The error in words; without the place where the violations name it already."""
    return error.what if violations_of(error) else str(error)


def accepted_request_id(offered: str | None) -> str:
    """The caller's request id where it is short and safe to log and to send back, else a new one."""
    if offered is not None and _REQUEST_ID.fullmatch(offered):
        return offered
    return uuid.uuid4().hex


def _whole_number(k: int | str) -> int | None:
    if isinstance(k, int):
        return k
    return int(k) if _WHOLE_NUMBER.fullmatch(k) else None


def _k_fault(k: int | None) -> str:
    if k is None or not 1 <= k <= MAX_K:
        return f"k must be a whole number from 1 to {MAX_K}"
    return ""


def _user_id_fault(user_id: str | None) -> str:
    if not user_id:
        return "user_id must be given and not be empty"
    try:
        size = len(user_id.encode())
    except UnicodeEncodeError:
        return "user_id must be valid Unicode (it holds half of a surrogate pair)"
    if size > MAX_ID_BYTES:
        return f"user_id must not be longer than {MAX_ID_BYTES} bytes of UTF-8 (it has {size})"
    return ""
