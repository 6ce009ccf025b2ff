"""`user_id=u1&k=20` -> `Query`. Strict where frameworks are lenient: bytes that are not UTF-8 are refused."""

from __future__ import annotations

from urllib.parse import parse_qsl

from service.domain import Query
from service.validation import FieldViolation, InvalidFieldsError, validated_query

PARAMETERS = ("user_id", "k")
"""What `/recommend` understands."""


def parse_query(query_string: bytes, request_id: str) -> Query:
    """The query of one request; InvalidFieldsError names each parameter at fault, unknown and repeated ones included.

    An unknown parameter is refused and not skipped: a caller who writes `n=5` for `k=5` should hear of it.
    """
    try:
        pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=16)
    except UnicodeDecodeError as error:
        raise InvalidFieldsError(FieldViolation("query", "the query string must be percent-encoded UTF-8")) from error
    except ValueError as error:
        raise InvalidFieldsError(FieldViolation("query", "the query string has more than 16 parameters")) from error
    values = dict(pairs)
    faults = [
        FieldViolation(name[:64], f"unknown parameter {name[:64]!r}; known are {', '.join(PARAMETERS)}")
        for name in values
        if name not in PARAMETERS
    ]
    if len(values) < len(pairs):
        faults.append(FieldViolation("query", "a parameter is given more than once"))
    if faults:
        raise InvalidFieldsError(*faults)
    return validated_query(values.get("user_id"), values.get("k"), request_id)
