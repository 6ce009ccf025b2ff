"""A picture in a request: bytes where the wire has them (gRPC), base64 where it has text alone (JSON)."""

from __future__ import annotations

import base64
import binascii

from service.validation.violations import Faults

MAX_IMAGE_BYTES = 1 << 20
"""Largest picture; whether it is one is found out where it is decoded."""


def picture(value: object, path: str, faults: Faults) -> bytes:
    """The picture's bytes, not looked at."""
    data = value if isinstance(value, bytes) else _decoded(value, path, faults)
    if len(data) > MAX_IMAGE_BYTES:
        faults.add(path, f"must not be larger than {MAX_IMAGE_BYTES} bytes (it has {len(data)})")
    return data


def _decoded(value: object, path: str, faults: Faults) -> bytes:
    if not isinstance(value, str):
        faults.add(path, "must be text: the picture's bytes in base64")
        return b""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        faults.add(path, "must be the picture's bytes in base64 (RFC 4648, with padding)")
        return b""
