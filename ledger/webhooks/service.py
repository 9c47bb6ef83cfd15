"""Webhooks in one process: the fan-out and the sender, started and closed together."""

from __future__ import annotations

import asyncio

from ledger.background import BackgroundLoop
from ledger.config import Settings
from ledger.store.store import Store
from ledger.webhooks.fanout import Fanout
from ledger.webhooks.sender import GetSecrets, Sender

CLOSE_TIMEOUT_SECONDS = 2.0


class WebhookService:
    """Runs a fan-out and a sender."""

    def __init__(self, store: Store, settings: Settings, get_secrets: GetSecrets) -> None:
        self._head_notifier = store.notifier
        self._fanout = Fanout(store)
        self._fanout_loop = BackgroundLoop(
            "webhook fan-out", self._fan_out, close_timeout_seconds=CLOSE_TIMEOUT_SECONDS
        )
        self._sender = Sender(store, settings, get_secrets)
        self._poll_seconds = settings.poll_ms / 1000

    async def start(self) -> None:
        """Begin to fan out and to send."""
        await self._fanout_loop.start()
        await self._sender.start()

    async def close(self) -> None:
        """Finish the fan-out step under way, and the attempts under way that end soon."""
        await asyncio.gather(self._fanout_loop.close(), self._sender.close())
        await self._fanout.close()

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
