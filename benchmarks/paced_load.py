"""Sends a given number of requests: as fast as a few connections allow, or at a steady rate.

At a steady rate each request is sent when it is due, whether or not earlier ones are answered (an open loop),
and its latency counts from then: a server that stalls for a moment is seen in all requests of that moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

import uvloop

from benchmarks.load import Latency, Request

CONNECTIONS = 8
PACED_CONNECTIONS = 32
TIMEOUT_SECONDS = 60.0

_REQUEST_ID = b"request-id:"


class Answer(NamedTuple):
    """The answer to one request: its id, when it was due, and when it was answered (seconds of
    `time.monotonic`, which all processes of a machine share)."""

    request_id: str
    due_at: float
    answered_at: float

    @property
    def latency_ms(self) -> float:
        """From when it was due."""
        return (self.answered_at - self.due_at) * 1000


def send_all(request: Request, count: int) -> None:
    """Send the request `count` times over CONNECTIONS connections. Raises RuntimeError when one fails."""
    uvloop.run(_send([request] * count, CONNECTIONS, None))


def send_paced(request: Request, count: int, *, per_second: float) -> Latency:
    """Send the request `count` times at this rate. Returns the latencies of the responses. Raises
    RuntimeError when one fails."""
    return summarize(send_each([request] * count, per_second=per_second))


def send_each(requests: Sequence[Request], *, per_second: float) -> list[Answer]:
    """Send each request once at this rate. Returns their answers, in the order in which these came. Raises
    RuntimeError when one fails."""
    return uvloop.run(_send(requests, PACED_CONNECTIONS, 1 / per_second))


def summarize(answers: Sequence[Answer]) -> Latency:
    """The latencies of the answers."""
    latencies_ms = sorted(each.latency_ms for each in answers)
    return Latency(latencies_ms[len(answers) // 2], latencies_ms[len(answers) * 99 // 100])


async def _send(requests: Sequence[Request], connections: int, pause_seconds: float | None) -> list[Answer]:
    encoded = {each: "".join(each.split_bytes()).encode() for each in dict.fromkeys(requests)}
    numbered = iter(enumerate(requests))
    answers: list[Answer] = []
    started = time.monotonic()

    async def send_next() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", requests[0].port)
        for number, request in numbered:
            due = time.monotonic() if pause_seconds is None else started + number * pause_seconds
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            writer.write(encoded[request])
            response = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in response[:13]:
                raise RuntimeError(f"{request.method} {request.path} failed: {response[:200]!r}")
            head = response.lower()
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            at = head.find(_REQUEST_ID) + len(_REQUEST_ID)
            request_id = response[at : response.find(b"\r\n", at)].strip().decode()
            answers.append(Answer(request_id, due, time.monotonic()))
        writer.close()

    async with asyncio.timeout(TIMEOUT_SECONDS):
        await asyncio.gather(*(send_next() for _ in range(connections)))
    return answers
