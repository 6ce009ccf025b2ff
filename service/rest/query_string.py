"""`user_id=u1&k=20` -> plain values. Strict where frameworks are lenient: bytes that are not UTF-8 are refused."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote

from service.validation.violations import FieldViolation, InvalidFieldsError

MOST = 16
"""Parameters in one query string."""

Kinds = Mapping[str, Callable[[str], object]]
"""Parameter -> what makes a value of its text. Text that is none stays text, and is refused with the others."""

_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)


def whole(text: str) -> int | str:
    """Decimal digits as a number."""
    return int(text) if _WHOLE.fullmatch(text) else text


def number(text: str) -> float | str:
    """Decimal digits, with a point or without, as a number."""
    return float(text) if _NUMBER.fullmatch(text) else text


def flag(text: str) -> bool | str:
    """`true` or `false`."""
    return text == "true" if text in ("true", "false") else text


def parameters(query_string: bytes, kinds: Kinds) -> dict[str, object]:
    """The values by name. InvalidFieldsError names unknown and repeated parameters.

    An unknown parameter is refused and not skipped: a caller who writes `n=5` for `k=5` should hear of it.
    """
    try:
        parts = [part for part in query_string.decode("ascii").split("&") if part]
        if len(parts) > MOST:
            raise InvalidFieldsError(FieldViolation("query", f"the query string has more than {MOST} parameters"))
        pairs = [(_decoded(name), _decoded(text)) for name, _, text in [part.partition("=") for part in parts]]
    except UnicodeDecodeError as error:
        raise InvalidFieldsError(FieldViolation("query", "the query string must be percent-encoded UTF-8")) from error
    values = {name: kinds[name](text) if name in kinds else text for name, text in pairs}
    faults = [FieldViolation(name[:64], _unknown(name[:64], kinds)) for name in values if name not in kinds]
    if len(values) < len(pairs):
        faults.append(FieldViolation("query", "a parameter is given more than once"))
    if faults:
        raise InvalidFieldsError(*faults)
    return values


def _decoded(text: str) -> str:
    """As forms have it: a plus is a blank. Most ids need no decoding, and are not looked at twice."""
    if "+" in text:
        text = text.replace("+", " ")
    return unquote(text, errors="strict") if "%" in text else text


def _unknown(name: str, kinds: Kinds) -> str:
    near = difflib.get_close_matches(name, kinds, n=1)
    known = f"known are {', '.join(kinds)}" if kinds else "there are none here"
    return f"unknown parameter {name!r}; {f'is {near[0]} meant?' if near else known}"
