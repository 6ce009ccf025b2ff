"""One value of a JSON or Python-literal record, as an id, a number, a text, a category or a price."""

from __future__ import annotations

import html
import re

from offline_jobs.readers.quarantine import RefusedRowError

TAG = re.compile(r"<[^<>]{1,200}>")
AMOUNT = re.compile(r"\s*(?:from\s+)?[$€£]?\s*(\d[\d,]{0,15}(?:\.\d{1,4})?)(?:\s*-\s*[$€£]?\s*\d[\d,.]{0,20})?\s*")


def as_id(value: object, name: str) -> str | None:
    """A JSON value as an id: text or a whole number. Raises RefusedRowError for anything else."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return _digits(value, name)
    if not isinstance(value, str):
        raise RefusedRowError(f"{name} is neither text nor a whole number")
    if not value.isascii() and not _encodable(value):
        raise RefusedRowError(f"{name} is not valid Unicode")
    return value


def as_number(value: object, name: str) -> float | None:
    """A JSON value as a float, from a number or from text. Raises RefusedRowError for anything else."""
    if value is None or value == "":
        return None
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise RefusedRowError(f"{name} is not a number")


def as_text(value: object) -> str | None:
    """A JSON value as text, as it is, or a list of texts joined by spaces; null for anything else."""
    if isinstance(value, list):
        value = " ".join(part for part in value if isinstance(part, str))
    if not isinstance(value, str):
        return None
    return value if value.isascii() or _encodable(value) else value.encode("utf-8", "replace").decode()


def plain_text(value: object) -> str | None:
    """A text with its HTML entities and tags taken away; null where nothing is left."""
    text = as_text(value)
    if text is not None and ("&" in text or "<" in text):
        text = as_text(html.unescape(TAG.sub(" ", text)))
    return text if text and not text.isspace() else None


def last_name(value: object) -> str | None:
    """The last name of a path of categories, the most special one; of a list of paths, of its first."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]
    if not isinstance(value, list):
        return plain_text(value)
    return next((name for part in reversed(value) if (name := plain_text(part)) is not None), None)


def as_price(value: object) -> tuple[float | None, bool]:
    """(price, whether it could be read): of a number, or of a text such as `$1,234.56`, `from 12.99` or `$5 - $9`.

    Of two prices the first counts. Shops put scraps of web pages where a price should be; those give (None, False),
    and the item stays. A number comes back as it is, finite or not: validation judges it.
    """
    if value is None or (isinstance(value, str) and (not value or value.isspace())):
        return None, True
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return as_number(value, "price"), True
    found = AMOUNT.fullmatch(value) if isinstance(value, str) else None
    return (float(found[1].replace(",", "")), True) if found else (None, False)


def first_text(*values: object) -> str | None:
    """The first non-blank text among the values; a list counts by its first text."""
    for value in values:
        first = next((part for part in value if isinstance(part, str)), None) if isinstance(value, list) else value
        text = as_text(first)
        if text and not text.isspace():
            return text
    return None


def _digits(value: int, name: str) -> str:
    try:
        return str(value)
    except ValueError as error:  # more digits than Python turns into text
        raise RefusedRowError(f"{name} is longer than 256 bytes") from error


def _encodable(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
