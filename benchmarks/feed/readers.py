"""Many readers of the feed as server-sent events, which note what arrived and when; and who starts them.

They are one process, `python -m benchmarks.feed.readers`, with a task as JSON in the first line of its input.
It prints a line once all streams have begun, and a report for each further line. Of what arrives it parses
only the positions, and looks at the clock once for each piece, so that it is not what is measured: a report
has the CPU seconds that it took.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import uvloop

from benchmarks.service import THIS_BUILD, stop_process

CONNECTS_MAX = 50
"""How many connect at a time."""
START_SECONDS = 60.0
ARRIVAL_SECONDS_MAX = 30.0
POLL_SECONDS = 0.3
PATH = "/internal/v1/feed"

_ITEM = b'data: {"position":'
"""How the line of an item begins. No content contains it: in a JSON string the quote is escaped."""
_POSITION = re.compile(rb"[0-9]+")
_PROGRESS = b"event: progress"

Chunk = tuple[int, float]
"""The position of the last item in what arrived at once, and when (seconds of `time.monotonic`)."""


class Arrivals(NamedTuple):
    """What one reader has received since the last report: items, heartbeats, and its chunks with items."""

    items: int
    heartbeats: int
    chunks: Sequence[Chunk]


class Report(NamedTuple):
    """What all readers have received since the last report, and the CPU seconds that they took."""

    readers: Sequence[Arrivals]
    cpu_seconds: float

    def __add__(self, later: Report) -> Report:  # type: ignore[override]
        """Both together."""
        readers = [
            Arrivals(a.items + b.items, a.heartbeats + b.heartbeats, [*a.chunks, *b.chunks])
            for a, b in zip(self.readers, later.readers, strict=True)
        ]
        return Report(readers, self.cpu_seconds + later.cpu_seconds)


class Readers:
    """Readers that run."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def take_report(self) -> Report:
        """What has arrived since the last report. Raises RuntimeError when a stream has ended, or the process
        has."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        answer = _read_line(self._process)
        if answer["ended"]:
            raise RuntimeError(f"{answer['ended']} of {len(answer['readers'])} streams have ended")
        return Report([Arrivals(*each) for each in answer["readers"]], answer["cpu"])

    def collect(self, expected: Sequence[int]) -> Report:
        """What arrives until each reader has as many items as it is to have, and a moment longer. Raises
        RuntimeError when one has fewer after ARRIVAL_SECONDS_MAX, or more."""
        report, deadline = self.take_report(), time.monotonic() + ARRIVAL_SECONDS_MAX
        is_complete = False
        while not is_complete and time.monotonic() < deadline:
            is_complete = all(
                reader.items >= count for reader, count in zip(report.readers, expected, strict=True)
            )
            time.sleep(POLL_SECONDS)
            report += self.take_report()
        for number, (reader, count) in enumerate(zip(report.readers, expected, strict=True)):
            if reader.items != count:
                raise RuntimeError(f"reader {number} has got {reader.items} of {count} events")
        return report


@contextmanager
def run_readers(port: int, secret: str, filters: Sequence[str], *, after: int) -> Iterator[Readers]:
    """One reader of the feed for each filter (`types=customer.created`, or "" for none), from a position on.

    Raises RuntimeError when one is refused.
    """
    queries = [f"after={after}{f'&{each}' * bool(each)}" for each in filters]
    task = {"port": port, "secret": secret, "queries": queries}
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.feed.readers"],
        cwd=THIS_BUILD.root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(task).encode() + b"\n")
        process.stdin.flush()
        _read_line(process)
        yield Readers(process)
    finally:
        stop_process(process)


def find_latencies_ms(chunks: Sequence[Chunk], since: Mapping[int, float]) -> list[float]:
    """For each position, in ascending order, the milliseconds from its time in `since` until a reader had it.
    Raises RuntimeError when one has not arrived."""
    latencies = []
    numbered = iter(chunks)
    last, at = next(numbered, (0, 0.0))
    for position, began_at in since.items():
        while last < position:
            last, at = next(numbered, (-1, 0.0))
            if last < 0:
                raise RuntimeError(f"position {position} has not arrived at a reader")
        latencies.append((at - began_at) * 1000)
    return latencies


def _read_line(process: subprocess.Popen[bytes]) -> Mapping[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("the readers of the feed have ended")
    return cast(Mapping[str, Any], json.loads(line))


class Stream(asyncio.Protocol):
    """One reader: sends its request, then notes what arrives."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._rest = b""
        self._items = self._heartbeats = 0
        self._chunks: list[Chunk] = []
        self.begun = asyncio.get_running_loop().create_future()
        self.has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        """Note the whole server-sent events; keep the rest for the next call."""
        now = time.monotonic()
        if self._rest:
            data = self._rest + data
        end = data.rfind(b"\n\n") + 2
        if not self.begun.done():
            if b"\r\n\r\n" not in data:
                self._rest = data
                return
            if b" 200 " not in data[:13]:
                self.begun.set_exception(RuntimeError(f"the feed was refused: {data[:400]!r}"))
                return
            self.begun.set_result(None)
        self._rest = data[end:] if end > 1 else data
        if end <= 1:
            return
        if items := data.count(_ITEM, 0, end):
            self._items += items
            match = _POSITION.match(data, data.rfind(_ITEM, 0, end) + len(_ITEM))
            assert match is not None, "an item has a position"
            self._chunks.append((int(match[0]), now))
        if _PROGRESS in data:
            self._heartbeats += data.count(_PROGRESS, 0, end)

    def connection_lost(self, _: Exception | None) -> None:
        """The stream has ended, which it should not."""
        self.has_ended = True
        if not self.begun.done():
            self.begun.set_exception(RuntimeError("the feed closed a connection without an answer"))

    def take(self) -> Arrivals:
        """What has arrived since the last call."""
        arrivals = Arrivals(self._items, self._heartbeats, self._chunks)
        self._items = self._heartbeats = 0
        self._chunks = []
        return arrivals


async def _run(lines: asyncio.Queue[str]) -> None:
    task = json.loads(await lines.get())
    loop, slots = asyncio.get_running_loop(), asyncio.Semaphore(CONNECTS_MAX)

    async def connect(query: str) -> Stream:
        request = (
            f"GET {PATH}?{query} HTTP/1.1\r\nHost: 127.0.0.1:{task['port']}\r\nAccept: text/event-stream\r\n"
            f"Authorization: Bearer {task['secret']}\r\n\r\n"
        )
        async with slots:
            _, stream = await loop.create_connection(
                lambda: Stream(request.encode()), "127.0.0.1", task["port"]
            )
            await stream.begun
        return stream

    async with asyncio.timeout(START_SECONDS):
        streams = await asyncio.gather(*map(connect, task["queries"]))
    reported_at = time.process_time()
    _print({"begun": len(streams)})
    while await lines.get():
        used = time.process_time() - reported_at
        _print(
            {"readers": [each.take() for each in streams], "cpu": used,
             "ended": sum(each.has_ended for each in streams)}
        )  # fmt: skip
        reported_at = time.process_time()


def _print(document: object) -> None:
    print(json.dumps(document), flush=True)


async def _read_input() -> None:
    """Run the task in the first line of the input until the input ends."""
    gc.disable()  # a collection would be a pause in what is measured
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), lambda: lines.put_nowait(sys.stdin.readline()))
    await _run(lines)


if __name__ == "__main__":
    uvloop.run(_read_input())
