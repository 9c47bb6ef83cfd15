"""The one loop behind everything a process does beside answering requests, and how it starts and ends.

A loop outlives whatever its work raises: the failure is logged once per reason, the work is tried again after
a backoff, and its recovery is logged. Closing lets the work under way finish, up to a deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

import psycopg
import structlog

from ledger.errors import LedgerError

BACKOFF_SECONDS_MIN = 0.25
BACKOFF_SECONDS_MAX = 5.0
CLOSE_TIMEOUT_SECONDS = 3.0

log = structlog.get_logger()


class Service(Protocol):
    """Something that runs beside the API, or in a worker, from `start` until `close` returns."""

    async def start(self) -> None:
        """Begin. Returns once the service works, or is known not to work for now."""

    async def close(self) -> None:
        """Finish the work under way and end, within seconds."""


class BackgroundLoop:
    """Calls `step` again and again in a task of its own, named `name` in logs.

    step                   one piece of work; returns the seconds to wait before the next one, 0 for none
    backoff_seconds_min    wait after the first failure; it doubles with each further one …
    backoff_seconds_max    … up to this, and starts over after a success
    close_timeout_seconds  how long `close` waits for the step under way before it cancels it
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], Awaitable[float]],
        *,
        backoff_seconds_min: float = BACKOFF_SECONDS_MIN,
        backoff_seconds_max: float = BACKOFF_SECONDS_MAX,
        close_timeout_seconds: float = CLOSE_TIMEOUT_SECONDS,
    ) -> None:
        self._name = name
        self._step = step
        self._backoff_seconds_min = backoff_seconds_min
        self._backoff_seconds_max = backoff_seconds_max
        self._close_timeout_seconds = close_timeout_seconds
        self._wakeup = asyncio.Event()
        self._closing = False
        self._failure: str | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def closing(self) -> bool:
        """Whether `close` was called: a long step ends at the next point where it may."""
        return self._closing

    async def start(self) -> None:
        """Begin with the first step."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    def wake(self) -> None:
        """Begin the next step now rather than after the wait."""
        self._wakeup.set()

    async def close(self) -> None:
        """End after the step under way; cancel it when it takes longer than `close_timeout_seconds`."""
        self._closing = True
        self._wakeup.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=self._close_timeout_seconds)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        backoff_seconds = self._backoff_seconds_min
        while not self._closing:
            self._wakeup.clear()
            try:
                wait_seconds = await self._step()
            except Exception as error:  # a loop outlives its failures
                self._log_failure(error)
                wait_seconds = backoff_seconds
                backoff_seconds = min(backoff_seconds * 2, self._backoff_seconds_max)
            else:
                self._log_recovery()
                backoff_seconds = self._backoff_seconds_min
            if wait_seconds > 0 and not self._closing:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_seconds):
                        await self._wakeup.wait()

    def _log_failure(self, error: Exception) -> None:
        """One line per reason. The text of an error may quote personal data, so its type stands for it."""
        reason = type(error).__name__
        if reason == self._failure:
            return
        self._failure = reason
        if isinstance(error, psycopg.Error | LedgerError):
            log.warning("background_work_delayed", loop=self._name, reason=reason)
        else:
            log.error("background_work_failed", loop=self._name, reason=reason, exc_info=error)

    def _log_recovery(self) -> None:
        if self._failure is not None:
            log.info("background_work_recovered", loop=self._name, reason=self._failure)
            self._failure = None
