"""The sender: attempt due deliveries, retry them by the schedule (contract §5.5), delete expired ones.

At most `webhook_attempts_max` attempts run at once, and ENDPOINT_CONCURRENCY_MAX to one endpoint; an endpoint
that was slow to respond gets a single connection until it responds quickly again. So a slow or dead endpoint
does not delay the others. Retries are due by the ledger's clock. An attempt that is interrupted
when the process ends is repeated.
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

from ledger.background import BackgroundLoop
from ledger.config import Settings
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.errors import LedgerError, UnreadableRecord
from ledger.logs import describe_error
from ledger.postgres.connections import ReconnectingConnection
from ledger.queries.events import FeedEvent, render_event
from ledger.queries.past_events import load_past_event
from ledger.store.log import PLANNER_OPTIONS
from ledger.store.store import Store
from ledger.webhooks import deliveries, health
from ledger.webhooks.deliveries import DELETE_ROWS_MAX, RETENTION_SECONDS, Attempt, ClaimedDelivery
from ledger.webhooks.http_client import WebhookClient
from ledger.webhooks.replays.records import drop_unreadable
from ledger.webhooks.signature import sign
from ledger.webhooks.switch import SwitchLog

ENDPOINT_CONCURRENCY_MAX = 8
SLOW_ATTEMPT_SECONDS = 3.0
RETRY_JITTER = 0.05
CLEANUP_INTERVAL_SECONDS = 3600.0
WITHDRAWAL_INTERVAL_SECONDS = 60.0
WITHDRAWAL_ENDPOINTS_MAX = 100
LOOP_CLOSE_TIMEOUT_SECONDS = 2.0
ATTEMPTS_CLOSE_TIMEOUT_SECONDS = 1.0
_OPTIONS = f"{PLANNER_OPTIONS} -c statement_timeout=10s"

log = structlog.get_logger()


class Sender:
    """Sends for one process. `get_secrets` returns an endpoint's signing secrets by its id."""

    def __init__(self, store: Store, settings: Settings, get_secrets: Callable[[str], Sequence[str]]) -> None:
        self._store = store
        self._streams = store.streams
        self._clock = store.clock
        self._get_secrets = get_secrets
        self._connection = ReconnectingConnection(store.dsn, "ledger_api", name="webhooks", options=_OPTIONS)
        self._is_off = settings.webhooks == "off"
        self._switch_log = SwitchLog(settings.webhooks)
        timeout_seconds = settings.webhook_timeout_ms / 1000
        # Long enough for an attempt and the statements before and after it.
        self._lease_seconds = 1.5 * timeout_seconds + 1
        self._attempts_max = settings.webhook_attempts_max
        self._poll_seconds = settings.webhook_poll_ms / 1000
        self._retry_seconds = {
            False: settings.webhook_retry_seconds_test,
            True: settings.webhook_retry_seconds_live,
        }
        private_addresses = settings.webhook_private_addresses
        self._clients = {
            False: WebhookClient(allow_private=private_addresses != "never", timeout_seconds=timeout_seconds),
            True: WebhookClient(allow_private=private_addresses == "always", timeout_seconds=timeout_seconds),
        }
        self._in_flight: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self._slow_endpoints: set[str] = set()
        self._cleanup_at = self._withdrawal_at = 0.0
        self._loop = BackgroundLoop(
            "webhook sender", self._send_due, close_timeout_seconds=LOOP_CLOSE_TIMEOUT_SECONDS
        )

    async def start(self) -> None:
        """Begin to send."""
        await self._loop.start()

    def wake(self) -> None:
        """Look for due deliveries now instead of after the poll interval."""
        self._loop.wake()

    async def close(self) -> None:
        """Start no further attempt, let those under way finish for ATTEMPTS_CLOSE_TIMEOUT_SECONDS, and
        release the leases of the others, so that another process can send at once."""
        await self._loop.close()
        delivery_by_task = {task: delivery for delivery, (_, task) in self._in_flight.items()}
        if delivery_by_task:
            _, unfinished = await asyncio.wait(delivery_by_task, timeout=ATTEMPTS_CLOSE_TIMEOUT_SECONDS)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
            with suppress(psycopg.Error, TimeoutError):  # leases also expire
                async with asyncio.timeout(ATTEMPTS_CLOSE_TIMEOUT_SECONDS), self._connection as conn:
                    await deliveries.release_leases(conn, [delivery_by_task[task] for task in unfinished])
        for client in self._clients.values():
            await client.close()
        await self._connection.drop()

    async def _send_due(self) -> float:
        if not self._is_off and await self._start_due_attempts():
            return 0
        async with self._connection as conn:
            await self._switch_log.observe(conn)
        await self._clean_up()
        return self._poll_seconds

    async def _start_due_attempts(self) -> int:
        """Start an attempt for each due delivery, as far as the limits allow; returns how many it started."""
        free_slots = self._attempts_max - len(self._in_flight)
        if free_slots <= 0:
            return 0
        in_flight_by_endpoint = Counter(endpoint for endpoint, _ in self._in_flight.values())
        endpoint_limits = {
            endpoint: max(
                0,
                (1 if endpoint in self._slow_endpoints else ENDPOINT_CONCURRENCY_MAX)
                - in_flight_by_endpoint[endpoint],
            )
            for endpoint in in_flight_by_endpoint.keys() | self._slow_endpoints
        }
        async with self._connection as conn:
            await self._clock.refresh(conn)
            claimed_deliveries = await deliveries.claim(
                conn,
                now=self._clock.now(),
                limit=free_slots,
                endpoint_limit_default=ENDPOINT_CONCURRENCY_MAX,
                endpoint_limits=endpoint_limits,
                lease_seconds=self._lease_seconds,
            )
        for delivery in claimed_deliveries:
            task = asyncio.create_task(self._deliver(delivery), name=f"deliver {delivery.id}")
            self._in_flight[delivery.id] = (delivery.endpoint, task)
        return len(claimed_deliveries)

    async def _deliver(self, delivery: ClaimedDelivery) -> None:
        """Make one attempt. After a failure of this service the delivery is due again when its lease
        expires."""
        try:
            endpoint = await self._streams.read(delivery.endpoint)
            assert isinstance(endpoint, WebhookEndpoint)
            if endpoint.deleted:
                async with self._connection as conn:
                    await deliveries.record_outcome(conn, delivery.id, "dropped", account=endpoint.account)
            elif (event := delivery.event or await self._load_past_event(delivery)) is not None:
                attempt = None
                if not endpoint.disabled:
                    attempt = await self._post(delivery, event, endpoint)
                await self._record_outcome(delivery, event.id, endpoint, attempt)
        except UnreadableRecord as error:  # of the endpoint; sent once it can be read
            log.error("webhook_attempt_delayed", delivery=delivery.id, **error.to_log())
        except (psycopg.Error, LedgerError) as error:
            log.warning("webhook_attempt_delayed", delivery=delivery.id, reason=describe_error(error))
        except Exception as error:  # nobody awaits this task
            log.error("webhook_attempt_crashed", delivery=delivery.id, exc_info=error)
        finally:
            del self._in_flight[delivery.id]
            self.wake()

    async def _load_past_event(self, delivery: ClaimedDelivery) -> FeedEvent | None:
        """The Event from the log, of a delivery that is retried or replayed; None if it cannot be made. Any
        other delivery waits until the feed has its Event."""
        if not delivery.is_repeated:
            return None
        try:
            return await load_past_event(
                self._connection,
                self._store,
                delivery.position,
                delivery.ordinal,
                pending_webhooks=delivery.owed_to,
            )
        except UnreadableRecord as error:
            log.error("webhook_event_unreadable", delivery=delivery.id, **error.to_log())
            if delivery.replay is not None:
                async with self._connection as conn:
                    await drop_unreadable(conn, delivery.id)
            return None

    async def _post(self, delivery: ClaimedDelivery, event: FeedEvent, endpoint: WebhookEndpoint) -> Attempt:
        account = delivery.account if endpoint.connect else None
        body = msgspec.json.encode(render_event(event, account=account, api_version=endpoint.api_version))
        now = self._clock.now()
        signature = sign(self._get_secrets(endpoint.id), int(now), body)
        attempt = await self._clients[endpoint.livemode].post(endpoint.url, body, signature, sent_at=now)
        if attempt.duration_ms >= SLOW_ATTEMPT_SECONDS * 1000:
            self._slow_endpoints.add(endpoint.id)
        else:
            self._slow_endpoints.discard(endpoint.id)
        return attempt

    async def _record_outcome(
        self, delivery: ClaimedDelivery, event: str, endpoint: WebhookEndpoint, attempt: Attempt | None
    ) -> None:
        """Store the attempt's outcome, and when the next one is due. `attempt` is None when the endpoint
        was disabled: it misses this attempt and gets the next one (contract §5.5)."""
        state: deliveries.DeliveryState = "failed"
        due_at = None
        retry_seconds = self._retry_seconds[endpoint.livemode]
        if attempt is not None and attempt.succeeded:
            state = "delivered"
        elif delivery.attempts_made < len(retry_seconds):
            state = "pending"
            # Never early: attempts less than a second apart could have the same signature.
            jitter_factor = 1 + RETRY_JITTER * random.random()  # noqa: S311  # spreads load, guards nothing
            due_at = self._clock.now() + retry_seconds[delivery.attempts_made] * jitter_factor
        async with self._connection as conn:
            change = await deliveries.record_outcome(
                conn, delivery.id, state, account=endpoint.account, due_at=due_at, attempt=attempt
            )
            if attempt is None:
                await health.withdraw(conn, endpoint.id, "disabled")
        if change is not None:
            health.log_change(change, delivery=delivery.id, event=event)
        if attempt is not None and not attempt.succeeded:
            log.debug(
                "webhook_attempt_failed",
                delivery=delivery.id,
                endpoint=delivery.endpoint,
                answered=attempt.status,
                error=attempt.error,
                ms=attempt.duration_ms,
                state=state,
            )

    async def _clean_up(self) -> None:
        """Delete expired deliveries, every CLEANUP_INTERVAL_SECONDS; and every WITHDRAWAL_INTERVAL_SECONDS
        look for failing endpoints that were disabled or deleted, which may have no delivery pending."""
        monotonic_now = asyncio.get_running_loop().time()
        if monotonic_now >= self._withdrawal_at:
            await self._withdraw_endpoints()
            self._withdrawal_at = monotonic_now + WITHDRAWAL_INTERVAL_SECONDS
        if monotonic_now >= self._cleanup_at:
            async with self._connection as conn:
                now = self._clock.now()
                deleted_count = await deliveries.delete_expired(conn, now)
                await health.delete_expired(conn, now - RETENTION_SECONDS)
            if deleted_count < DELETE_ROWS_MAX:
                self._cleanup_at = monotonic_now + CLEANUP_INTERVAL_SECONDS

    async def _withdraw_endpoints(self) -> None:
        async with self._connection as conn:
            failing = await health.list_failing(conn, WITHDRAWAL_ENDPOINTS_MAX)
        for endpoint_id in failing:
            with suppress(UnreadableRecord):
                endpoint = await self._streams.read(endpoint_id)
                assert isinstance(endpoint, WebhookEndpoint)
                if endpoint.deleted or endpoint.disabled:
                    async with self._connection as conn:
                        reason = "deleted" if endpoint.deleted else "disabled"
                        await health.withdraw(conn, endpoint_id, reason)
