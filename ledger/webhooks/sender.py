"""The sender: what is due is sent, tried again by the schedule (CONTRACT 5.5), and forgotten in time.

At most so many attempts at once in all, and ENDPOINT_ATTEMPTS_MAX to one endpoint; one that kept us waiting
gets a single connection until it answers quickly again. So one that is slow or dead delays nobody else.
Retries are due by the one clock. An attempt cut off by the end of the process is made again.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec
import psycopg
import structlog

from ledger.config import Settings
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.errors import LedgerError
from ledger.postgres.connections import Link
from ledger.queries.payments import PublishedEvent, event_of
from ledger.store.log import PLANS
from ledger.store.store import Store
from ledger.webhooks import deliveries
from ledger.webhooks.deliveries import SWEPT_MAX, Attempt, Claimed
from ledger.webhooks.http_client import Poster
from ledger.webhooks.signature import signature

ENDPOINT_ATTEMPTS_MAX = 8
SLOW_SECONDS = 3.0
JITTER = 0.05
RETRY_SECONDS = 2.0
SWEEP_SECONDS = 3600.0
CLOSE_SECONDS = 1.0
_OPTIONS = f"{PLANS} -c statement_timeout=10s"

log = structlog.get_logger()


class Sender:
    """One runner. `secrets_of` gives the secrets that sign what is sent to an endpoint."""

    def __init__(self, store: Store, settings: Settings, secrets_of: Callable[[str], Sequence[str]]) -> None:
        self._streams = store.streams
        self._clock = store.clock
        self._secrets_of = secrets_of
        self._link = Link(store.dsn, "ledger_api", name="webhooks", options=_OPTIONS)
        timeout_seconds = settings.webhook_timeout_ms / 1000
        # Of an attempt and what is written before and after it.
        self._lease_seconds = 1.5 * timeout_seconds + 1
        self._attempts_max = settings.webhook_attempts_max
        self._poll_seconds = settings.webhook_poll_ms / 1000
        self._retry_seconds = {
            False: settings.webhook_retry_seconds_test,
            True: settings.webhook_retry_seconds_live,
        }
        private = settings.webhook_private_addresses
        self._posters = {
            False: Poster(private=private != "never", timeout_seconds=timeout_seconds),
            True: Poster(private=private == "always", timeout_seconds=timeout_seconds),
        }
        self._under_way: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self._slow: set[str] = set()
        self._swept_at: float | None = None
        self._woken = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """There may be something to send."""
        self._woken.set()

    async def run(self) -> None:
        """Send what is due until told to stop."""
        while not self._stopping:
            self._woken.clear()
            pause = self._poll_seconds
            try:
                if await self._send_due():
                    continue
                await self._sweep()
            except (psycopg.Error, LedgerError) as error:
                log.warning("webhooks_delayed", reason=type(error).__name__)
                pause = RETRY_SECONDS
            except Exception as error:  # the edge: told, waited out, tried again
                log.error("fault", exc_info=error)
                pause = RETRY_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping = True
        self.wake()

    async def close(self) -> None:
        """Let attempts under way finish for CLOSE_SECONDS and give the others back. After `run` has ended."""
        under_way = {task: delivery for delivery, (_, task) in self._under_way.items()}
        if under_way:
            _, unfinished = await asyncio.wait(under_way, timeout=CLOSE_SECONDS)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
            with suppress(psycopg.Error, TimeoutError):  # the leases end by themselves
                async with asyncio.timeout(CLOSE_SECONDS), self._link as conn:
                    await deliveries.release(conn, [under_way[task] for task in unfinished])
        for poster in self._posters.values():
            await poster.close()
        await self._link.drop()

    async def _send_due(self) -> int:
        """Begin what is due, as far as there is room; how many."""
        free = self._attempts_max - len(self._under_way)
        if free <= 0:
            return 0
        busy = Counter(endpoint for endpoint, _ in self._under_way.values())
        room = {
            endpoint: max(0, (1 if endpoint in self._slow else ENDPOINT_ATTEMPTS_MAX) - busy[endpoint])
            for endpoint in busy.keys() | self._slow
        }
        async with self._link as conn:
            await self._clock.refresh(conn)
            claimed = await deliveries.claim(
                conn,
                now=self._clock.now(),
                limit=free,
                each=ENDPOINT_ATTEMPTS_MAX,
                room=room,
                lease_seconds=self._lease_seconds,
            )
        for each in claimed:
            task = asyncio.create_task(self._deliver(each), name=f"deliver {each.id}")
            self._under_way[each.id] = (each.endpoint, task)
        return len(claimed)

    async def _deliver(self, claimed: Claimed) -> None:
        """One try. What fails on our side is left to the end of the lease."""
        try:
            endpoint = await self._streams.read(claimed.endpoint)
            assert isinstance(endpoint, WebhookEndpoint)
            if endpoint.deleted:
                async with self._link as conn:
                    await deliveries.settle(conn, claimed.id, "dropped")
            elif claimed.event is not None:
                attempt = None
                if not endpoint.disabled:
                    attempt = await self._attempt(claimed, claimed.event, endpoint)
                await self._settle(claimed, endpoint.livemode, attempt)
        except (psycopg.Error, LedgerError) as error:
            log.warning("webhooks_delayed", delivery=claimed.id, reason=type(error).__name__)
        except Exception as error:  # the edge of this task
            log.error("fault", delivery=claimed.id, exc_info=error)
        finally:
            del self._under_way[claimed.id]
            self.wake()

    async def _attempt(self, claimed: Claimed, event: PublishedEvent, endpoint: WebhookEndpoint) -> Attempt:
        account = claimed.account if endpoint.connect else None
        body = msgspec.json.encode(event_of(event, account=account, api_version=endpoint.api_version))
        now = self._clock.now()
        signed = signature(self._secrets_of(endpoint.id), int(now), body)
        attempt = await self._posters[endpoint.livemode].post(endpoint.url, body, signed, at=now)
        if attempt.duration_ms >= SLOW_SECONDS * 1000:
            self._slow.add(endpoint.id)
        else:
            self._slow.discard(endpoint.id)
        return attempt

    async def _settle(self, claimed: Claimed, livemode: bool, attempt: Attempt | None) -> None:
        """An endpoint that is disabled when a try is due misses that try, and has the next (CONTRACT 5.5)."""
        verdict: deliveries.Verdict = "failed"
        due_at = None
        retry_seconds = self._retry_seconds[livemode]
        if attempt is not None and attempt.succeeded:
            verdict = "delivered"
        elif claimed.tries < len(retry_seconds):
            verdict = "pending"
            # Never early: at less than a second's distance the signature could be the same again.
            later = 1 + JITTER * random.random()  # noqa: S311  # spreads load, guards nothing
            due_at = self._clock.now() + retry_seconds[claimed.tries] * later
        async with self._link as conn:
            await deliveries.settle(conn, claimed.id, verdict, due_at=due_at, attempt=attempt)
        if attempt is not None and not attempt.succeeded:
            log.debug(
                "webhook_attempt_failed",
                delivery=claimed.id,
                endpoint=claimed.endpoint,
                answered=attempt.status,
                error=attempt.error,
                ms=attempt.duration_ms,
                state=verdict,
            )

    async def _sweep(self) -> None:
        """Now and then forget what is past its term."""
        time = asyncio.get_running_loop().time()
        if self._swept_at is not None and time < self._swept_at + SWEEP_SECONDS:
            return
        async with self._link as conn:
            swept = await deliveries.sweep(conn, self._clock.now())
        if swept < SWEPT_MAX:
            self._swept_at = time
