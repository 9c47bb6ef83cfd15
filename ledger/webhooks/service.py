"""Webhooks in one process: fan-out and sender side by side, from start to an orderly end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import psycopg
import structlog

from ledger.config import Settings
from ledger.errors import LedgerError
from ledger.store.store import Store
from ledger.webhooks.fanout import Fanout, FanoutResult
from ledger.webhooks.sender import Sender

POLL_SECONDS_MIN = 0.01
ERROR_BACKOFF_SECONDS = 2.0
CLOSE_TIMEOUT_SECONDS = 2.0

log = structlog.get_logger()


class WebhookService:
    """`get_secrets` gives the secrets that sign what is sent to an endpoint."""

    def __init__(self, store: Store, settings: Settings, get_secrets: Callable[[str], Sequence[str]]) -> None:
        self._head_notifier = store.notifier
        self._fanout = Fanout(store)
        self._sender = Sender(store, settings, get_secrets)
        self._poll_seconds = settings.poll_ms / 1000
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._run_fanout(), name="webhooks fan-out"),
            asyncio.create_task(self._sender.run(), name="webhooks sender"),
        ]

    async def close(self) -> None:
        """Finish the step under way, then what is being sent, if that is soon."""
        self._stopping.set()
        self._sender.stop()
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=CLOSE_TIMEOUT_SECONDS)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._sender.close()
        await self._fanout.close()

    async def _run_fanout(self) -> None:
        """The feed comes a little after the log, so it is looked at often while it is behind, and ever less
        often while it gets no further. The first endpoint may wait for one look."""
        pause_seconds = POLL_SECONDS_MIN
        while not self._stopping.is_set():
            head_seen = self._head_notifier.position
            try:
                result = await self._fanout.advance()
            except (psycopg.Error, LedgerError) as error:
                log.warning("webhooks_delayed", reason=type(error).__name__)
                await self._sleep(ERROR_BACKOFF_SECONDS)
                continue
            except Exception as error:  # the edge: told, waited out, tried again
                log.error("fault", exc_info=error)
                await self._sleep(ERROR_BACKOFF_SECONDS)
                continue
            if result.new_deliveries:
                self._sender.wake()
            if result.has_more:
                continue
            pause_seconds = (
                min(pause_seconds * 2, self._poll_seconds)
                if result.feed_behind and not result.checkpoint_moved
                else POLL_SECONDS_MIN
            )
            await self._wait_for_work(result, head_seen, pause_seconds)

    async def _wait_for_work(self, result: FanoutResult, head_seen: int, pause_seconds: float) -> None:
        if result.no_endpoints:
            await self._sleep(self._poll_seconds)
        elif result.checkpoint_moved or result.feed_behind:
            await self._sleep(pause_seconds)
        else:
            await self._head_notifier.wait_past(
                max(head_seen, result.head), timeout_seconds=self._poll_seconds
            )

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
