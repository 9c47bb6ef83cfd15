"""Sends load over keep-alive connections: with wrk where it is installed, else with a generator in Python.

Both are closed loops: a connection sends its next request when the last is answered. Several requests are
sent in turns: a mix. Any status but 200 counts as a failure. The Python generator is a process of its own,
`python -m benchmarks.load`: it reads its task as JSON from stdin and writes the outcome as JSON to stdout.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import uvloop

WRK = shutil.which("wrk")
GRACE_SECONDS = 30.0

# `done` gets the sums over all threads. One thread sends far more than any server here can answer.
_SCRIPT = """
local heads, tails, keys, n = {heads}, {tails}, {keys}, 0
function request()
  n = n + 1
  local i = n % #heads + 1
  if keys[i] == "" then return heads[i] .. tails[i] end
  return heads[i] .. "Idempotency-Key: " .. keys[i] .. n .. "\\r\\n" .. tails[i]
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

    def send(self) -> Any:
        """Send it once. Returns the JSON body. Raises RuntimeError when the status is not 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            headers = {"Content-Type": "application/x-www-form-urlencoded"} if self.form else {}
            if self.secret:
                headers["Authorization"] = f"Bearer {self.secret}"
            connection.request(self.method, self.path, self.form or None, headers)
            response = connection.getresponse()
            body = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise RuntimeError(f"{self.method} {self.path} returned {response.status}: {body}")
        return body


@dataclass(frozen=True, slots=True)
class Outcome:
    """Responses per second, the latencies in milliseconds, and the CPU seconds of the load generator."""

    rate: float
    median_ms: float
    p99_ms: float
    completed: int
    failed: int
    generator_seconds: float


def get_generator_name() -> str:
    """The load generator that this machine uses."""
    return "wrk" if WRK else "asyncio"


def run_load(
    request: Request | Sequence[Request], *, connections: int, seconds: float, may_fail: bool = False
) -> Outcome:
    """Send a request, or several in turns, over `connections` connections for `seconds`.

    Raises RuntimeError if no request is answered or, unless they `may_fail`, if any fails.
    """
    requests = [request] if isinstance(request, Request) else list(request)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = _run_wrk if WRK else _run_asyncio
    rate, median_ms, p99_ms, completed, failed = run(requests, connections, seconds)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if not completed or (failed and not may_fail):
        names = ", ".join(dict.fromkeys(f"{each.method} {each.path}" for each in requests))
        raise RuntimeError(f"{names}: {failed} of {completed} requests failed")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Outcome(rate, median_ms, p99_ms, completed, failed, used)


class Latency(NamedTuple):
    """Of the responses to some of the requests, in milliseconds."""

    median_ms: float
    p99_ms: float


def measure_latencies(requests: Sequence[Request], *, connections: int, seconds: float) -> dict[str, Latency]:
    """The latency of the requests of each method, by the generator in Python: wrk knows only that of all."""
    by_method = _run_generator(requests, connections, seconds)["by_method"]
    return {method: Latency(*latency) for method, latency in by_method.items()}


def _run_wrk(
    requests: Sequence[Request], connections: int, seconds: float
) -> tuple[float, float, float, int, int]:
    assert WRK is not None
    heads, tails = zip(*(each.split_bytes() for each in requests), strict=True)
    keys = [secrets.token_hex(16) if each.keyed else "" for each in requests]
    script = _SCRIPT
    for name, texts in (("heads", heads), ("tails", tails), ("keys", keys)):
        script = script.replace(f"{{{name}}}", "{" + ", ".join(map(_quote_lua, texts)) + "}")
    with tempfile.TemporaryDirectory(prefix="ledger-bench-") as directory:
        file = Path(directory) / "request.lua"
        file.write_text(script)
        limit = round(seconds + GRACE_SECONDS)
        command = [WRK, "-t1", f"-c{connections}", f"-d{limit}s", f"--script={file}"]
        output = _run_for_seconds([*command, f"http://127.0.0.1:{requests[0].port}"], seconds)
    lines = [line.split() for line in output.splitlines() if line.startswith("OUTCOME ")]
    if not lines:
        raise RuntimeError(f"wrk failed: {output.strip()}")
    completed, microseconds, failed, median, p99 = map(int, lines[0][1:])
    return completed / microseconds * 1e6, median / 1000, p99 / 1000, completed, failed


def _quote_lua(text: str) -> str:
    # CR LF are escaped by hand: a Lua long string reads them as a single line end.
    return "[==[" + text.replace("\r\n", "]==]..'\\r\\n'..[==[") + "]==]"


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


def _run_asyncio(
    requests: Sequence[Request], connections: int, seconds: float
) -> tuple[float, float, float, int, int]:
    outcome = _run_generator(requests, connections, seconds)
    rate = outcome["completed"] / outcome["seconds"]
    return rate, *outcome["latency"], outcome["completed"], outcome["failed"]


def _run_generator(requests: Sequence[Request], connections: int, seconds: float) -> dict[str, Any]:
    task = {
        "requests": [asdict(each) for each in requests],
        "connections": connections,
        "seconds": seconds,
    }
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + GRACE_SECONDS,
    )
    return cast(dict[str, Any], json.loads(process.stdout))


class _Connection(asyncio.Protocol):
    """Sends the next request when the last is answered. Parses only what it needs to see the end of a
    response."""

    def __init__(self, run: _LoadRun) -> None:
        self._run = run
        self._buffer = b""
        self._sent = 0.0
        self._method = ""

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
        self._run.latencies_ms[self._method].append((now - self._sent) * 1000)
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
        self._method, request = self._run.create_request()
        self._transport.write(request)


class _LoadRun:
    """The state that the connections of one run share."""

    def __init__(self, requests: Sequence[Request], connections: int, seconds: float) -> None:
        heads, tails = zip(*(each.split_bytes() for each in requests), strict=True)
        self._heads, self._tails = [head.encode() for head in heads], [tail.encode() for tail in tails]
        self._keyed = [each.keyed for each in requests]
        self._key = secrets.token_hex(16).encode()
        self._numbers = itertools.count()
        self._open_connections = connections
        self._methods = [each.method for each in requests]
        self.latencies_ms: dict[str, list[float]] = {method: [] for method in self._methods}
        self.failed = 0
        self.deadline = time.perf_counter() + seconds
        self.all_closed = asyncio.get_running_loop().create_future()

    def create_request(self) -> tuple[str, bytes]:
        """The method and the bytes of the next request."""
        number = next(self._numbers)
        choice = number % len(self._heads)
        key = b"Idempotency-Key: %b-%d\r\n" % (self._key, number) if self._keyed[choice] else b""
        return self._methods[choice], self._heads[choice] + key + self._tails[choice]

    def connection_closed(self) -> None:
        """Count a connection that has closed. The last one ends the run."""
        self._open_connections -= 1
        if not self._open_connections:
            self.all_closed.set_result(None)


async def _run(requests: Sequence[Request], connections: int, seconds: float) -> dict[str, Any]:
    run = _LoadRun(requests, connections, seconds)
    started = time.perf_counter()
    for _ in range(connections):
        await asyncio.get_running_loop().create_connection(
            lambda: _Connection(run), "127.0.0.1", requests[0].port
        )
    await run.all_closed
    elapsed = time.perf_counter() - started
    latencies = [each for of_method in run.latencies_ms.values() for each in of_method]
    return {
        "completed": len(latencies),
        "failed": run.failed,
        "seconds": elapsed,
        "latency": _summarize(latencies),
        "by_method": {method: _summarize(each) for method, each in run.latencies_ms.items()},
    }


def _summarize(latencies_ms: list[float]) -> Latency:
    if not latencies_ms:
        return Latency(0.0, 0.0)
    ordered = sorted(latencies_ms)
    return Latency(ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100])


def _main() -> None:
    task = json.load(sys.stdin)
    run = _run([Request(**each) for each in task["requests"]], task["connections"], task["seconds"])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run)))


if __name__ == "__main__":
    _main()
