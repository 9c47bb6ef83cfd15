"""Sends a given number of requests: as fast as a few connections allow, or at a steady rate.

At a steady rate each request is sent when it is due, whether or not earlier ones are answered (an open loop),
and its latency counts from then: a server that stalls for a moment is seen in all requests of that moment.
"""

from __future__ import annotations

import asyncio

import uvloop

from benchmarks.load import Latency, Request

CONNECTIONS = 8
PACED_CONNECTIONS = 32
TIMEOUT_SECONDS = 60.0


def send_all(request: Request, count: int) -> None:
    """Send the request `count` times over CONNECTIONS connections. Raises RuntimeError when one fails."""
    uvloop.run(_send(request, count, CONNECTIONS, None))


def send_paced(request: Request, count: int, *, per_second: float) -> Latency:
    """Send the request `count` times at this rate. Returns the latencies of the responses. Raises
    RuntimeError when one fails."""
    latencies_ms = sorted(uvloop.run(_send(request, count, PACED_CONNECTIONS, 1 / per_second)))
    return Latency(latencies_ms[count // 2], latencies_ms[count * 99 // 100])


async def _send(request: Request, count: int, connections: int, pause_seconds: float | None) -> list[float]:
    loop = asyncio.get_running_loop()
    head, tail = (part.encode() for part in request.split_bytes())
    numbers = iter(range(count))
    latencies_ms: list[float] = []
    started = loop.time()

    async def send_next() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", request.port)
        for number in numbers:
            due = loop.time() if pause_seconds is None else started + number * pause_seconds
            await asyncio.sleep(max(0.0, due - loop.time()))
            writer.write(head + tail)
            response = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in response[:13]:
                raise RuntimeError(f"{request.method} {request.path} failed: {response[:200]!r}")
            length = response.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            latencies_ms.append((loop.time() - due) * 1000)
        writer.close()

    async with asyncio.timeout(TIMEOUT_SECONDS):
        await asyncio.gather(*(send_next() for _ in range(connections)))
    return latencies_ms
