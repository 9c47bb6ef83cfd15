"""The service as the tests of failovers run it: in processes of its own, with short pauses in what it does by
itself, and a webhook endpoint for all that the load makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import stripe

from tests.api.service import name_bases
from tests.ha.record import Target
from tests.serving.process import SERVICE_KEY, ServeProcess, run_serve
from tests.webhooks.receiver import Receiver

SETTINGS: dict[str, Any] = {
    "secret_key": SERVICE_KEY,
    "webhook_retry_seconds_test": ",".join(["1"] * 60),
    "webhook_poll_ms": 200,
    "webhook_timeout_ms": 3000,
    "checkpoint_seconds": 1,
    "list_wait_ms": 2000,  # the default: it is measured how long reads take
    "log_requests": "errors",
}
HOOKS = "/hooks/of-the-load"


@contextmanager
def run_ha_service(place: Path, dsn: str, **settings: Any) -> Iterator[ServeProcess]:
    """`ledger serve` on the database `dsn`, with its data in `place`, which also gets its checkpoints, in a
    file `checkpoint`. At the end it must stop in time."""
    all_settings = SETTINGS | {"database_url": dsn, "checkpoint_file": place / "checkpoint"} | settings
    with run_serve(place / "service", **all_settings) as service:
        yield service


def create_endpoint(target: Target, receiver: Receiver) -> None:
    """Let the receiver be sent all Events of the account from now on."""
    client = stripe.StripeClient(target.secret, base_addresses=name_bases(target.url), max_network_retries=6)
    client.v1.webhook_endpoints.create({"url": receiver.url(HOOKS), "enabled_events": ["*"]})
