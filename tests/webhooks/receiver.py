"""A webhook receiver as an integrator runs one: real HTTP, each address with a script of answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import stripe

WITHIN_SECONDS = 30.0


class Received(NamedTuple):
    """A request as it came. `at`: when, in seconds of the monotonic clock."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def signature(self) -> str:
        return self.headers["stripe-signature"]

    @property
    def signed_at(self) -> int:
        return int(self.signature.partition(",")[0].removeprefix("t="))

    def event(self, secret: str) -> stripe.Event:
        """What the official client makes of it, the signature verified."""
        return stripe.Webhook.construct_event(self.body, self.signature, secret)


class Answer(NamedTuple):
    """`release`: answered when it is set, as a slow server would."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    release: threading.Event | None = None


class Receiver:
    """What came, and what is answered: `scripts` by path, the last answer again and again; else 200."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.port = server.server_address[1]
        self.received: list[Received] = []
        self.scripts: dict[str, list[Answer]] = {}

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Received]:
        return [received for received in self.received if received.path == path]

    def until(self, path: str, count: int) -> list[Received]:
        """What came to a path once it is `count`."""
        until(lambda: len(self.at(path)) >= count)
        return self.at(path)

    def _answer(self, path: str) -> Answer:
        script = self.scripts.get(path, [Answer()])
        return script.pop(0) if len(script) > 1 else script[0]


def until(holds: Callable[[], Any], *, seconds: float = WITHIN_SECONDS) -> Any:
    """What `holds` returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens until the end."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.received.append(Received(self.path, headers, body, time.monotonic()))
            answer = receiver._answer(self.path)
            if answer.release is not None:
                answer.release.wait(WITHIN_SECONDS)
            try:
                self.send_response(answer.status)
                for name, value in (*answer.headers, ("content-length", str(len(answer.body)))):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)
            except OSError:
                self.close_connection = True  # whoever sent it has gone

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        receiver = Receiver(server)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield receiver
        server.shutdown()
