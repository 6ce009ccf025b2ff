"""Every setting of the service. This module is the only reader of the environment.

A variable is `PLOTPOINTE_` and the field's name in capitals, for example `PLOTPOINTE_REDIS_URL`.
"""

from __future__ import annotations

import difflib
import logging
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.domain import MAX_K
from service.errors import InputError

PREFIX = "PLOTPOINTE_"

OTHER_PARTS = frozenset({"PLOTPOINTE_WEIGHTS_DIR", "PLOTPOINTE_REAL_DATA"})
"""Variables of the offline jobs and the tests: not the service's, and no typing errors either."""


class Settings(BaseSettings):
    """How one process of the service runs."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True, env_ignore_empty=True
    )

    bundles: Path = Path("var/bundles")
    """Root folder of the bundles: one folder a version, and CURRENT, which names the active one."""
    host: str = "127.0.0.1"
    """Address that REST and gRPC listen on; 0.0.0.0 for every interface."""
    rest_port: int = Field(default=8000, ge=0, le=65_535)
    """TCP port of REST; 0 lets the system choose."""
    grpc_port: int = Field(default=50_051, ge=0, le=65_535)
    """TCP port of gRPC; 0 lets the system choose."""
    grpc_reflection: bool = True
    """Whether gRPC describes its own services to clients such as grpcurl."""
    redis_url: SecretStr | None = None
    """Shared second cache tier, for example redis://:password@host:6379/0; without it the cache is in-process only."""
    redis_timeout_ms: int = Field(default=50, ge=1, le=10_000)
    """Longest wait for one Redis command, in milliseconds; after it the answer is computed without Redis."""
    cache_ttl_seconds: float = Field(default=60.0, gt=0, le=86_400)
    """How long an answer may be repeated, in seconds, in both cache tiers."""
    cache_max_entries: int = Field(default=10_000, ge=1)
    """Most answers that the in-process cache keeps; the least recently used go first."""
    num_candidates: int | None = Field(default=None, ge=1, le=10 * MAX_K)
    """Items retrieved for the re-ranker; without it, as many as the bundle was evaluated with."""
    events_dir: Path = Path("var/events")
    """Folder of the event log: one line for every answer given."""
    drain_seconds: float = Field(default=10.0, ge=0, le=600)
    """Longest wait for requests in flight after SIGTERM, in seconds."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe message that is logged."""

    @classmethod
    def load(cls, **flags: Any) -> Settings:
        """Settings from `flags` (those that are not None), then the environment, then the defaults.

        Raises InputError naming every bad variable or flag. A PLOTPOINTE_ variable that no setting has is logged as
        a warning and not refused: Kubernetes itself sets PLOTPOINTE_PORT where a Service has the name plotpointe.
        """
        for warning in unknown_variables(os.environ):
            logging.getLogger(__name__).warning(warning)
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            faults = [f"{_source(fault['loc'], given)}: {fault['msg']}" for fault in error.errors(include_input=False)]
            raise InputError(
                "; ".join(faults), where="settings", todo="Correct or unset them: docs/SETTINGS.md lists every one"
            ) from None  # the cause would print the values, and one of them is a password


def unknown_variables(environ: dict[str, str] | os._Environ[str]) -> list[str]:
    """One sentence for each PLOTPOINTE_ variable that no setting has, with the nearest name where there is one."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | OTHER_PARTS
    sentences = []
    for name in sorted(environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            sentences.append(
                f"no setting is named {name}; it has no effect" + (f" (is {near[0]} meant?)" if near else "")
            )
    return sentences


def _source(location: tuple[int | str, ...], flags: dict[str, Any]) -> str:
    """The variable or flag that a validation fault speaks of."""
    name = str(location[0])
    return f"--{name.replace('_', '-')}" if name in flags else PREFIX + name.upper()
