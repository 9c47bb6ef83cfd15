"""The receiver of the webhook benchmarks: answers 200 with constant bytes and notes what arrived, and when.

It parses only what it needs, so that it is not what is measured. It is a process of its own, `python -m
benchmarks.webhook_receiver PORT COUNT`, and listens on COUNT addresses from 127.0.0.1 on, which are COUNT
servers to a client. A POST to HANGING_PATH is never answered.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import time
from typing import Any, NamedTuple, cast

import uvloop

from benchmarks.service import THIS_BUILD, await_start, find_free_port, is_listening, stop_process

HANGING_PATH, COUNT_PATH, REPORT_PATH = "/hang", "/count", "/report"
EVENT_ID_BYTES = 64
_ACCEPTED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_ID = b'"id":"'


class Report(NamedTuple):
    """What has arrived: the id of each Event with the time (unix seconds), and the bytes of the last one."""

    arrivals: list[tuple[str, float]]
    last_body: str


class Receiver(NamedTuple):
    """A receiver that runs."""

    port: int

    def build_url(self, number: int) -> str:
        """The address of the server `number`, from 0 on."""
        return f"http://127.0.0.{number + 1}:{self.port}/webhooks"

    @property
    def hanging_url(self) -> str:
        """An address that never answers."""
        return f"http://127.0.0.1:{self.port}{HANGING_PATH}"

    def count_received(self) -> int:
        """How many deliveries it has answered since the last report."""
        return int(self._get(COUNT_PATH))

    def take_report(self) -> Report:
        """What has arrived since the last report."""
        answer = self._get(REPORT_PATH)
        return Report([(event, at) for event, at in answer["arrivals"]], answer["last_body"])

    def _get(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


@contextmanager
def run_receiver(servers: int) -> Iterator[Receiver]:
    """Start a receiver on this many addresses. Stop it afterwards."""
    port = find_free_port()
    command = [sys.executable, "-m", "benchmarks.webhook_receiver", str(port), str(servers)]
    process = subprocess.Popen(command, cwd=THIS_BUILD.root, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        await_start(process, "the webhook receiver", lambda: is_listening(port))
        yield Receiver(port)
    finally:
        stop_process(process)


class _Received:
    """What all connections have received since the last report."""

    def __init__(self) -> None:
        self.arrivals: list[tuple[bytes, float]] = []
        self.last_body = b""

    def answer(self, path: str) -> bytes:
        """The response to a GET of the benchmark itself."""
        document: object = len(self.arrivals)
        if path == REPORT_PATH:
            arrivals = [(event.decode(), at) for event, at in self.arrivals]
            document = Report(arrivals, self.last_body.decode())._asdict()
            self.arrivals = []
        content = json.dumps(document).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)


class _Connection(asyncio.Protocol):
    def __init__(self, received: _Received) -> None:
        self._received = received
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end >= 0:
            head = buffer[:end].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(buffer) >= end + 4 + length:
                self._receive(head, buffer[end + 4 :])
                buffer = b""
        self._buffer = buffer

    def _receive(self, head: bytes, body: bytes) -> None:
        method, path, _ = head.partition(b"\r\n")[0].split()
        if method == b"get":
            self._transport.write(self._received.answer(path.decode()))
        elif path != HANGING_PATH.encode():
            self._transport.write(_ACCEPTED)
            at = body.find(_ID) + len(_ID)
            self._received.arrivals.append((body[at : body.find(b'"', at, at + EVENT_ID_BYTES)], time()))
            self._received.last_body = body


async def _serve(port: int, servers: int) -> None:
    received, loop = _Received(), asyncio.get_running_loop()
    # The address that the benchmark looks for is the last to listen.
    for number in reversed(range(1, servers + 1)):
        await loop.create_server(lambda: _Connection(received), f"127.0.0.{number}", port, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
