"""POST to a URL that a user chose, safely: bounded in time and in bytes read, and protected against SSRF.

It follows no redirect, uses no proxy and keeps no cookies. Addresses are checked when the connection is made,
and the checked address is the one connected to, so a DNS name cannot change in between (DNS rebinding).
Every outcome is returned as an Attempt, which never contains the address. What happens to a kept connection
while it is idle is no outcome: the POST is then repeated on a new one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpcore
from httpcore import AnyIOBackend, AsyncConnectionPool, AsyncNetworkBackend, AsyncNetworkStream, Response

from ledger.webhooks.deliveries import Attempt
from ledger.webhooks.schedule.breaker import ASKED_SECONDS_MAX

RESPONSE_BYTES_MAX = 2048
RESPONSE_SECONDS_MAX = 2.0
CONNECT_SECONDS_MAX = 5.0
# Shorter than servers keep idle connections: a request on a connection that the server has just closed is
# lost.
KEEP_ALIVE_SECONDS = 1.0
# Some servers announce with it that they close an idle connection, and it may cross with our next request. A
# client may repeat such a request on another connection (RFC 9110, section 15.5.9).
STATUS_REQUEST_TIMEOUT = 408
# Those with which a receiver may say when to come again (RFC 9110, section 10.2.3; RFC 6585).
STATUSES_WITH_RETRY_AFTER = (429, 503)
# IPv6 addresses that contain an IPv4 address: IPv4-mapped, NAT64, Teredo, 6to4. They lead to that address.
EMBEDDED_IPV4_NETWORKS = tuple(
    map(ipaddress.ip_network, ("::ffff:0:0/96", "64:ff9b::/96", "2001::/32", "2002::/16"))
)
USER_AGENT = b"Stripe/1.0 (+https://docs.stripe.com/webhooks)"

Headers = Sequence[tuple[bytes, bytes]]
SocketOptions = Iterable[
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
]


class PrivateAddressError(Exception):
    """The host name resolves to no public address."""


class _KeptConnectionFailed(Exception):
    """A kept connection had been closed, or what came over it is no response to the request."""


@dataclass(slots=True)
class _Response:
    """As much of the response as has arrived."""

    status: int | None = None
    body: bytes | None = None
    pause_seconds: float = 0.0


class WebhookClient:
    """Posts over connections that it keeps for KEEP_ALIVE_SECONDS.

    allow_private    whether it may connect to private and loopback addresses
    timeout_seconds  the longest time of one attempt, from name resolution to the end of the response

    The caller limits how many attempts run at once.
    """

    def __init__(self, *, allow_private: bool, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        backend, ssl_context = _Backend(allow_private=allow_private), httpcore.default_ssl_context()
        self._kept_pools = _KeptPools(backend, ssl_context)
        self._fresh_pool = AsyncConnectionPool(
            ssl_context, max_connections=None, max_keepalive_connections=0, network_backend=backend
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._kept_pools.close()
        await self._fresh_pool.aclose()

    async def post(self, url: str, body: bytes, own_headers: Headers, *, sent_at: float) -> Attempt:
        """POST the JSON `body` with the headers of every request and `own_headers`. Never raises; `sent_at`
        (unix seconds) is the Attempt's time."""
        started = time.monotonic()
        headers = _build_headers(url, own_headers)
        received = _Response()
        error: str | None = None
        try:
            async with asyncio.timeout(self._timeout_seconds):
                try:
                    async with self._kept_pools.lend(url) as pool:
                        await _send(pool, url, headers, body, received)
                except _KeptConnectionFailed:
                    await _send(self._fresh_pool, url, headers, body, received)
        except Exception as exception:  # any failure is the outcome of this attempt
            if received.status is None:  # otherwise there was a response, which is the outcome
                error = classify_error(exception)
        duration_ms = round((time.monotonic() - started) * 1000)
        return Attempt(sent_at, duration_ms, received.status, received.body, error, received.pause_seconds)


@dataclass(slots=True)
class _KeptPool:
    """The kept connections to one server; how many requests use them, and when the last one began."""

    pool: AsyncConnectionPool
    users: int
    used_at: float


class _KeptPools:
    """Pools of kept connections, one for each server: for each request, a pool looks through all of its
    connections, and with hundreds of them that takes longer than the request. A pool that nobody has used for
    KEEP_ALIVE_SECONDS is closed when one is lent next."""

    def __init__(self, backend: AsyncNetworkBackend, ssl_context: ssl.SSLContext) -> None:
        self._backend = backend
        self._ssl_context = ssl_context
        self._pools: dict[tuple[str, str], _KeptPool] = {}
        self._prune_at = 0.0

    @asynccontextmanager
    async def lend(self, url: str) -> AsyncIterator[AsyncConnectionPool]:
        """The pool of the server that `url` names, which stays open meanwhile."""
        now = time.monotonic()
        server = urlsplit(url)[:2]
        kept = self._pools.get(server)
        if kept is None:
            pool = AsyncConnectionPool(
                self._ssl_context,
                max_connections=None,
                keepalive_expiry=KEEP_ALIVE_SECONDS,
                network_backend=self._backend,
            )
            kept = self._pools[server] = _KeptPool(pool, 0, now)
        kept.users += 1
        kept.used_at = now
        try:
            if now >= self._prune_at:
                await self._prune(now)
            yield kept.pool
        finally:
            kept.users -= 1

    async def close(self) -> None:
        """Close all of them."""
        for kept in self._pools.values():
            await kept.pool.aclose()

    async def _prune(self, now: float) -> None:
        self._prune_at = now + KEEP_ALIVE_SECONDS
        unused = [
            server
            for server, kept in self._pools.items()
            if not kept.users and kept.used_at + KEEP_ALIVE_SECONDS <= now
        ]
        for pool in [self._pools.pop(server).pool for server in unused]:
            await pool.aclose()


