"""Alerts in one process: the watcher and the notifier, which share a connection and the lease."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from ledger.alerts.lease import SETTINGS, Lease
from ledger.alerts.notices import DueNotice, list_due, render_event, send, settle
from ledger.alerts.readings import Look
from ledger.alerts.receivers import ReceiverKeys
from ledger.alerts.rules import Limits
from ledger.alerts.watcher import LOOK_SECONDS, Watcher
from ledger.background import BackgroundLoop
from ledger.config import Settings
from ledger.postgres.connections import ReconnectingConnection
from ledger.store.store import Store
from ledger.webhooks.http_client import WebhookClient

POLL_SECONDS = 1.0
TIMEOUT_SECONDS = 5.0
HOUR_SECONDS = 3600.0

log = structlog.get_logger()


def make_client(settings: Settings) -> WebhookClient:
    """What posts to receivers, which operators choose: their networks are private ones."""
    return WebhookClient(allow_private=settings.alert_private_addresses, timeout_seconds=TIMEOUT_SECONDS)


class AlertService:
    """Watches and sends while this process holds the lease. Every process has one, whatever else it does: so
    none can silence alerts by ending. `projections`: those of this release; None: all the database has."""

    def __init__(self, store: Store, settings: Settings, projections: Sequence[str] | None) -> None:
        self._connection = ReconnectingConnection(store.dsn, "ledger_api", name="alerts", settings=SETTINGS)
        self._lease = Lease()
        self._notifier = Notifier(
            self._connection, self._lease, ReceiverKeys(store.service_keys), make_client(settings)
        )
        stalled_seconds = float(settings.alert_stalled_seconds)
        look = Look(
            projections,
            waits_seconds=stalled_seconds - 1.5 * LOOK_SECONDS,
            due_seconds=(
                settings.alert_due_hours * HOUR_SECONDS,
                settings.alert_due_critical_hours * HOUR_SECONDS,
            ),
        )
        limits = Limits(
            stalled_seconds=stalled_seconds,
            critical_seconds=float(settings.alert_critical_seconds),
            seal_seconds=settings.seal_ms / 1000,
            endpoint_failures=settings.alert_endpoint_failures,
        )
        self._watcher = Watcher(self._connection, store.clock, self._lease, look, limits, self._notifier.wake)

    async def start(self) -> None:
        """Begin to ask for the lease."""
        await self._watcher.start()
        await self._notifier.start()

    async def close(self) -> None:
        """Let another process watch, and cancel what is being sent: that one sends it again."""
        await self._notifier.close()
        await self._watcher.close()
        await self._connection.drop()


class Notifier:
    """Sends notices, one at a time to each receiver, so that one that hangs delays no other."""

    def __init__(
        self, connection: ReconnectingConnection, lease: Lease, keys: ReceiverKeys, client: WebhookClient
    ) -> None:
        self._connection = connection
        self._lease = lease
        self._keys = keys
        self._client = client
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loop = BackgroundLoop("alert notices", self._send_due)

    async def start(self) -> None:
        """Begin to look for notices."""
        await self._loop.start()

    def wake(self) -> None:
        """Look for notices now."""
        self._loop.wake()

    async def close(self) -> None:
        """Cancel the attempts under way."""
        await self._loop.close()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    async def _send_due(self) -> float | None:
        if not self._lease.is_held:
            return None  # the watcher wakes it once this process holds the lease
        async with self._connection as conn:
            due = await list_due(conn, list(self._tasks))
        for notice in due:
            self._tasks[notice.receiver] = asyncio.create_task(
                self._deliver(notice), name=f"notify {notice.receiver}"
            )
        return POLL_SECONDS

    async def _deliver(self, notice: DueNotice) -> None:
        try:
            url = self._keys.open(notice.receiver, notice.sealed_url)
            attempt = await send(
                self._client, self._keys, notice.receiver, url, notice.event, render_event(notice)
            )
            if not attempt.succeeded and not notice.attempts:
                reason = attempt.error or f"status {attempt.status}"
                log.warning("alert_notice_delayed", receiver=notice.receiver, reason=reason)
            async with self._connection as conn:
                await settle(conn, notice, attempt)
        except Exception as error:  # nobody awaits this task: the notice stays due
            log.error("alert_notice_failed", receiver=notice.receiver, exc_info=error)
            await asyncio.sleep(POLL_SECONDS)
        finally:
            del self._tasks[notice.receiver]
            self.wake()
