"""The sender: attempt due deliveries, retry them by the schedule (contract §5.5), delete expired ones.

It holds at most `webhook_attempts_max` deliveries, see `limits`: each from its claim until its outcome is
recorded. Retries are due by the ledger's clock. An attempt that is interrupted when the process ends is
repeated, also one that has ended and is not recorded yet: of those held, the ones that were attempted.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress

import psycopg
import structlog

from ledger.background import BackgroundLoop
from ledger.config import Settings
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.errors import LedgerError, UnreadableRecord
from ledger.keys.documents import load_keyring, seal_document
from ledger.logs import describe_error
from ledger.postgres.connections import ANSWER_GRACE_SECONDS, ReconnectingConnection
from ledger.postgres.sessions import LOCAL_COMMITS
from ledger.queries.feed_events import FeedEvent, open_events
from ledger.queries.past_events import load_past_event
from ledger.store.log import PLANNER_SETTINGS
from ledger.store.store import Store
from ledger.webhooks import deliveries, health
from ledger.webhooks.deliveries import DELETE_ROWS_MAX, RETENTION_SECONDS, Attempt, ClaimedDelivery
from ledger.webhooks.http_client import WebhookClient
from ledger.webhooks.messages import Message, make_message, make_ping
from ledger.webhooks.replays.records import drop_unreadable
from ledger.webhooks.schedule import order
from ledger.webhooks.schedule.disablement import Disablement
from ledger.webhooks.schedule.limits import AHEAD_SECONDS_MAX, START_DELIVERIES, AttemptLimits
from ledger.webhooks.schedule.outcomes import Outcome, OutcomeRecorder
from ledger.webhooks.signature import build_headers
from ledger.webhooks.switch import SwitchLog
from ledger.wire.event_destinations import PING_TYPE

RETRY_JITTER = 0.05
CLAIM_PAUSE_SECONDS = 0.01
"""Between two claims: under load, one claims what several would have."""
CLEANUP_INTERVAL_SECONDS = 3600.0
WITHDRAWAL_INTERVAL_SECONDS = 60.0
WITHDRAWAL_ENDPOINTS_MAX = 100
LOOP_CLOSE_TIMEOUT_SECONDS = 2.0
ATTEMPTS_CLOSE_TIMEOUT_SECONDS = 1.0
_STATEMENT_SECONDS_MAX = 10
_SETTINGS = PLANNER_SETTINGS | LOCAL_COMMITS | {"statement_timeout": f"{_STATEMENT_SECONDS_MAX}s"}

GetSecrets = Callable[[WebhookEndpoint, float], Sequence[str]]
"""Returns the secrets that sign for an endpoint at a time (unix seconds), newest first."""

log = structlog.get_logger()


class Sender:
    """Sends for one process."""

    def __init__(self, store: Store, settings: Settings, get_secrets: GetSecrets) -> None:
        self._store = store
        self._streams = store.streams
        self._clock = store.clock
        self._get_secrets = get_secrets
        self._disablement = Disablement(store, settings.webhook_disable_after_seconds)
        self._connection = ReconnectingConnection(
            store.dsn,
            "ledger_api",
            name="webhooks",
            settings=_SETTINGS,
            answer_seconds=_STATEMENT_SECONDS_MAX + ANSWER_GRACE_SECONDS,
        )
        self._is_off = settings.webhooks == "off"
        self._switch_log = SwitchLog(settings.webhooks)
        timeout_seconds = settings.webhook_timeout_ms / 1000
        # Long enough for an attempt and the statements before and after it.
        self._lease_seconds = AHEAD_SECONDS_MAX + 1.5 * timeout_seconds + 1
        self._limits = AttemptLimits(settings.webhook_attempts_max)
        self._recorder = OutcomeRecorder(store.dsn, store.clock, outcomes_max=settings.webhook_attempts_max)
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
        self._held: dict[str, asyncio.Task[None]] = {}
        self._claim_at = self._idle_work_at = self._cleanup_at = self._withdrawal_at = 0.0
        self._loop = BackgroundLoop(
            "webhook sender", self._send_due, close_timeout_seconds=LOOP_CLOSE_TIMEOUT_SECONDS
        )

    async def start(self) -> None:
        """Begin to send."""
        await self._recorder.start()
        await self._loop.start()

    def wake(self) -> None:
        """Look for due deliveries now instead of after the poll interval."""
        self._loop.wake()

    async def close(self) -> None:
        """Start no further attempt, let those under way finish for ATTEMPTS_CLOSE_TIMEOUT_SECONDS, and
        release the leases of the others, so that another process can send at once."""
        await self._loop.close()
        delivery_by_task = {task: delivery for delivery, task in self._held.items()}
        if delivery_by_task:
            _, unfinished = await asyncio.wait(delivery_by_task, timeout=ATTEMPTS_CLOSE_TIMEOUT_SECONDS)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
            with suppress(psycopg.Error, TimeoutError):  # leases also expire
                async with asyncio.timeout(ATTEMPTS_CLOSE_TIMEOUT_SECONDS), self._connection as conn:
                    await deliveries.release_leases(conn, [delivery_by_task[task] for task in unfinished])
        await self._recorder.close()
        for client in self._clients.values():
            await client.close()
        await self._connection.drop()

    async def _send_due(self) -> float:
        """Start what is due. The next step follows when outcomes are recorded or deliveries created, or after
        the poll interval."""
        if not self._is_off:
            await asyncio.sleep(self._claim_at - asyncio.get_running_loop().time())
            await self._start_due_attempts()
            self._claim_at = asyncio.get_running_loop().time() + CLAIM_PAUSE_SECONDS
        monotonic_now = asyncio.get_running_loop().time()
        if monotonic_now >= self._idle_work_at:
            self._idle_work_at = monotonic_now + self._poll_seconds
            async with self._connection as conn:
                await self._switch_log.observe(conn)
            await self._clean_up()
        return self._poll_seconds

    async def _start_due_attempts(self) -> None:
        """Claim due deliveries, as far as the limits allow, and start their attempts."""
        room = self._limits.get_room()
        if not room.in_all:
            return
        async with self._connection as conn:
            await self._clock.refresh(conn)
            claimed_deliveries = await deliveries.claim(
                conn,
                now=self._clock.now(),
                limit=room.in_all,
                endpoint_limit_default=START_DELIVERIES,
                endpoint_limits=room.of_endpoints,
                lease_seconds=self._lease_seconds,
            )
        self._limits.hold(room, [delivery.endpoint for delivery in claimed_deliveries])
        for delivery in claimed_deliveries:
            self._held[delivery.id] = asyncio.create_task(
                self._deliver(delivery), name=f"deliver {delivery.id}"
            )

    async def _deliver(self, delivery: ClaimedDelivery) -> None:
        """Make one attempt. After a failure of this service the delivery is due again when its lease
        expires."""
        try:
            endpoint = await self._streams.read(delivery.endpoint)
            assert isinstance(endpoint, WebhookEndpoint)
            if endpoint.deleted:
                await self._recorder.record(
                    Outcome(delivery.id, endpoint.id, endpoint.account, state="dropped")
                )
            elif (found := await self._make_message(delivery, endpoint)) is not None:
                await self._attempt(delivery, *found, endpoint)
        except UnreadableRecord as error:  # of the endpoint; sent once it can be read
            log.error("webhook_attempt_delayed", delivery=delivery.id, **error.to_log())
        except (psycopg.Error, LedgerError) as error:
            log.warning("webhook_attempt_delayed", delivery=delivery.id, reason=describe_error(error))
        except Exception as error:  # nobody awaits this task
            log.error("webhook_attempt_crashed", delivery=delivery.id, exc_info=error)
        finally:
            del self._held[delivery.id]
            if self._limits.release(delivery.endpoint) or delivery.object is not None:
                self.wake()

    async def _make_message(
        self, delivery: ClaimedDelivery, endpoint: WebhookEndpoint
    ) -> tuple[Message, str | None] | None:
        """What is sent, and the data subject whose data it has; None while the Event cannot be read."""
        if delivery.type == PING_TYPE:
            return make_ping(delivery.event_id, endpoint), None
        if delivery.feed_row is None:
            event = await self._load_past_event(delivery)
        else:
            run = self._connection.run_idempotent
            [event] = await open_events(run, self._store.codec, [delivery.feed_row])
        return None if event is None else (make_message(event, delivery.account, endpoint), event.subject)

    async def _attempt(
        self, delivery: ClaimedDelivery, message: Message, subject: str | None, endpoint: WebhookEndpoint
    ) -> None:
        """Make the attempt when its turn has come, unless the endpoint is disabled. One whose turn comes too
        late is made later. `subject` as from `_make_message`."""
        attempt = None
        if not endpoint.disabled:
            async with self._limits.attempt(endpoint.id) as may_begin:
                if may_begin:
                    attempt = await self._post(delivery, message, endpoint)
            if attempt is None:
                async with self._connection as conn:
                    await deliveries.release_leases(conn, [delivery.id])
                self.wake()
                return
            attempt = await self._seal_answer(attempt, subject)
        await self._record_outcome(delivery, message.id, endpoint, attempt)

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
                async with self._connection as conn, conn.transaction():
                    await drop_unreadable(conn, delivery.id)
                    await order.release_next(conn, delivery.id, self._clock.now())
            return None

    async def _seal_answer(self, attempt: Attempt, subject: str | None) -> Attempt:
        """The attempt with what was answered sealed for the subject of the Event; without it if the subject
        is erased by now."""
        if subject is None or not attempt.answer:
            return attempt
        keys = self._store.codec.data_keys
        keyring = await load_keyring(self._connection.run_idempotent, keys, [subject])
        if keyring.is_erased(subject):
            return attempt._replace(answer=None)
        if not keyring.may_seal or keyring.get(subject) is None:
            return attempt
        sealed = seal_document(keyring, subject, attempt.answer)
        return attempt._replace(answer=None, sealed_answer=sealed)

    async def _post(self, delivery: ClaimedDelivery, message: Message, endpoint: WebhookEndpoint) -> Attempt:
        now = self._clock.now()
        headers = build_headers(endpoint, delivery, message, self._get_secrets(endpoint, now), int(now))
        client = self._clients[endpoint.livemode]
        attempt = await client.post(endpoint.url, message.body, headers, sent_at=now)
        self._limits.observe(endpoint.id, attempt.duration_ms / 1000, succeeded=attempt.succeeded)
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
            pause_seconds = retry_seconds[delivery.attempts_made] * jitter_factor
            asked_seconds = 0.0 if attempt is None else attempt.pause_seconds
            due_at = self._clock.now() + max(pause_seconds, asked_seconds)
        in_order = delivery.object is not None
        change = await self._recorder.record(
            Outcome(delivery.id, endpoint.id, endpoint.account, state, due_at, attempt, in_order)
        )
        if change is not None:
            health.log_change(change, delivery=delivery.id, event=event)
        if attempt is None:
            async with self._connection as conn:
                await health.withdraw(conn, endpoint.id, "disabled")
        elif not attempt.succeeded:
            async with self._connection as conn:
                await self._disablement.consider(conn, endpoint, attempt.at)
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
                await order.release_first(conn, now)
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
