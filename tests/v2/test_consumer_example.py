"""The worked example examples/thin-events: its program gets thin events of an event destination."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import stripe

from tests.api.service import ROOT, Account, Caller, Service, ok
from tests.webhooks.receiver import wait_until

CONSUMER = ROOT / "examples" / "thin-events" / "consumer.py"
STOP_SECONDS = 10


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def run_consumer(service: Service, account: Account, secret: str, port: int) -> Iterator[list[str]]:
    """The lines that it has printed so far, from when it waits."""
    settings = {
        "API_URL": service.url, "STRIPE_API_KEY": account.secret, "STRIPE_WEBHOOK_SECRET": secret,
    }  # fmt: skip
    command = [sys.executable, "-u", str(CONSUMER), str(port)]
    process = subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
    reader.start()
    try:
        wait_until(lambda: lines or process.poll() is not None)
        assert lines, process.returncode
        yield lines
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)
        reader.join(STOP_SECONDS)


def test_the_consumer_prints_what_it_fetches(
    service: Service, account: Account, client: stripe.StripeClient, raw: Caller, port: int
) -> None:
    destination = client.v2.core.event_destinations.create(
        {
            "name": "The consumer",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": ["v1.charge.dispute.created", "v1.charge.refunded", "v1.customer.created"],
            "webhook_endpoint": {"url": f"http://127.0.0.1:{port}/"},
            "include": ["webhook_endpoint.signing_secret"],
        }
    )
    assert destination.webhook_endpoint is not None
    secret = destination.webhook_endpoint.signing_secret
    assert secret is not None
    with run_consumer(service, account, secret, port) as lines:
        forged = {"Stripe-Signature": "t=1,v1=00"}
        assert httpx.post(f"http://127.0.0.1:{port}/", content=b"{}", headers=forged).status_code == 400
        raw.customer()
        dispute = raw.dispute()
        charge = raw.charge()
        refunded = raw.post("/v1/refunds", {"charge": charge["id"], "amount": 300})
        ok(refunded)
        wait_until(lambda: len(lines) == 4)
    assert sorted(line.rstrip("\n") for line in lines[1:]) == sorted(
        [
            "v1.customer.created: nothing to do",
            f"{dispute['id']}: {dispute['amount']} usd disputed, {dispute['status']}",
            f"{charge['id']}: 300 usd refunded, asked by {refunded.headers['request-id']}",
        ]
    )
