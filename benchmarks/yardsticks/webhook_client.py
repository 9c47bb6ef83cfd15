"""The yardstick of deliveries: the ledger's own HTTP client and signature, without a database.

It posts one body again and again, signed anew each time, as many at once as the sender would. A process of
its own, `python -m benchmarks.yardsticks.webhook_client`: it reads its task as JSON from stdin and writes the
deliveries per second to stdout.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Sequence

import uvloop

from benchmarks.service import THIS_BUILD
from ledger.webhooks.http_client import WebhookClient
from ledger.webhooks.signature import sign

TIMEOUT_SECONDS = 60.0
SECRET = "whsec_benchmark"


def measure_client(urls: Sequence[str], body: str, *, count: int, concurrency: int) -> float:
    """POST the body `count` times, `concurrency` at once, to the addresses in turns. Returns the deliveries
    per second. Raises CalledProcessError."""
    task = {"urls": list(urls), "body": body, "count": count, "concurrency": concurrency}
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.yardsticks.webhook_client"],
        cwd=THIS_BUILD.root,
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_SECONDS,
    )
    return float(process.stdout)


async def _measure(urls: Sequence[str], body: bytes, count: int, concurrency: int) -> float:
    client = WebhookClient(allow_private=True, timeout_seconds=TIMEOUT_SECONDS)
    numbers = itertools.count()

    async def send(first: int) -> None:
        url = urls[first % len(urls)]
        while next(numbers) < count:
            now = time.time()
            headers = [(b"Stripe-Signature", sign([SECRET], int(now), body).encode())]
            attempt = await client.post(url, body, headers, sent_at=now)
            assert attempt.succeeded, attempt

    started = time.perf_counter()
    await asyncio.gather(*(send(number) for number in range(concurrency)))
    seconds = time.perf_counter() - started
    await client.close()
    return count / seconds


def _main() -> None:
    task = json.load(sys.stdin)
    print(uvloop.run(_measure(task["urls"], task["body"].encode(), task["count"], task["concurrency"])))


if __name__ == "__main__":
    _main()
