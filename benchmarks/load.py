"""Sends load over keep-alive connections: with wrk where it is installed, else with a generator in Python.

Both are closed loops: a connection sends its next request when the last is answered. Any status but 200
counts as a failure. The Python generator is a process of its own, `python -m benchmarks.load`: it reads a
`Request`, the number of connections and the seconds as JSON from stdin and writes the outcome as JSON to
stdout.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import uvloop

WRK = shutil.which("wrk")
GRACE_SECONDS = 30.0
WRK_SECONDS_MAX = 60

# `done` gets the sums over all threads. One thread sends far more than any server here can answer.
_SCRIPT = """
local head, tail, key, n = [==[{head}]==], [==[{tail}]==], "{key}", 0
function request()
  if key == "" then return head .. tail end
  n = n + 1
  return head .. "Idempotency-Key: " .. key .. n .. "\\r\\n" .. tail
end
function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("OUTCOME %d %d %d %d %d\\n", summary.requests, summary.duration, failed,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Request:
    """One request that is sent repeatedly. With `keyed` each has a new Idempotency-Key."""

    port: int
    method: str
    path: str
    secret: str = ""
    form: str = ""
    keyed: bool = False

    def split_bytes(self) -> tuple[str, str]:
        """The bytes before and after the Idempotency-Key."""
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
        if self.secret:
            head += f"Authorization: Bearer {self.secret}\r\n"
        tail = "\r\n"
        if self.method == "POST":
            tail = (
                "Content-Type: application/x-www-form-urlencoded\r\n"
                f"Content-Length: {len(self.form)}\r\n\r\n{self.form}"
            )
        return head, tail


@dataclass(frozen=True, slots=True)
class Outcome:
    """Responses per second, and the latencies in milliseconds."""

    rate: float
    median_ms: float
    p99_ms: float


def get_generator_name() -> str:
    """The load generator that this machine uses."""
    return "wrk" if WRK else "asyncio"


def run_load(request: Request, *, connections: int, seconds: float) -> Outcome:
    """Send `request` over `connections` connections for `seconds`. Raises RuntimeError if any request
    fails."""
    return _run_wrk(request, connections, seconds) if WRK else _run_asyncio(request, connections, seconds)


def _run_wrk(request: Request, connections: int, seconds: float) -> Outcome:
    assert WRK is not None
    head, tail = request.split_bytes()
    # CR LF are escaped by hand: a Lua long string reads them as a single line end.
    head, tail = head.replace("\r\n", "]==]..'\\r\\n'..[==["), tail.replace("\r\n", "]==]..'\\r\\n'..[==[")
    key = secrets.token_hex(16) if request.keyed else ""
    script = _SCRIPT.replace("{head}", head).replace("{tail}", tail).replace("{key}", key)
    with tempfile.TemporaryDirectory(prefix="ledger-bench-") as directory:
        file = Path(directory) / "request.lua"
        file.write_text(script)
        command = [WRK, "-t1", f"-c{connections}", f"-d{WRK_SECONDS_MAX}s", f"--script={file}"]
        output = _run_for_seconds([*command, f"http://127.0.0.1:{request.port}"], seconds)
    lines = [line.split() for line in output.splitlines() if line.startswith("OUTCOME ")]
    if not lines:
        raise RuntimeError(f"wrk failed: {output.strip()}")
    completed, microseconds, failed, median, p99 = map(int, lines[0][1:])
    _check(request, completed, failed)
    return Outcome(completed / microseconds * 1e6, median / 1000, p99 / 1000)


def _run_for_seconds(command: list[str], seconds: float) -> str:
    """The output of wrk, ended by SIGINT after `seconds`: by itself it measures whole seconds only."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        try:
            return process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            return process.communicate(timeout=GRACE_SECONDS)[0]
    finally:
        if process.poll() is None:
            process.kill()


def _run_asyncio(request: Request, connections: int, seconds: float) -> Outcome:
    parameters = {"request": asdict(request), "connections": connections, "seconds": seconds}
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=json.dumps(parameters),
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + GRACE_SECONDS,
    )
    outcome = json.loads(process.stdout)
    _check(request, outcome["done"], outcome["failed"])
    return Outcome(outcome["done"] / outcome["seconds"], outcome["median_ms"], outcome["p99_ms"])


def _check(request: Request, completed: int, failed: int) -> None:
    if failed or not completed:
        raise RuntimeError(f"{request.method} {request.path}: {failed} of {completed} requests failed")


class _Connection(asyncio.Protocol):
    """Sends the next request when the last is answered. Parses only what it needs to see the end of a
    response."""

    def __init__(self, run: _LoadRun) -> None:
        self._run = run
        self._buffer = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(self._buffer) < end + 4 + length:
            return
        self._buffer = b""
        now = time.perf_counter()
        self._run.latencies_ms.append((now - self._sent) * 1000)
        self._run.failed += b" 200 " not in head[:13]
        if now < self._run.deadline:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._run.failed += error is not None or time.perf_counter() < self._run.deadline
        self._run.connection_closed()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._run.create_request())


class _LoadRun:
    """The state that the connections of one run share."""

    def __init__(self, request: Request, connections: int, seconds: float) -> None:
        head, tail = request.split_bytes()
        self._head, self._tail = head.encode(), tail.encode()
        self._keys = f"{secrets.token_hex(16)}-%d".encode() if request.keyed else b""
        self._numbers = itertools.count()
        self._open_connections = connections
        self.latencies_ms: list[float] = []
        self.failed = 0
        self.deadline = time.perf_counter() + seconds
        self.all_closed = asyncio.get_running_loop().create_future()

    def create_request(self) -> bytes:
        """The bytes of the next request."""
        if not self._keys:
            return self._head + self._tail
        return b"%bIdempotency-Key: %b\r\n%b" % (self._head, self._keys % next(self._numbers), self._tail)

    def connection_closed(self) -> None:
        """Count a connection that has closed. The last one ends the run."""
        self._open_connections -= 1
        if not self._open_connections:
            self.all_closed.set_result(None)


async def _run(request: Request, connections: int, seconds: float) -> dict[str, float]:
    run = _LoadRun(request, connections, seconds)
    started = time.perf_counter()
    for _ in range(connections):
        await asyncio.get_running_loop().create_connection(
            lambda: _Connection(run), "127.0.0.1", request.port
        )
    await run.all_closed
    elapsed = time.perf_counter() - started
    latencies = sorted(run.latencies_ms)
    return {
        "done": len(latencies),
        "failed": run.failed,
        "seconds": elapsed,
        "median_ms": latencies[len(latencies) // 2] if latencies else 0.0,
        "p99_ms": latencies[len(latencies) * 99 // 100] if latencies else 0.0,
    }


def _main() -> None:
    parameters = json.load(sys.stdin)
    run = _run(Request(**parameters["request"]), parameters["connections"], parameters["seconds"])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run)))


if __name__ == "__main__":
    _main()
