"""Reads the feed as a service would: its lines, and its server-sent events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx

from tests.internal.conftest import InternalClient


class Answer(NamedTuple):
    """A whole NDJSON answer."""

    items: list[dict[str, Any]]
    progress: int
    head: int

    @property
    def positions(self) -> list[int]:
        return [item["position"] for item in self.items]


def read_feed(reader: InternalClient, query: str = "") -> Answer:
    """One NDJSON answer, which must be whole."""
    answer = reader.get(f"/feed?{query}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    *items, last = (json.loads(line) for line in answer.text.splitlines())
    return Answer(items, last["progress"], last["head"])


class SseEvent(NamedTuple):
    """A server-sent event, or a comment in its place."""

    kind: str
    id: int | None
    data: Any


@contextmanager
def open_sse(
    reader: InternalClient, query: str = "", headers: Mapping[str, str] | None = None
) -> Iterator[Iterator[SseEvent]]:
    """The events of a stream, as they come."""
    timeout = httpx.Timeout(30)
    sent = {"authorization": f"Bearer {reader.key}", "accept": "text/event-stream", **(headers or {})}
    with (
        httpx.Client(base_url=reader.http.base_url, timeout=timeout) as client,
        client.stream("GET", f"/internal/v1/feed?{query}", headers=sent) as response,
    ):
        if response.status_code != 200:
            response.read()
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        yield parse_sse(response.iter_lines())


def parse_sse(lines: Iterator[str]) -> Iterator[SseEvent]:
    """As the standard says, as far as it is used."""
    kind, event_id, data = "message", None, []
    for line in lines:
        if line.startswith(":"):
            yield SseEvent("comment", None, line[1:].strip())
        elif line:
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "id":
                event_id = int(value)
            elif name == "data":
                data.append(value)
            elif name == "retry":
                yield SseEvent("retry", None, int(value))
        elif data:
            yield SseEvent(kind, event_id, json.loads("\n".join(data)))
            kind, data = "message", []
