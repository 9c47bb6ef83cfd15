"""What a connection keeps to, whoever answers on it: framing, order, flow, and its end (RFC 9112).

Requests are written byte by byte here, because a client library would repair them.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.api.service import FORM, Account, Caller, Service, ok

PATHS = ["/v1/customers", "/internal/v1/audit/objects/x"]
"""One path that is answered without ASGI and one that is not: a connection behaves alike with both."""


class Reply(NamedTuple):
    """A response as it was sent."""

    status: int
    head: str
    body: bytes


class Connection:
    """A connection to the service."""

    def __init__(self, service: Service) -> None:
        self.socket = socket.create_connection(("127.0.0.1", service.port), timeout=20)
        self._received = b""

    def send(self, account: Account, method: str, path: str, *headers: str, version: str = "1.1") -> None:
        """Send the head of a request."""
        lines = [
            f"{method} {path} HTTP/{version}", "Host: x", f"Authorization: Bearer {account.secret}",
            f"Content-Type: {FORM}", *headers, "", "",
        ]  # fmt: skip
        self.socket.sendall("\r\n".join(lines).encode())

    def read(self, *, with_body: bool = True) -> Reply:
        """The next response."""
        head, _, rest = self._read_until(b"\r\n\r\n")
        length = int(re.findall(r"content-length: (\d+)", head.decode())[0]) if with_body else 0
        while len(rest) < length:
            rest += self._receive()
        self._received = rest[length:]
        return Reply(int(head.split()[1]), head.decode(), rest[:length])

    def is_closed(self) -> bool:
        """Whether the service closes the connection without another byte."""
        return self._received == b"" and self.socket.recv(1) == b""

    def read_interim(self) -> bytes:
        """A response without a body that announces another one."""
        head, _, self._received = self._read_until(b"\r\n\r\n")
        return head

    def _read_until(self, end: bytes) -> tuple[bytes, bytes, bytes]:
        while end not in self._received:
            self._received += self._receive()
        return self._received.partition(end)

    def _receive(self) -> bytes:
        data = self.socket.recv(65_536)
        assert data, f"closed after {self._received!r}"
        return data


@pytest.fixture
def connection(service: Service) -> Iterator[Connection]:
    """A new connection."""
    connection = Connection(service)
    with connection.socket:
        yield connection


@pytest.mark.parametrize("path", PATHS)
def test_a_connection_stays_open_unless_the_client_ends_it(
    connection: Connection, account: Account, path: str
) -> None:
    for _ in range(3):
        connection.send(account, "GET", path)
        assert "connection: close" not in connection.read().head
    connection.send(account, "GET", path, "Connection: close")
    assert "\r\nconnection: close" in connection.read().head
    assert connection.is_closed()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [[], ["Connection: keep-alive"]])
def test_an_old_client_gets_one_response_and_the_end(
    connection: Connection, account: Account, path: str, headers: list[str]
) -> None:
    connection.send(account, "GET", path, *headers, version="1.0")
    reply = connection.read()
    assert reply.head.startswith("HTTP/1.1 ")
    assert "\r\nconnection: close" in reply.head
    assert connection.is_closed()


@pytest.mark.parametrize("path", PATHS)
def test_head_has_the_headers_of_a_response_and_no_body(
    connection: Connection, account: Account, path: str
) -> None:
    connection.send(account, "HEAD", path)
    reply = connection.read(with_body=False)
    assert reply.status in (403, 404, 405)
    assert int(re.findall(r"content-length: (\d+)", reply.head)[0]) > 0
    connection.send(account, "GET", "/v1/customers")
    assert connection.read().status == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"])
def test_head_is_answered_where_get_is(connection: Connection, account: Account, path: str) -> None:
    """Some load balancers and uptime checks send it."""
    connection.send(account, "HEAD", path)
    reply = connection.read(with_body=False)
    assert reply.status == 200
    assert int(re.findall(r"content-length: (\d+)", reply.head)[0]) > 0
    connection.send(account, "GET", path)
    assert connection.read().status == 200


def test_pipelined_requests_of_both_kinds_are_answered_in_order(
    connection: Connection, account: Account, raw: Caller
) -> None:
    """Also when the later ones need less time."""
    raw.customer(name="x")
    for number in range(10):
        connection.send(account, "POST", "/v1/customers", "Content-Length: 6")
        connection.socket.sendall(f"name={number}".encode())
        for path in ("/v1/customers?limit=1", "/healthz", "/v1/nothing"):
            connection.send(account, "GET", path)
    for number in range(10):
        replies = [connection.read() for _ in range(4)]
        assert [reply.status for reply in replies] == [200, 200, 200, 404]
        assert f'"name":"{number}"'.encode() in replies[0].body
        assert f'"name":"{number}"'.encode() in replies[1].body
        assert replies[2].body.startswith(b'{"status":"ok"')


def test_a_body_is_invited_only_if_it_will_be_read(
    connection: Connection, account: Account, raw: Caller
) -> None:
    connection.send(account, "POST", "/v1/customers", "Content-Length: 6", "Expect: 100-continue")
    assert connection.read_interim() == b"HTTP/1.1 100 Continue"
    connection.socket.sendall(b"name=x")
    assert connection.read().status == 200
    connection.send(account, "POST", "/v1/nothing", "Content-Length: 6", "Expect: 100-continue")
    assert connection.read().status == 404
    assert [customer["name"] for customer in ok(raw.get("/v1/customers"))["data"]] == ["x"]


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_body_may_arrive_in_pieces(
    connection: Connection, account: Account, raw: Caller, pieces: int
) -> None:
    body = b"name=" + b"x" * 4000
    connection.send(account, "POST", "/v1/customers", f"Content-Length: {len(body)}")
    size = -(-len(body) // pieces)
    for start in range(0, len(body), size):
        time.sleep(0.02)
        connection.socket.sendall(body[start : start + size])
    assert connection.read().status == 200
    connection.send(account, "POST", "/v1/customers", "Transfer-Encoding: chunked")
    for part in (b"3\r\nnam\r\n", b"2;extension\r\ne=\r\n1\r\n", b"y\r\n0\r\n", b"\r\n"):
        time.sleep(0.02)
        connection.socket.sendall(part)
    assert connection.read().status == 200
    assert len(ok(raw.get("/v1/customers"))["data"]) == 2


def test_a_client_that_leaves_within_the_body_changes_nothing(
    connection: Connection, service: Service, account: Account, raw: Caller
) -> None:
    connection.send(account, "POST", "/v1/customers", "Content-Length: 6")
    connection.socket.sendall(b"name")
    time.sleep(0.1)
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.socket.close()
    assert raw.events() == []
    assert raw.customer(name="x")["name"] == "x"


def test_a_client_that_is_slow_to_read_gets_every_byte(
    connection: Connection, account: Account, raw: Caller
) -> None:
    """Several times what the sockets and the server's own buffer hold; meanwhile others are served."""
    made = raw.customer(name="x" * 200, **{f"metadata[{number}]": "y" * 500 for number in range(50)})
    path = f"/v1/customers/{made['id']}"
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 131_072)
    sent = 250
    for _ in range(sent):
        connection.send(account, "GET", path)
    time.sleep(0.3)
    assert raw.get(path).status_code == 200
    bodies = {connection.read().body for _ in range(sent)}
    assert bodies == {raw.get(path).content}


def test_bytes_of_a_header_cannot_begin_another_one(connection: Connection, account: Account) -> None:
    """A response repeats some headers of the request."""
    connection.send(account, "POST", "/v1/customers", "Idempotency-Key: a\tb\xe9", "Content-Length: 0")
    assert connection.read().status == 200
    for value in ("a\rSet-Cookie: b=c", "a\0b", "a\n b"):
        with socket.create_connection(connection.socket.getpeername(), timeout=20) as other:
            head = f"POST /v1/customers HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {value}\r\n"
            other.sendall(
                f"{head}Authorization: Bearer {account.secret}\r\nContent-Length: 0\r\n\r\n".encode()
            )
            assert other.recv(65_536).startswith(b"HTTP/1.1 400 ")
