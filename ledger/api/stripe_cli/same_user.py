"""Whether a request comes from a program of the user who runs this service, on this machine.

Being on the loopback is not enough: other users of the machine are there too, and so is a proxy that lets the
internet in.
"""

from __future__ import annotations

import asyncio
import os
import re
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from fastapi import Request

from ledger.errors import Forbidden

_FORWARDED = {"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"}
_SOCKET_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
# A line: number, the socket's own address, that of its peer, state, queues, timer, retries, user.
_SOCKET = re.compile(r"^ *\d+: (\w+):(\w{4}) (\w+):(\w{4}) \S+ \S+ \S+ \S+ +(\d+)", re.MULTILINE)
_ROOT = 0

_Address = tuple[str, int]


def check_loopback_host(request: Request) -> None:
    """Refuse a request that came by another name than that of the loopback: a page of a foreign site whose
    name leads to this machine (DNS rebinding). Raises Forbidden."""
    host = re.sub(r":\d+$", "", request.headers.get("host", ""))
    if host != "localhost" and not _is_loopback(host.strip("[]")):
        raise Forbidden("This is only for programs on this machine: use http://127.0.0.1 with the port.")
    if not _FORWARDED.isdisjoint(request.headers.keys()):
        raise Forbidden("This is only for programs on this machine, not through a proxy.")


async def check_same_user(request: Request) -> None:
    """As `check_loopback_host`, and refuse other users of this machine but root. Systems other than Linux do
    not tell whose a connection is, and there they are not refused. Raises Forbidden."""
    check_loopback_host(request)
    server = request.scope.get("server")
    if request.client is None or server is None:  # a Unix socket, which no browser opens
        raise Forbidden("Open this page in a browser on this machine.")
    tables = [table for table in _SOCKET_TABLES if table.exists()]
    if not tables:
        return
    client = (request.client.host, request.client.port)
    user = await asyncio.to_thread(_find_user, tables, client, (server[0], server[1]))
    if user not in (_ROOT, os.getuid()):
        raise Forbidden(
            "This page is for the user who runs Ledger. Or use a key: "
            "stripe config --set test_mode_api_key sk_test_..."
        )


def _find_user(tables: list[Path], client: _Address, server: _Address) -> int | None:
    """The id of the user who has opened the connection from `client` to `server`, both on this machine."""
    wanted = (_normalize(client), _normalize(server))
    for table in tables:
        for local, local_port, remote, remote_port, user in _SOCKET.findall(table.read_text()):
            if wanted == ((_decode(local), int(local_port, 16)), (_decode(remote), int(remote_port, 16))):
                return int(user)
    return None


def _normalize(address: _Address) -> _Address:
    return _strip_mapping(address[0]), address[1]


def _decode(digits: str) -> str:
    """The address in a table of the kernel: words of four bytes, each as this machine stores it."""
    words = [bytes.fromhex(digits[start : start + 8])[::-1] for start in range(0, len(digits), 8)]
    packed = b"".join(words)
    return _strip_mapping(str(ip_address(packed)))


def _strip_mapping(host: str) -> str:
    """The address itself of an IPv4 address that an IPv6 socket shows."""
    address = ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
