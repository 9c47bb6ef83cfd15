"""The loop behind all background work of a process, and the interface by which such work starts and ends.

A loop survives every exception of its work: it logs a failure once per reason, retries after a backoff, and
logs the recovery. A step has a limit of time, at which it is abandoned and fails: a loop does not wait for
ever on a server that hangs. `close` lets the step under way finish, up to a timeout. A process can say for
how long each of its loops has finished no step, and which hang.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol
from weakref import WeakSet

import psycopg
import structlog

from ledger.errors import LedgerError, StepAbandoned
from ledger.logs import describe_error

BACKOFF_SECONDS_MIN = 0.25
BACKOFF_SECONDS_MAX = 5.0
CLOSE_TIMEOUT_SECONDS = 3.0
CLOSE_SECONDS_MIN = 0.05
STEP_TIMEOUT_SECONDS = 75.0
"""More than the limit of any one of their statements."""
LONG_STEP_TIMEOUT_SECONDS = 240.0
"""For steps with statements that take long: they drop tables, compare rows, delete what is old."""
STEP_SECONDS_MAX = 300.0
"""A step that takes longer hangs, though it was abandoned before."""

log = structlog.get_logger()


class Service(Protocol):
    """Background work that runs beside the API, or in a worker, from `start` until `close` returns."""

    async def start(self) -> None:
        """Begin. Returns once the service works, or has found that it cannot work for now."""

    async def close(self) -> None:
        """Finish the work under way and end, within seconds."""


class Closers:
    """What a process closes at its end, in reverse order and within one time: a database that hangs does not
    keep it from ending, and what it has not stored by then is stored nowhere else."""

    def __init__(self) -> None:
        self._closes: list[tuple[str, Callable[[], Awaitable[None]]]] = []

    def add(self, name: str, close: Callable[[], Awaitable[None]]) -> None:
        """Call `close` at the end, before those that were added earlier. Logs name it `name`."""
        self._closes.append((name, close))

    async def start(self, services: Sequence[Service]) -> None:
        """Start the services, one after the other. They are closed together."""
        started: list[Service] = []

        async def close_started() -> None:
            closes = (service.close() for service in started)
            for error in await asyncio.gather(*closes, return_exceptions=True):
                if error is not None:
                    raise error  # once the others are closed, too: what was opened before them is theirs

        self.add(", ".join(type(service).__name__ for service in services), close_started)
        for service in services:
            started.append(service)
            await service.start()

    async def close(self, within_seconds: float) -> None:
        """Close everything, also when one of them fails. What takes longer is cancelled, and each that comes
        after it gets CLOSE_SECONDS_MIN."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_seconds
        while self._closes:
            name, close = self._closes.pop()
            try:
                async with asyncio.timeout_at(max(deadline, loop.time() + CLOSE_SECONDS_MIN)):
                    await close()
            except TimeoutError:
                log.warning("close_abandoned", what=name)
            except Exception as error:
                log.error("close_failed", what=name, exc_info=error)


