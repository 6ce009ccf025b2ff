"""Which addresses may be asked for an image: no private network, no odd port, no way around by another spelling."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from yarl import URL

from offline_jobs.image_download.settings import FetchImagesSettings

MAX_URL = 4096
"""Characters; longer ones are refused."""
NOT_PRINTABLE = re.compile(r"[\x00-\x20\x7f\\]")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")
COMPATIBLE = ipaddress.IPv6Network("::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class RefusedAddressError(OSError):
    """An address that is not asked. An OSError, so that the client's own code hands it on from inside a connection."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Policy:
    """What may be asked."""

    ports: frozenset[int]
    allow_hosts: frozenset[str]
    allow_private: bool

    @classmethod
    def of(cls, settings: FetchImagesSettings) -> Policy:
        """The policy that settings describe."""
        hosts = (settings.allow_hosts or "").lower().split(",")
        return cls(
            frozenset(int(port) for port in settings.ports.split(",")),
            frozenset(host.strip().strip("[]") for host in hosts if host.strip()),
            settings.allow_private,
        )

    def check_url(self, text: str) -> URL:
        """The URL of an image that may be asked for, as far as its text says. Raises RefusedAddressError."""
        if len(text) > MAX_URL or NOT_PRINTABLE.search(text):
            raise RefusedAddressError("not a valid URL")
        try:
            url = URL(text)
            host, port = url.host, url.port
        except ValueError as error:
            raise RefusedAddressError("not a valid URL") from error
        if url.scheme not in ("http", "https"):
            raise RefusedAddressError("neither http nor https")
        if not host:
            raise RefusedAddressError("not a valid URL")
        if url.user is not None or url.password is not None:
            raise RefusedAddressError("user name or password in the URL")
        if port not in self.ports:
            raise RefusedAddressError("port not allowed")
        return url.with_fragment(None)

    def check_address(self, host: str, address: str) -> None:
        """Raise RefusedAddressError where `address`, which `host` has, must not be connected to."""
        try:
            parsed: Address = ipaddress.ip_address(address.partition("%")[0])
        except ValueError as error:
            raise RefusedAddressError("not a valid address") from error
        private = self.allow_private or host.lower().rstrip(".") in self.allow_hosts
        for inner in _judged(parsed):
            if inner.is_loopback:
                if private:
                    continue
                raise RefusedAddressError("private address")
            if inner.is_link_local or inner.is_multicast or inner.is_unspecified or inner.is_reserved:
                raise RefusedAddressError("address not allowed")
            if not inner.is_global and not private:
                raise RefusedAddressError("private address")


def is_literal(host: str) -> bool:
    """Whether a host is an address and not a name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _judged(address: Address) -> list[Address]:
    """What counts of an address: an IPv4 address that it is another spelling of, else itself and those it leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in NAT64 or address.ipv4_mapped is not None:
        return [low]
    found: list[Address | None] = [address, address.sixtofour, *(address.teredo or ())]
    if address in NAT64_LOCAL or (address in COMPATIBLE and int(address) > 1):
        found.append(low)
    return [inner for inner in found if inner is not None]
