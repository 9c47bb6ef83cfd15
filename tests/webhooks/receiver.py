"""A webhook receiver as an integrator runs one: real HTTP, each address with a script of answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import stripe

TIMEOUT_SECONDS = 60.0


class ReceivedRequest(NamedTuple):
    """A request as it came. `at`: when, in seconds of the monotonic clock."""

    path: str
    headers: dict[str, str]
    body: bytes
    received_at: float

    @property
    def signature(self) -> str:
        return self.headers["stripe-signature"]

    @property
    def signed_at(self) -> int:
        return int(self.signature.partition(",")[0].removeprefix("t="))

    def event(self, secret: str) -> stripe.Event:
        """What the official client makes of it, the signature verified."""
        return stripe.Webhook.construct_event(self.body, self.signature, secret)


class ScriptedResponse(NamedTuple):
    """`release`: answered when it is set, as a slow server would. Without a body, what came is sent back."""

    status: int = 200
    body: bytes | None = b""
    headers: tuple[tuple[str, str], ...] = ()
    release: threading.Event | None = None


class Receiver:
    """What came, and what is answered: `scripts` by path, the last answer again and again; else 200."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.port = server.server_address[1]
        self.requests: list[ReceivedRequest] = []
        self.scripts: dict[str, list[ScriptedResponse]] = {}

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def requests_to(self, path: str) -> list[ReceivedRequest]:
        return [request for request in self.requests if request.path == path]

    def wait_for(self, path: str, count: int) -> list[ReceivedRequest]:
        """What came to a path once it is `count`."""
        wait_until(lambda: len(self.requests_to(path)) >= count)
        return self.requests_to(path)

    def _next_response(self, path: str) -> ScriptedResponse:
        script = self.scripts.get(path, [ScriptedResponse()])
        return script.pop(0) if len(script) > 1 else script[0]


def wait_until(condition: Callable[[], Any], *, seconds: float = TIMEOUT_SECONDS) -> Any:
    """What `condition` returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


@contextmanager
def run_receiver() -> Iterator[Receiver]:
    """A receiver that listens until the end."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            body = self.rfile.read(length)
            if len(body) < length:  # the sender was killed meanwhile
                self.close_connection = True
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.requests.append(ReceivedRequest(self.path, headers, body, time.monotonic()))
            response = receiver._next_response(self.path)
            if response.release is not None:
                response.release.wait(TIMEOUT_SECONDS)
            answer = body if response.body is None else response.body
            try:
                self.send_response(response.status)
                for name, value in (*response.headers, ("content-length", str(len(answer)))):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)
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
