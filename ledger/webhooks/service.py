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
from ledger.webhooks.fanout import Fanout, Step
from ledger.webhooks.sender import Sender

PAUSE_SECONDS = 0.01
RETRY_SECONDS = 2.0
CLOSE_SECONDS = 2.0

log = structlog.get_logger()


class Webhooks:
    """`secrets_of` gives the secrets that sign what is sent to an endpoint."""

    def __init__(self, store: Store, settings: Settings, secrets_of: Callable[[str], Sequence[str]]) -> None:
        self._wake = store.wake
        self._fanout = Fanout(store)
        self._sender = Sender(store, settings, secrets_of)
        self._poll_seconds = settings.poll_ms / 1000
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._follow(), name="webhooks fan-out"),
            asyncio.create_task(self._sender.run(), name="webhooks sender"),
        ]

    async def close(self) -> None:
        """Finish the step under way, then what is being sent, if that is soon."""
        self._stopping.set()
        self._sender.stop()
        if self._tasks:
            _, hanging = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
            for task in hanging:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._sender.close()
        await self._fanout.close()

    async def _follow(self) -> None:
        """The feed comes a little after the log, so it is looked at often while it is behind, and ever less
        often while it gets no further. The first endpoint may wait for one look."""
        pause = PAUSE_SECONDS
        while not self._stopping.is_set():
            heard = self._wake.position
            try:
                step = await self._fanout.step()
            except (psycopg.Error, LedgerError) as error:
                log.warning("webhooks_delayed", reason=type(error).__name__)
                await self._rest(RETRY_SECONDS)
                continue
            except Exception as error:  # the edge: told, waited out, tried again
                log.error("fault", exc_info=error)
                await self._rest(RETRY_SECONDS)
                continue
            if step.owed:
                self._sender.wake()
            if step.more:
                continue
            pause = min(pause * 2, self._poll_seconds) if step.behind and not step.moved else PAUSE_SECONDS
            await self._until_next(step, heard, pause)

    async def _until_next(self, step: Step, heard: int, pause: float) -> None:
        if step.nobody:
            await self._rest(self._poll_seconds)
        elif step.moved or step.behind:
            await self._rest(pause)
        else:
            await self._wake.beyond(max(heard, step.head), timeout_seconds=self._poll_seconds)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
