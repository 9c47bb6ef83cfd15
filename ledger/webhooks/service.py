"""Webhooks in one process: the fan-out, the sender, replays and retries, started and closed together."""

from __future__ import annotations

import asyncio

from ledger.background import BackgroundLoop
from ledger.config import Settings
from ledger.postgres.connections import ANSWER_GRACE_SECONDS, ReconnectingConnection
from ledger.store.store import Store
from ledger.webhooks.fanout import SETTINGS, STATEMENT_SECONDS_MAX, Fanout
from ledger.webhooks.replays.job import ACTIVE_POLL_SECONDS, IDLE_POLL_SECONDS, ReplayJob
from ledger.webhooks.retries.job import RetryJob
from ledger.webhooks.sender import GetSecrets, Sender

CLOSE_TIMEOUT_SECONDS = 2.0


def connect_jobs(store: Store) -> ReconnectingConnection:
    """The connection that replays and retries of one process take turns with."""
    return ReconnectingConnection(
        store.dsn,
        "ledger_api",
        name="webhooks jobs",
        settings=SETTINGS,
        answer_seconds=STATEMENT_SECONDS_MAX + ANSWER_GRACE_SECONDS,
    )


class WebhookService:
    """Runs a fan-out, a sender, replays and retries."""

    def __init__(self, store: Store, settings: Settings, get_secrets: GetSecrets) -> None:
        self._head_notifier = store.notifier
        self._fanout = Fanout(store)
        self._fanout_loop = BackgroundLoop(
            "webhook fan-out", self._fan_out, close_timeout_seconds=CLOSE_TIMEOUT_SECONDS
        )
        self._sender = Sender(store, settings, get_secrets)
        self._job_connection = connect_jobs(store)
        self._replay_job = ReplayJob(store, self._job_connection)
        self._retry_job = RetryJob(store, self._job_connection)
        self._job_loop = BackgroundLoop(
            "webhook jobs", self._advance_jobs, close_timeout_seconds=CLOSE_TIMEOUT_SECONDS
        )
        self._is_off = settings.webhooks == "off"
        self._poll_seconds = settings.poll_ms / 1000

    async def start(self) -> None:
        """Begin to fan out and to send."""
        await self._fanout_loop.start()
        await self._sender.start()
        if not self._is_off:
            await self._job_loop.start()

    async def close(self) -> None:
        """Finish the fan-out step under way, and the attempts under way that end soon."""
        await asyncio.gather(self._fanout_loop.close(), self._sender.close(), self._job_loop.close())
        await asyncio.gather(self._fanout.close(), self._job_connection.drop())

    async def _fan_out(self) -> float:
        """Advance the fan-out, then wait until projections have applied more of the log. While no account has
        an endpoint, polling is enough: the first endpoint may wait for one poll."""
        applied_seen = self._head_notifier.applied_position
        result = await self._fanout.advance()
        if result.new_deliveries:
            self._sender.wake()
        if result.has_more:
            return 0
        if result.no_endpoints and (result.checkpoint_moved or result.feed_behind):
            return self._poll_seconds
        poll_seconds = self._poll_seconds
        if not result.feed_behind:
            poll_seconds = self._head_notifier.get_poll_seconds(poll_seconds)
        await self._head_notifier.wait_applied(applied_seen + 1, timeout_seconds=poll_seconds)
        return 0

    async def _advance_jobs(self) -> float:
        """Go on with the replays and retries that run, and have the sender send what became due."""
        replays, retries = await self._replay_job.advance(), await self._retry_job.advance()
        if replays.queued or retries.made_due:
            self._sender.wake()
        if replays.has_more or retries.has_more:
            return 0
        return ACTIVE_POLL_SECONDS if replays.active or retries.active else IDLE_POLL_SECONDS
