"""The two forms in which the feed comes, taken apart as their bytes arrive, wherever they are cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ledger_feed.items import Item, Progress, parse_message

NDJSON = "application/x-ndjson"
SERVER_SENT_EVENTS = "text/event-stream"


class Body(Protocol):
    """The body of one answer."""

    def accept(self, chunk: bytes) -> Iterator[Item | Progress]:
        """What is complete with these bytes. An incomplete end is kept until the rest of it comes."""


class _Lines:
    """Whole lines of what has come."""

    def __init__(self) -> None:
        self._begun = b""

    def accept(self, chunk: bytes) -> list[bytes]:
        """The lines that end in these bytes."""
        lines = (self._begun + chunk).split(b"\n")
        self._begun = lines.pop()
        return lines


class NdjsonBody:
    """One JSON object a line. The last line of a whole body is its progress."""

    def __init__(self) -> None:
        self._lines = _Lines()

    def accept(self, chunk: bytes) -> Iterator[Item | Progress]:
        """What is complete with these bytes."""
        return (parse_message(line) for line in self._lines.accept(chunk) if line)


class EventStreamBody:
    """Server-sent events: an item is a message, progress an event of this name. Comments and what has another
    name are passed over."""

    def __init__(self) -> None:
        self._lines = _Lines()
        self._name = ""
        self._data: list[str] = []

    def accept(self, chunk: bytes) -> Iterator[Item | Progress]:
        """What is complete with these bytes."""
        for line in self._lines.accept(chunk):
            if line := line.removesuffix(b"\r"):
                self._accept_field(line.decode())
                continue
            name, data = self._name, "\n".join(self._data)
            self._name, self._data = "", []
            if data and name in ("", "message", "progress"):
                yield parse_message(data)

    def _accept_field(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
