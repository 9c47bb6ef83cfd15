"""Webhooks in one process: the fan-out, the sender and replays, started and closed together."""

from __future__ import annotations

import asyncio

from ledger.background import BackgroundLoop
from ledger.config import Settings
from ledger.store.store import Store
from ledger.webhooks.fanout import Fanout
from ledger.webhooks.replays.job import ACTIVE_POLL_SECONDS, IDLE_POLL_SECONDS, ReplayJob
from ledger.webhooks.sender import GetSecrets, Sender

CLOSE_TIMEOUT_SECONDS = 2.0


class WebhookService:
    """Runs a fan-out, a sender and replays."""

    def __init__(self, store: Store, settings: Settings, get_secrets: GetSecrets) -> None:
        self._head_notifier = store.notifier
        self._fanout = Fanout(store)
        self._fanout_loop = BackgroundLoop(
            "webhook fan-out", self._fan_out, close_timeout_seconds=CLOSE_TIMEOUT_SECONDS
        )
        self._sender = Sender(store, settings, get_secrets)
        self._replay_job = ReplayJob(store)
        self._replay_loop = BackgroundLoop(
            "webhook replays", self._replay, close_timeout_seconds=CLOSE_TIMEOUT_SECONDS
        )
        self._is_off = settings.webhooks == "off"
        self._poll_seconds = settings.poll_ms / 1000

    async def start(self) -> None:
        """Begin to fan out and to send."""
        await self._fanout_loop.start()
        await self._sender.start()
        if not self._is_off:
            await self._replay_loop.start()

    async def close(self) -> None:
        """Finish the fan-out step under way, and the attempts under way that end soon."""
        await asyncio.gather(self._fanout_loop.close(), self._sender.close(), self._replay_loop.close())
        await asyncio.gather(self._fanout.close(), self._replay_job.close())

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

    async def _replay(self) -> float:
        """Go on with the replays that run, and have the sender send what became due."""
        result = await self._replay_job.advance()
        if result.queued:
            self._sender.wake()
        if result.has_more:
            return 0
        return ACTIVE_POLL_SECONDS if result.active else IDLE_POLL_SECONDS
