"""Every setting of the service. This module is the only reader of the environment.

A variable is `PLOTPOINTE_` and the field's name in capitals, for example `PLOTPOINTE_REDIS_URL`.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.domain import MAX_K
from service.errors import InputError

PREFIX = "PLOTPOINTE_"

Tenant = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]

OTHER_PARTS = frozenset({"PLOTPOINTE_WEIGHTS_DIR", "PLOTPOINTE_REAL_DATA"})
"""Variables of the offline jobs and the tests: not the service's, and no typing errors either."""


class Settings(BaseSettings):
    """How one process of the service runs."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True, env_ignore_empty=True
    )

    bundles: Path = Path("var/bundles")
    """Root folder of the bundles: one folder a version, and CURRENT, which names the active one."""
    tenants: Annotated[tuple[Tenant, ...], NoDecode] = ()
    """Names of the shops served, with commas between; each has its own folder of bundles. Without it, one shop."""
    host: str = "127.0.0.1"
    """Address that REST and gRPC listen on; 0.0.0.0 for every interface."""
    rest_port: int = Field(default=8000, ge=0, le=65_535)
    """TCP port of REST; 0 lets the system choose."""
    grpc_port: int = Field(default=50_051, ge=0, le=65_535)
    """TCP port of gRPC; 0 lets the system choose."""
    grpc_reflection: bool = True
    """Whether gRPC describes its own services to clients such as grpcurl."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes that answer on the same two ports; as many as there are cores is a good number."""
    admin_key: SecretStr | None = None
    """Key of the admin calls: at least 16 visible ASCII characters, no spaces; without it there are no such calls."""
    reload_seconds: float = Field(default=1.0, ge=0.05, le=3600)
    """How often the folder of bundles is looked at for a new version, a canary or a shadow, in seconds."""
    redis_url: SecretStr | None = None
    """Redis that several hosts share, for example redis://:password@host:6379/0; without it each keeps to itself."""
    redis_timeout_ms: int = Field(default=50, ge=1, le=10_000)
    """Longest wait for one Redis command, in milliseconds; after it the answer is computed without Redis."""
    cache_ttl_seconds: float = Field(default=60.0, gt=0, le=86_400)
    """How long an answer is fresh, in seconds, in both cache tiers."""
    cache_stale_seconds: float = Field(default=30.0, ge=0, le=86_400)
    """How long after that it may still be repeated while it is computed anew, in seconds."""
    cache_max_entries: int = Field(default=10_000, ge=1)
    """Most answers that the in-process cache keeps, of all tenants; the least recently used go first."""
    cache_max_mib: int = Field(default=64, ge=1)
    """Most memory of the in-process cache, of all tenants, in MiB."""
    num_candidates: int | None = Field(default=None, ge=1, le=10 * MAX_K)
    """Items retrieved for the re-ranker; without it, as many as the bundle was evaluated with."""
    default_deadline_ms: int | None = Field(default=None, ge=1)
    """Deadline of a request that brings none, in milliseconds; without it such a request has none."""
    rerank_budget_ms: float | None = Field(default=None, gt=0)
    """Longest mean time of the re-ranker before it is left out, in milliseconds; without it there is no such limit."""
    max_queue_ms: float = Field(default=250.0, gt=0)
    """Longest wait for a turn to be computed, in milliseconds; what would wait longer is refused at once."""
    state_dir: Path = Path("var/state")
    """Folder of the live catalogue where there is no Redis: one file a tenant, shared by the workers."""
    state_ttl_days: float = Field(default=30.0, gt=0, le=3650)
    """How long what a shopper did is remembered after the last event, in days."""
    state_max_shoppers: int = Field(default=100_000, ge=1)
    """Most shoppers whose recent events a process remembers, of all tenants; those longest unseen go first."""
    state_max_mib: int = Field(default=128, ge=1)
    """Most memory that those recent events take in a process, of all tenants, in MiB."""
    live_catalog_max_items: int = Field(default=50_000, ge=1)
    """Most items of a tenant that may differ from its bundle: new, changed and deleted ones."""
    live_catalog_max_mib: int = Field(default=512, ge=1)
    """Most bytes of the pictures that the live catalogue of a tenant keeps, in MiB."""
    recall_sample_share: float = Field(default=0.001, ge=0, le=1)
    """Share of the requests whose retrieval is compared with an exact search afterwards."""
    events_dir: Path = Path("var/events")
    """Folder of the event log: a line for every answer and feedback event; one folder a tenant where they are named."""
    drain_seconds: float = Field(default=10.0, ge=0, le=600)
    """Longest wait for requests in flight after SIGTERM, in seconds."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe message that is logged."""

    @field_validator("admin_key")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[!-~]{16,}", value.get_secret_value()):
            raise ValueError("a key has at least 16 visible ASCII characters and no spaces")
        return value

    @field_validator("tenants", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    @field_validator("tenants")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a tenant is named twice")
        return value

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
