"""How images are fetched: limits, politeness, patience, and whom to trust."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

LIMITS = ("max_bytes", "max_pixels", "max_redirects", "ports", "allow_hosts", "allow_private", "ca_file")
"""Settings that decide what is refused: where one of them changes, what was refused is asked for again."""


class FetchImagesSettings(BaseModel):
    """How images are fetched."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    concurrency: int = Field(default=64, ge=1, le=1024)
    """Requests under way at once, over all hosts."""
    concurrency_per_host: int = Field(default=8, ge=1, le=1024)
    """Requests under way at once to one host."""
    requests_per_second: float = Field(default=50.0, ge=0)
    """Most requests a second to one host; 0 sets no limit."""
    attempts: int = Field(default=4, ge=1, le=20)
    """Tries for an image where the trouble may pass: 408, 429, 5xx, timeouts, lost connections, names not found."""
    backoff_s: float = Field(default=0.5, ge=0, le=60)
    """Wait before the second try, in seconds; doubled before each further one, times a random 0.5 to 1.5."""
    max_wait_s: float = Field(default=120.0, gt=0)
    """Longest wait before a try, in seconds, also where Retry-After asks for more."""
    connect_timeout_s: float = Field(default=10.0, gt=0)
    """Seconds for the name, the connection and TLS."""
    stall_timeout_s: float = Field(default=15.0, gt=0)
    """Seconds without a byte after which a request is given up."""
    request_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds for one request altogether, however its bytes drip."""
    total_timeout_s: float | None = Field(default=None, gt=0)
    """Seconds for the whole run; what is not there by then is noted as failed. Left out, there is no limit."""
    max_bytes: int = Field(default=10 << 20, ge=1024)
    """Largest image in bytes, counted as they arrive; at most `concurrency` times so much memory is used."""
    max_pixels: int = Field(default=40_000_000, ge=1)
    """Largest image in pixels (width x height), read from its header before anything is decoded."""
    max_redirects: int = Field(default=5, ge=0, le=20)
    """Redirects followed for an image; each address is checked like the first."""
    ports: str = Field(default="80,443", pattern=r"^\d{1,5}(,\d{1,5})*$")
    """TCP ports that may be asked, with commas between."""
    allow_hosts: str | None = None
    """Host names or addresses, with commas between, that may lie in a private network: a shop's own image server."""
    allow_private: bool = False
    """Let every host lie in a private network or on this machine. Link-local addresses stay refused."""
    ca_file: Path | None = None
    """PEM file with certificates to trust for https instead of the system's."""
    user_agent: str = Field(default="PlotPointe-images/0.1", pattern=r"^[\x20-\x7e]{1,200}$")
    """What the hosts are told of who asks."""
    retry_failed: bool = False
    """Ask again for what a finished run noted as failed."""

    def limits(self) -> dict[str, object]:
        """The settings that decide what is refused, as JSON values."""
        return {name: value for name, value in self.model_dump(mode="json").items() if name in LIMITS}
