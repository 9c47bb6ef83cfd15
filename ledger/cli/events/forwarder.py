"""Forwards Events to a program under development, signed as to a webhook endpoint, a few at a time.

It reads the Events with a position of its own: a program that hangs holds up what is forwarded, not what is
printed, and what waits takes no memory. Each Event is sent once; the outcome is reported.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec

from ledger.cli.events.live_events import Render
from ledger.stripe_cli.feed import ListenerEvent
from ledger.webhooks.deliveries import Attempt
from ledger.webhooks.http_client import WebhookClient
from ledger.webhooks.signature import sign

CONCURRENT_MAX = 8
TIMEOUT_SECONDS = 30.0

ReportAttempt = Callable[[str, Attempt], None]


async def forward(
    events: AsyncGenerator[ListenerEvent, None],
    url: str,
    *,
    account: str,
    secret: str,
    render: Render,
    report: ReportAttempt,
) -> None:
    """POST each Event to `url`, for as long as there are any. `account` is whose webhook this would be: the
    Events of connected accounts name theirs. `report` is called with the Event's id and the outcome."""
    client = WebhookClient(allow_private=True, timeout_seconds=TIMEOUT_SECONDS)
    free = asyncio.Semaphore(CONCURRENT_MAX)

    async def send(found: ListenerEvent) -> None:
        try:
            sent_at = time.time()
            event = render(found, account)
            body = msgspec.json.encode(event)
            signature = (b"Stripe-Signature", sign([secret], int(sent_at), body).encode())
            report(event["id"], await client.post(url, body, [signature], sent_at=sent_at))
        finally:
            free.release()

    try:
        async with aclosing(events), asyncio.TaskGroup() as attempts:
            await free.acquire()
            async for found in events:
                attempts.create_task(send(found))
                await free.acquire()  # before the next one is read
    finally:
        await client.close()
