"""Erasures in one process: finds redaction jobs that were run, and takes them to their end.

Every process may do so; the rows of the erasures tell what is left, and one works on each at a time.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ledger.background import LONG_STEP_TIMEOUT_SECONDS, BackgroundLoop
from ledger.domain.redaction_job import REDACTING, RedactionJob, RedactionJobRunRequested
from ledger.erasure.answers import AnswersRemoval
from ledger.erasure.closure import Closure
from ledger.erasure.completion import Completion, wait_for_lease
from ledger.erasure.exports import rewrite_exports
from ledger.erasure.job import ErasureJob, ReadAhead, ReadStep, RunPage, StepWork
from ledger.erasure.key_destruction import KeyDestruction
from ledger.erasure.purge import delete_chunks, delete_requests
from ledger.erasure.records import Erasure, Page, Step, begin_erasure
from ledger.erasure.remnants import Remnants
from ledger.erasure.replies import RepliesRewrite
from ledger.keys.erasure_watch import LEASE_SECONDS
from ledger.postgres.connections import (
    ANSWER_GRACE_SECONDS,
    Conn,
    ReconnectingConnection,
    fetch_all,
    fetch_one,
)
from ledger.postgres.sessions import ROLES, Role
from ledger.postgres.statements import parse_statement
from ledger.store.log import PLANNER_SETTINGS
from ledger.store.store import Store
from ledger.tree.keys import Keyring

IDLE_POLL_SECONDS = 1.0
ACTIVE_POLL_SECONDS = 0.1
ANNOUNCED_SECONDS = 2.0
"""For how long the job of an erasure that was announced is waited for: the projections apply it meanwhile."""
CACHE_SECONDS = LEASE_SECONDS + 0.5
"""A margin, for processes that began to answer at the end of their lease."""
STATEMENT_SECONDS_MAX = 120
GC_THRESHOLD_OBJECTS = 1_000_000
"""Objects that are created between two searches for garbage cycles: more than two pages have."""
# The server ends the connection of a process that was stopped in the middle of a page, and so frees it.
_SETTINGS = PLANNER_SETTINGS | {
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "max_parallel_workers_per_gather": "0",  # a page is too short for them to start
    "statement_timeout": f"{STATEMENT_SECONDS_MAX}s",
    "idle_in_transaction_session_timeout": "10s",
}

_NEW = """
SELECT j.id FROM projections.live l JOIN projections.redaction_jobs j ON j.generation = l.generation
WHERE l.projection = 'redaction_jobs' AND j.status = %(status)s
AND NOT EXISTS (SELECT FROM ledger.erasures e WHERE e.job = j.id)
"""
_HAS_WORK = parse_statement(f"""
SELECT EXISTS ({_NEW}) OR EXISTS (SELECT FROM ledger.erasures u WHERE u.ended_at IS NULL)
""")  # noqa: S608 (a constant)
_POSITION = """
SELECT notification_id FROM ledger.events WHERE originator_id = %(job)s AND topic = %(topic)s
"""


class ErasureService:
    """Runs erasures.

    rows  derives the rows of erased streams again, in the role of the projections
    """

    def __init__(self, store: Store, keyring: Keyring, *, rows: ReadStep[Any]) -> None:
        self._store = store
        self._connections = {role: _make_connection(store, role, "erasures") for role in ROLES}
        self._read_ahead_connection = _make_connection(store, "ledger_projector", "erasures read-ahead")
        remnants = Remnants(store.codec.for_erasure())
        self._remnants = ReadAhead(remnants, self._read_ahead_connection)
        self._rows = ReadAhead(rows, self._read_ahead_connection)
        steps = _make_steps(store, keyring, self._remnants.run_page, self._rows.run_page)
        self._job = ErasureJob(steps, self._connections)
        self._loop = BackgroundLoop("erasures", self._advance, step_timeout_seconds=LONG_STEP_TIMEOUT_SECONDS)
        self._announced_at = -ANNOUNCED_SECONDS
        store.watch.on_erasure.append(self._note_announced)

    async def start(self) -> None:
        """Go on with what was begun, and look for new jobs."""
        await self._loop.start()

    async def close(self) -> None:
        """Stop after the page under way."""
        await self._loop.close()
        await self._drop_connections()

    async def _advance(self) -> float:
        # By the connection that this process has for reads: most of the time there is nothing to do.
        ((has_work,),) = await self._store.streams.source.fetch(_HAS_WORK, {"status": REDACTING})
        if not has_work:
            await self._drop_connections()
            is_announced = time.monotonic() < self._announced_at + ANNOUNCED_SECONDS
            return ACTIVE_POLL_SECONDS if is_announced else IDLE_POLL_SECONDS
        async with self._connections["ledger_api"] as conn:
            await self._begin_new(conn)
        with _garbage_searched_rarely():
            is_active = await self._job.advance(lambda: self._loop.step_should_end)
        return ACTIVE_POLL_SECONDS if is_active else IDLE_POLL_SECONDS

    def _note_announced(self) -> None:
        self._announced_at = time.monotonic()
        self._loop.wake()

    async def _drop_connections(self) -> None:
        for pages in (self._remnants, self._rows):
            await pages.drop()
        for connection in (*self._connections.values(), self._read_ahead_connection):
            await connection.drop()

    async def _begin_new(self, conn: Conn) -> None:
        """Keep a row for each job that was run since."""
        for (job_id,) in await fetch_all(conn, _NEW, {"status": REDACTING}):
            job = await self._store.streams.read(job_id)
            parameters = {"job": job_id, "topic": RedactionJobRunRequested.TOPIC}
            row = await fetch_one(conn, _POSITION, parameters)
            if not isinstance(job, RedactionJob) or row is None:
                continue
            await begin_erasure(
                conn,
                job_id,
                account=job.account,
                livemode=job.livemode,
                subjects=job.subjects,
                position=row[0],
            )


@contextmanager
def _garbage_searched_rarely() -> Iterator[None]:
    """While pages are made. They are many objects, none in a cycle, and all are let go with their page:
    searching them took a twentieth of an erasure."""
    threshold, *older = gc.get_threshold()
    gc.set_threshold(GC_THRESHOLD_OBJECTS, *older)
    try:
        yield
    finally:
        gc.set_threshold(threshold, *older)


def _make_connection(store: Store, role: Role, name: str) -> ReconnectingConnection:
    return ReconnectingConnection(
        store.dsn,
        role,
        name=name,
        settings=_SETTINGS,
        answer_seconds=STATEMENT_SECONDS_MAX + ANSWER_GRACE_SECONDS,
    )


def _make_steps(
    store: Store, keyring: Keyring, keep_remnants: RunPage, rewrite_rows: RunPage
) -> Mapping[Step, StepWork]:
    codec = store.codec.for_erasure()
    completion = Completion(store, keyring)
    return {
        Step.CLOSURE: StepWork(Closure(codec, cache_seconds=CACHE_SECONDS).run_page),
        Step.REMNANTS: StepWork(keep_remnants),
        Step.REPLIES: StepWork(RepliesRewrite(codec.data_keys).run_page),
        Step.KEYS: StepWork(KeyDestruction(cache_seconds=CACHE_SECONDS).run_page),
        Step.ROWS: StepWork(rewrite_rows, "ledger_projector"),
        Step.ANSWERS: StepWork(AnswersRemoval(codec).run_page),
        Step.FILES: StepWork(delete_chunks),
        Step.REQUEST_LOGS: StepWork(delete_requests),
        Step.EXPORTS: StepWork(_rewrite_exports),
        Step.LEASE: StepWork(wait_for_lease),
        Step.COMPLETE: StepWork(completion.complete),
        Step.CERTIFICATE: StepWork(completion.certify),
    }


async def _rewrite_exports(conn: Conn, erasure: Erasure) -> Page:
    return Page(counts={"exports": await rewrite_exports(conn, erasure.job)})