class BackgroundLoop:
    """Calls `step` again and again in a task of its own; logs name it `name`.

    step                   one piece of work. Returns the seconds to wait before the next one: 0 for no wait,
                           None to wait until `wake` is called
    backoff_seconds_min    wait after the first failure. It doubles with each further failure …
    backoff_seconds_max    … up to this, and starts over after a success
    step_timeout_seconds   how long a step may take before it is cancelled, and counts as failed
    close_timeout_seconds  how long `close` waits for the step under way before it cancels it

    `wake` ends a wait, also one that is about to begin, but never a backoff: frequent calls of
    `wake` must not cause frequent retries.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], Awaitable[float | None]],
        *,
        backoff_seconds_min: float = BACKOFF_SECONDS_MIN,
        backoff_seconds_max: float = BACKOFF_SECONDS_MAX,
        step_timeout_seconds: float = STEP_TIMEOUT_SECONDS,
        close_timeout_seconds: float = CLOSE_TIMEOUT_SECONDS,
    ) -> None:
        self._name = name
        self._step = step
        self._backoff_seconds_min = backoff_seconds_min
        self._backoff_seconds_max = backoff_seconds_max
        self._step_timeout_seconds = step_timeout_seconds
        self._close_timeout_seconds = close_timeout_seconds
        self._woken = asyncio.Event()
        self._close_requested = asyncio.Event()
        self._failure_reason: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._step_began_at: float | None = None
        self._unfinished_since: float | None = None

    @property
    def name(self) -> str:
        """Its name in logs."""
        return self._name

    @property
    def closing(self) -> bool:
        """Whether `close` was called."""
        return self._close_requested.is_set()

    @property
    def step_should_end(self) -> bool:
        """Whether half of the time of the step under way has passed, or `close` was called: a step that does
        all there is to do checks this, and then leaves the rest to the next one."""
        if self._step_began_at is None:
            return self.closing
        seconds = asyncio.get_running_loop().time() - self._step_began_at
        return self.closing or seconds > self._step_timeout_seconds / 2

    async def start(self) -> None:
        """Begin with the first step, at once. A loop is started once."""
        assert self._task is None, "a loop is started once"
        self._task = asyncio.create_task(self._run(), name=self._name)
        _started_loops.add(self)

    def is_hung(self, step_seconds_max: float = STEP_SECONDS_MAX) -> bool:
        """Whether it no longer turns: its step under way takes longer than this, or it ended by itself."""
        if self.closing or self._task is None:
            return False
        began_at = self._step_began_at
        if began_at is None:
            return self._task.done()
        return self._task.get_loop().time() - began_at > step_seconds_max

    @property
    def seconds_since_last_step(self) -> float:
        """For how long it has had something to do and finished no step: 0 while it waits for the next one."""
        if self._unfinished_since is None or self.closing or self._task is None:
            return 0.0
        return self._task.get_loop().time() - self._unfinished_since

    def wake(self) -> None:
        """Begin the next step now rather than after the wait; after the step under way, if there is one."""
        self._woken.set()

    async def close(self) -> None:
        """End after the step under way; cancel it when it takes longer than `close_timeout_seconds`. Never
        raises what the step raises. May be called again, and without `start`."""
        self._close_requested.set()
        self._woken.set()
        if self._task is None:
            return
        try:
            await asyncio.wait({self._task}, timeout=self._close_timeout_seconds)
        finally:
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        backoff_seconds = self._backoff_seconds_min
        while not self.closing:
            self._woken.clear()
            self._step_began_at = asyncio.get_running_loop().time()
            if self._unfinished_since is None:
                self._unfinished_since = self._step_began_at
            try:
                wait_seconds = await self._run_step()
            except Exception as error:
                self._step_began_at = None
                self._log_failure(error)
                await _wait(self._close_requested, backoff_seconds)
                backoff_seconds = min(backoff_seconds * 2, self._backoff_seconds_max)
            else:
                self._step_began_at = self._unfinished_since = None
                self._log_recovery()
                backoff_seconds = self._backoff_seconds_min
                if not self.closing:
                    await _wait(self._woken, wait_seconds)

    async def _run_step(self) -> float | None:
        limit = asyncio.timeout(self._step_timeout_seconds)
        try:
            async with limit:
                return await self._step()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise StepAbandoned(f"no end within {self._step_timeout_seconds:g} s") from error

    def _log_failure(self, error: Exception) -> None:
        """Log a failure, once per reason: an outage is one line, not one line a retry."""
        reason = describe_error(error)
        if reason == self._failure_reason:
            return
        self._failure_reason = reason
        if isinstance(error, psycopg.Error | LedgerError):
            log.warning("background_work_delayed", loop=self._name, reason=reason)
        else:
            log.error("background_work_failed", loop=self._name, reason=reason, exc_info=error)

    def _log_recovery(self) -> None:
        if self._failure_reason is not None:
            log.info("background_work_recovered", loop=self._name, reason=self._failure_reason)
            self._failure_reason = None


_started_loops: WeakSet[BackgroundLoop] = WeakSet()


def list_hung_loops(step_seconds_max: float = STEP_SECONDS_MAX) -> list[str]:
    """Names of the loops of this process that no longer turn, see `BackgroundLoop.is_hung`."""
    return sorted(loop.name for loop in _started_loops if loop.is_hung(step_seconds_max))


def measure_loops() -> dict[str, float]:
    """By name of each loop of this process, for how many seconds it has had something to do and finished no
    step. Of loops with the same name, the one that is worst."""
    seconds: dict[str, float] = {}
    for loop in _started_loops:
        if not loop.closing:
            seconds[loop.name] = max(seconds.get(loop.name, 0.0), loop.seconds_since_last_step)
    return dict(sorted(seconds.items()))


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    """Wait until `event` is set, for `seconds` at most. Lets other tasks run in any case."""
    if seconds == 0:
        await asyncio.sleep(0)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
