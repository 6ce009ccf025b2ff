"""What stands around a request and not in it: its id, its tenant, the key of an admin."""

from __future__ import annotations

import random
import re

from service.validation.violations import FieldViolation, InvalidFieldsError

REQUEST_ID = "x-request-id"
TENANT = "x-plotpointe-tenant"
AUTHORIZATION = "authorization"
"""Names of the HTTP headers, which are the metadata keys of gRPC too."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_BEARER = re.compile(r"bearer +([\x21-\x7e]{1,512})", re.IGNORECASE)


def accepted_request_id(offered: str | None) -> str:
    """The caller's request id where it is short and safe to log and to send back, else a new one."""
    if offered is not None and _REQUEST_ID.fullmatch(offered):
        return offered
    return f"{random.getrandbits(128):032x}"  # a name and no secret: the system's randomness would cost a call


def accepted_tenant(offered: str | None) -> str:
    """The tenant's name; empty where none is named. InvalidFieldsError where it is none that a tenant could have."""
    if not offered:
        return ""
    if not _TENANT.fullmatch(offered):
        message = f"{TENANT} must be a name of at most 63 of a-z, 0-9 and -, not beginning with -"
        raise InvalidFieldsError(FieldViolation(TENANT, message))
    return offered


def admin_key(authorization: str | None) -> str:
    """The key of `Bearer <key>`; empty where there is none."""
    match = _BEARER.fullmatch(authorization) if authorization else None
    return match[1] if match else ""