async def _send(
    pool: AsyncConnectionPool,
    url: str,
    headers: Headers,
    body: bytes,
    received: _Response,
) -> None:
    """POST once, and put what comes back into `received`. Raises httpcore's errors; _KeptConnectionFailed
    only on a connection that has been used before."""
    connected = False

    async def trace(event: str, _: dict[str, Any]) -> None:
        nonlocal connected
        connected = connected or event == "connection.connect_tcp.started"

    try:
        async with pool.stream(
            "POST", url, headers=headers, content=body, extensions={"trace": trace}
        ) as response:
            stream = response.extensions["network_stream"]
            if not connected and (response.status == STATUS_REQUEST_TIMEOUT or not stream.has_received):
                raise _KeptConnectionFailed
            received.status, received.body = response.status, b""
            if response.status in STATUSES_WITH_RETRY_AFTER:
                received.pause_seconds = parse_retry_after(response.headers)
            received.body = await _read_prefix(response)
    except (httpcore.ProtocolError, httpcore.NetworkError) as error:
        if connected or received.status is not None:
            raise
        raise _KeptConnectionFailed from error


class _Stream(AsyncNetworkStream):
    """A connection that knows whether anything was received since the last time something was sent. If not,
    what is taken for the response came unasked, together with the previous response."""

    def __init__(self, stream: AsyncNetworkStream) -> None:
        self._stream = stream
        self.has_received = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        data = await self._stream.read(max_bytes, timeout)
        self.has_received = True
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self.has_received = False
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncNetworkStream:
        return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(AnyIOBackend):
    """Connects to any address, or to public addresses only."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's interface
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> AsyncNetworkStream:
        if self._allow_private:
            return _Stream(
                await super().connect_tcp(host, port, CONNECT_SECONDS_MAX, local_address, socket_options)
            )
        address_infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [address for *_, (address, *_) in address_infos if is_public_address(str(address))]
        last_error: Exception = PrivateAddressError()
        for address in addresses:
            try:
                return _Stream(
                    await super().connect_tcp(
                        str(address), port, CONNECT_SECONDS_MAX, local_address, socket_options
                    )
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last_error = error
        raise last_error


def is_public_address(address: str) -> bool:
    """Whether an IP address is reachable from everywhere, by the registries of special-purpose addresses
    (RFC 6890)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    embeds_ipv4 = any(ip in network for network in EMBEDDED_IPV4_NETWORKS)
    return ip.is_global and not ip.is_multicast and not embeds_ipv4


def classify_error(exception: BaseException) -> str:
    """Why an attempt got no response: private_address, timeout, tls, dns, refused, protocol or connection."""
    cause: BaseException | None = exception
    while cause is not None:
        match cause:
            case PrivateAddressError():
                return "private_address"
            case TimeoutError() | httpcore.TimeoutException():
                return "timeout"
            case ssl.SSLError():
                return "tls"
            case socket.gaierror():
                return "dns"
            case ConnectionRefusedError():
                return "refused"
        cause = cause.__cause__ or cause.__context__
    return "protocol" if isinstance(exception, httpcore.ProtocolError) else "connection"


def parse_retry_after(headers: Headers) -> float:
    """For how many seconds a response asks by `Retry-After` not to be called: at most ASKED_SECONDS_MAX, and
    0 if it does not say so in a way that is understood. A date is compared with the response's own `Date`, so
    that a wrong clock of the receiver does no harm."""
    values = {name.lower(): value.decode("latin-1").strip() for name, value in headers}
    text = values.get(b"retry-after", "")
    if text.isascii() and text.isdecimal():
        return min(float(text[:10]), ASKED_SECONDS_MAX)
    try:
        until = parsedate_to_datetime(text).timestamp()
        date = values.get(b"date")
        now = parsedate_to_datetime(date).timestamp() if date else time.time()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(until - now, 0.0), ASKED_SECONDS_MAX)


def _build_headers(url: str, own_headers: Headers) -> list[tuple[bytes, bytes]]:
    return [
        (b"Host", urlsplit(url).netloc.encode()),
        (b"User-Agent", USER_AGENT),
        (b"Accept", b"*/*"),
        (b"Content-Type", b"application/json; charset=utf-8"),
        *own_headers,
    ]


async def _read_prefix(response: Response) -> bytes:
    """The first RESPONSE_BYTES_MAX bytes of a response, as far as they arrive within RESPONSE_SECONDS_MAX.
    Only the status counts (contract §5.5)."""
    prefix = bytearray()
    with suppress(TimeoutError):
        async with asyncio.timeout(RESPONSE_SECONDS_MAX):
            async for chunk in response.aiter_stream():
                prefix += chunk
                if len(prefix) >= RESPONSE_BYTES_MAX:
                    break
    return bytes(prefix[:RESPONSE_BYTES_MAX])
