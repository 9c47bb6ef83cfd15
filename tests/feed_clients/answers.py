"""A server of scripted answers in place of the service: such as it gives seldom, or come from elsewhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

NDJSON = "application/x-ndjson"
ITEM = (
    b'{"position":5,"type":"charge.captured","object":"ch_1","version":1,"account":"acct_1","livemode":false,'
    b'"recorded_at":1795000000.25,"request":null,"causation":null,"events":[],"data":{}}\n'
)
END = b'{"progress":5,"head":5}\n'


class Answer(NamedTuple):
    body: bytes
    status: int = 200
    content_type: str = NDJSON
    retry_after: str | None = None


@contextmanager
def open_server(answers: Sequence[Answer]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives these answers, the last again and again; and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers[min(len(paths), len(answers) - 1)]
            paths.append(self.path)
            self.send_response(answer.status)
            self.send_header("content-type", answer.content_type)
            if answer.retry_after is not None:
                self.send_header("retry-after", answer.retry_after)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: pytest shows what is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", paths
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


PASSING = {
    "rate limit": Answer(b"{}", 429, retry_after="1"),
    "bad gateway": Answer(b"<html>bad gateway</html>", 502, content_type="text/html"),
    "away": Answer(b"{}", 503),
    "nothing": Answer(b""),
    "cut line": Answer(ITEM[:-20]),
}
"""What passes by itself."""
REFUSED = {
    "another page": (Answer(b"<html>", content_type="text/html"), "MalformedFeed", "answers with text/html"),
    "no route": (
        Answer(b"<html>no", 404, content_type="text/html"),
        "MalformedFeed",
        "answers with status 404: <html>no",
    ),
    "redirect": (Answer(b"", 304), "MalformedFeed", "answers with status 304"),
    "refusal": (
        Answer(json.dumps({"error": {"message": "No such type.", "param": "types"}}).encode(), 400),
        "FeedRefused",
        "No such type. (status 400)",
    ),
    "no items": (Answer(b"[]\n"), "MalformedFeed", "[]"),
    "twice": (Answer(ITEM + ITEM + END), "FeedOutOfOrder", "position 5 came after position 5"),
}
"""What does not, with the error and its message."""
