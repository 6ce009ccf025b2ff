"""One request for an image: its name resolved, that very address checked and connected to, its body bounded.

Every foreign error becomes one of three ends (`Ending`): a body, a redirect, or a reason, final or worth another try. A
reason never holds the URL, which may carry a secret.
"""

from __future__ import annotations

import asyncio
import email.utils
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from offline_jobs.image_download.addresses import Policy, RefusedAddressError, is_literal
from offline_jobs.image_download.settings import FetchImagesSettings
from offline_jobs.image_download.verify import HEAD_BYTES, is_image_head
from service.errors import DataError

REDIRECTS = frozenset((301, 302, 303, 307, 308))
TRY_AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))
BLOCK = 64 << 10

Lookup = Callable[[str], Awaitable[list[str]]]
"""The addresses of a host name. Raises OSError where it has none."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How one request ended; exactly one of `body`, `location` and `reason` is there."""

    body: bytes | None = None
    location: str | None = None
    reason: str | None = None
    again: bool = False
    """The reason may pass: try again."""
    retry_after_s: float | None = None
    """As the host asks."""


async def system_lookup(host: str) -> list[str]:
    """The addresses that the system's resolver gives."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class ImageClient(AbstractResolver):
    """Asks for images. Use as an async context manager; one for a run.

    It is its connections' resolver, so no name is resolved again between the check and the connection (DNS rebinding),
    and the maker of their sockets, so no connection opens to an address that was not checked.
    """

    def __init__(self, settings: FetchImagesSettings, policy: Policy, lookup: Lookup = system_lookup) -> None:
        self._settings, self._policy, self._lookup = settings, policy, lookup
        self._checked: set[str] = set()
        connector = aiohttp.TCPConnector(
            resolver=self,
            socket_factory=self._socket,
            ssl=_tls(settings),
            limit=settings.concurrency,
            limit_per_host=0,
            ttl_dns_cache=60,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": settings.user_agent, "Accept": "image/*", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(
                total=settings.request_timeout_s,
                connect=None,
                sock_connect=settings.connect_timeout_s,
                sock_read=settings.stall_timeout_s,
            ),
        )

    async def __aenter__(self) -> ImageClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Every address of `host`, none of them forbidden; part of aiohttp's resolver interface."""
        addresses = await self._lookup(host)
        for address in addresses:
            self._policy.check_address(host, address)
        self._checked.update(addresses)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held open by the resolver."""

    async def get(self, url: URL) -> Ending:
        """Ask once, follow nothing."""
        host = url.host or ""
        try:
            if is_literal(host):
                self._policy.check_address(host, host)
                self._checked.add(host)
            async with self._session.get(url, allow_redirects=False) as response:
                return await self._answer(response)
        except RefusedAddressError as error:
            return Ending(reason=error.reason)
        except aiohttp.ClientConnectorDNSError as error:
            if isinstance(error.os_error, RefusedAddressError):
                return Ending(reason=error.os_error.reason)
            return Ending(reason="name not found", again=True)
        except (aiohttp.ClientSSLError, ssl.SSLError):
            return Ending(reason="no trusted TLS connection")
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, RefusedAddressError):
                return Ending(reason=error.os_error.reason)
            return Ending(reason="no connection", again=True)
        except TimeoutError:
            return Ending(reason="timeout", again=True)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            return Ending(reason="connection lost", again=True)
        except aiohttp.ClientPayloadError:
            return Ending(reason="body ended early", again=True)
        except aiohttp.InvalidURL:
            return Ending(reason="not a valid URL")
        except (aiohttp.ClientError, ValueError):
            return Ending(reason="not valid HTTP")

    async def _answer(self, response: aiohttp.ClientResponse) -> Ending:
        status = response.status
        if status in REDIRECTS and "Location" in response.headers:
            response.close()
            return Ending(location=response.headers["Location"])
        if status != 200:
            response.close()
            wait = _retry_after(response.headers.get("Retry-After"))
            return Ending(reason=f"HTTP {status}", again=status in TRY_AGAIN, retry_after_s=wait)
        if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            response.close()
            return Ending(reason="compressed body")
        return await self._body(response)

    async def _body(self, response: aiohttp.ClientResponse) -> Ending:
        """The body, given up as soon as it is no image or too large, whatever its headers say."""
        body, looked = bytearray(), False
        async for block in response.content.iter_chunked(BLOCK):
            body += block
            if not looked and len(body) >= HEAD_BYTES:
                if not is_image_head(bytes(body[:HEAD_BYTES])):
                    response.close()
                    return Ending(reason="not an image")
                looked = True
            if len(body) > self._settings.max_bytes:
                response.close()
                return Ending(reason="too many bytes")
        return Ending(body=bytes(body))

    def _socket(self, info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        family, kind, protocol, _, place = info
        if str(place[0]) not in self._checked:
            raise RefusedAddressError("address not checked")
        return socket.socket(family, kind, protocol)


def _tls(settings: FetchImagesSettings) -> ssl.SSLContext:
    """Certificates and names are always verified. Raises DataError where `ca_file` cannot be used."""
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise DataError(
            "no certificates can be read", where=str(settings.ca_file), todo="Give --ca-file a PEM file"
        ) from error


def _retry_after(value: str | None) -> float | None:
    """Seconds from now, from a number or a date; None where there is neither."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value.strip()[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
