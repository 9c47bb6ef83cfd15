"""Counts the requests of one API process, and keeps those that failed: the request log, off the request path.

A request costs an addition in a dictionary. What has come together is stored every STORE_SECONDS, in one
statement: a process that is killed loses that much. What the database cannot take waits here, within limits;
what is beyond them is counted as left out. Nothing of parameters, bodies or secrets is kept.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from typing import Literal

import psycopg
import structlog

from ledger.background import BackgroundLoop
from ledger.postgres.connections import BACKGROUND_ANSWER_SECONDS, ReconnectingConnection, first_line
from ledger.postgres.sessions import LOCAL_COMMITS
from ledger.request_log.requests import NO_ERROR, FinishedRequest, describe_request, read_error_kind
from ledger.request_log.retention import Retention
from ledger.request_log.storage import BUCKETS, Batch, Count, CountKey, store_batch
from ledger.store.store import Store

Kept = Literal["all", "errors"]
"""Which requests are kept, besides the counts of all."""

STORE_SECONDS = 1.0
ROWS_PER_STEP_MAX = 500
"""Requests kept of one step. More are only counted: a flood of errors does not fill the disk."""
ERRORS_PER_STEP_MAX = 200
"""Errors of one step that are told apart by code and parameter: clients may make up any number of these."""
COUNTS_MAX = 20_000
BATCHES_MAX = 60
"""Steps that wait for the database. What comes later is added to one more."""
ROWS_WAITING_MAX = 2_000
CLOSE_SECONDS_MAX = 0.5

log = structlog.get_logger()


class RequestRecorder:
    """The request log of one process."""

    def __init__(self, store: Store, kept: Kept) -> None:
        self.keeps_all = kept == "all"
        self._clock = store.clock
        self._batch: Batch | None = None
        self._waiting: deque[Batch] = deque()
        self._connection = ReconnectingConnection(
            store.dsn,
            "ledger_api",
            name="requests",
            settings=LOCAL_COMMITS,
            answer_seconds=BACKGROUND_ANSWER_SECONDS,
        )
        self._loop = BackgroundLoop("requests", self._run_step, close_timeout_seconds=CLOSE_SECONDS_MAX)
        self._retention = Retention(self._connection, store.clock)

    async def start(self) -> None:
        """Begin to store."""
        await self._loop.start()
        await self._retention.start()

    async def close(self) -> None:
        """Store what is left, if the database takes it now, and stop."""
        await self._retention.close()
        await self._loop.close()
        try:
            await self._store()
        except psycopg.Error as error:
            log.warning("requests_not_recorded", reason=first_line(error))
        await self._connection.drop()

    def count(self, account: str, livemode: bool, operation: str, status: int, seconds: float) -> None:
        """Count a request that succeeded and took so many seconds."""
        self._count((account, livemode, operation, status, *NO_ERROR), seconds)

    def add(self, request: FinishedRequest) -> None:
        """Count a request, and keep it if there is room."""
        kind = NO_ERROR if request.error_body is None else read_error_kind(request.error_body)
        key = (request.account, request.livemode, request.operation, request.status, *kind)
        batch = self._batch or self._begin()
        if kind != NO_ERROR and key not in batch.counts:
            if batch.error_kinds >= ERRORS_PER_STEP_MAX:
                key = (*key[:4], *NO_ERROR)
            batch.error_kinds += 1
        count = self._count(key, request.seconds)
        waiting = sum(len(each.rows) for each in self._waiting)
        if len(batch.rows) < ROWS_PER_STEP_MAX and waiting + len(batch.rows) < ROWS_WAITING_MAX:
            batch.rows.append(describe_request(request, key[4:], self._clock.now()))
        else:
            count.left_out += 1

    def _count(self, key: CountKey, seconds: float) -> Count:
        batch = self._batch or self._begin()
        count = batch.counts.get(key)
        if count is None:
            if len(batch.counts) >= COUNTS_MAX:  # the database has been away for long
                key = ("", False, "none", key[3], *NO_ERROR)
            count = batch.counts.setdefault(key, Count())
        count.count += 1
        count.seconds += seconds
        if seconds > count.seconds_max:
            count.seconds_max = seconds
        count.within[bisect_left(BUCKETS, seconds)] += 1
        return count

    def _begin(self) -> Batch:
        self._batch = Batch(self._clock.now())
        self._loop.wake()
        return self._batch

    async def _run_step(self) -> float | None:
        """Store what has come together, then let more come together: not a wait that `wake` ends."""
        if not await self._store():
            await self._connection.drop()  # a process that is asked nothing needs none
            return None
        await asyncio.sleep(STORE_SECONDS)
        return 0

    async def _store(self) -> bool:
        """Store all that there is. Returns whether there was anything. Raises psycopg.Error."""
        if self._batch is not None and len(self._waiting) < BATCHES_MAX:
            batch, self._batch = self._batch, None
            batch.ended_at = self._clock.now()
            self._waiting.append(batch)
        if not self._waiting:
            return False
        async with self._connection as conn:
            while self._waiting:
                try:
                    await store_batch(conn, self._waiting[0])
                except (
                    psycopg.DataError,
                    UnicodeEncodeError,
                ) as error:  # it would be refused again and again
                    log.warning("requests_not_recorded", reason=first_line(error))
                self._waiting.popleft()
        return True
