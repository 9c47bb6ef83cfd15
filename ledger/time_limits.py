"""How long a request may take, and how what it waits for is asked again until then.

A request of either API has one limit, from its start until its answer begins (`RequestLimit`). What it waits
for ends with it, and a database that is lost meanwhile is asked again until then (`Attempts`): a failover
that is shorter than the limit makes an answer late, and no error.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Self

from ledger.errors import Unavailable

REASON_SECONDS = 0.05
PAUSE_SECONDS_MIN = 0.05
PAUSE_SECONDS_MAX = 0.5


class RequestLimit:
    """Limits one request: `async with RequestLimit(seconds):` raises Unavailable at the limit.

    What is under way then is cancelled. A commit never is: the log is written in a task of its own.

    deadline  a time of the event loop; infinite while nothing is counted
    """

    _timeout: asyncio.Timeout
    _token: Token[RequestLimit | None]

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.deadline = math.inf
        self._met: str | None = None

    async def __aenter__(self) -> Self:
        self.deadline = asyncio.get_running_loop().time() + self._seconds
        self._timeout = asyncio.timeout_at(self.deadline)
        await self._timeout.__aenter__()
        self._token = _current.set(self)
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._token)
        try:
            await self._timeout.__aexit__(error_type, error, trace)
        except TimeoutError:
            met = "" if self._met is None else f"; before that: {self._met}"
            raise Unavailable(f"no answer within {self._seconds:g} s, the limit of a request{met}") from error

    def note(self, failure: BaseException) -> None:
        """An attempt of this request has failed and is repeated: if none ends in time, this says why."""
        self._met = str(failure).strip().partition("\n")[0] or self._met

    def lift(self) -> None:
        """The answer begins: from now on each step has its own limit."""
        self.move(math.inf)

    def move(self, deadline: float) -> None:
        """Let it end at another time, unless it has ended."""
        if not self._timeout.expired():
            self.deadline = deadline
            self._timeout.reschedule(None if deadline == math.inf else deadline)


_current: ContextVar[RequestLimit | None] = ContextVar("request_limit", default=None)


def get_request_limit() -> RequestLimit | None:
    """The limit of the request that this code works for; None outside of a request."""
    return _current.get()


def adopt_request_limit(limit: RequestLimit | None) -> None:
    """Let this task work for another request from now on."""
    _current.set(limit)


@contextmanager
def pause_request_limit() -> Iterator[None]:
    """Do not count the time spent inside, in which the client is waited for."""
    limit = _current.get()
    if limit is None or limit.deadline == math.inf:
        yield
        return
    loop = asyncio.get_running_loop()
    seconds_left = limit.deadline - loop.time()
    limit.move(math.inf)
    try:
        yield
    finally:
        limit.move(loop.time() + seconds_left)


def get_deadline(seconds: float) -> float:
    """The end of a wait of `seconds` that begins now, or that of the request if it is earlier; a time of the
    event loop."""
    deadline = asyncio.get_running_loop().time() + seconds
    limit = _current.get()
    return deadline if limit is None else min(deadline, limit.deadline)


def get_request_deadline(seconds: float) -> float:
    """The deadline of the request, a moment before its limit, which does not say what was waited for. Outside
    of a request, and once its answer has begun, `seconds` from now."""
    limit = _current.get()
    if limit is None or limit.deadline == math.inf:
        return asyncio.get_running_loop().time() + seconds
    return limit.deadline - REASON_SECONDS


class Attempts:
    """The attempts of one call until `deadline`: begin each with `begin()`, and go on after a lost connection
    while `await pause(failure)`.

    One that hangs leaves time for another: an attempt that begins in the first half of the time ends with it.
    """

    def __init__(self, deadline: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.deadline = deadline
        self._half = (self._loop.time() + deadline) / 2
        self._pause_seconds = PAUSE_SECONDS_MIN

    def begin(self) -> float:
        """The deadline of the attempt that begins now."""
        return self.deadline if self._loop.time() >= self._half else self._half

    async def pause(self, failure: BaseException) -> bool:
        """Wait before the next attempt, each time longer. Returns False, at once, if there is no time for
        another one. `failure` is what this one met."""
        limit = _current.get()
        if limit is not None:
            limit.note(failure)
        if self._loop.time() + self._pause_seconds >= self.deadline:
            return False
        await asyncio.sleep(self._pause_seconds)
        self._pause_seconds = min(2 * self._pause_seconds, PAUSE_SECONDS_MAX)
        return True
