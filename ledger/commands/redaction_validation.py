"""The validation of redaction jobs, in every process that follows the log (contract §2.15).

A round finds the jobs whose validation has started, in the projection `redaction_jobs`, but decides on the
job as the log has it, and its append checks the version of the job. So any number of processes may validate;
a lock of the database keeps them from doing the same work twice, and what a process that is killed leaves
undone the next round of any process does. A result may be outdated as soon as it is there: what counts is the
second look, when the job runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from ledger.background import LONG_STEP_TIMEOUT_SECONDS, BackgroundLoop
from ledger.call import Cause
from ledger.domain.aggregate import State
from ledger.domain.legal_hold import find_hold_id
from ledger.domain.redaction_job import VALIDATING, RedactionJob
from ledger.domain.redaction_job_decisions import Scope, end_validation, find_hold_obstacle
from ledger.errors import UnreadableRecord
from ledger.ids import new_id
from ledger.postgres.connections import (
    BACKGROUND_ANSWER_SECONDS,
    Conn,
    ReconnectingConnection,
    fetch_all,
    fetch_one,
)
from ledger.postgres.statements import parse_statement
from ledger.store.journal import Append, VersionConflict, fold_changes
from ledger.store.store import Store

POLL_SECONDS = 1.0
"""Somebody waits for the result of a validation that has just started."""
JOBS_A_ROUND_MAX = 100

log = structlog.get_logger()

Survey = Callable[[Conn, Store, RedactionJob, Sequence[State]], Awaitable[Scope]]
"""Finds what a job reaches through its roots, and what stands in its way. Raises psycopg.Error."""

_STARTED = """
SELECT j.id FROM projections.live l JOIN projections.redaction_jobs j ON j.generation = l.generation
WHERE l.projection = 'redaction_jobs' AND j.status = 'validating' AND (SELECT ledger.is_active_database())
ORDER BY j.created LIMIT %(limit)s
"""
_STARTED_STATEMENT = parse_statement(_STARTED)
_TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('redaction job ' || %(job)s, 0))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('redaction job ' || %(job)s, 0))"


class RedactionValidator:
    """Validates redaction jobs from `start` to `close`."""

    def __init__(self, store: Store, survey: Survey) -> None:
        self._store = store
        self._survey = survey
        self._connection = ReconnectingConnection(
            store.dsn, "ledger_api", name="redaction jobs", answer_seconds=BACKGROUND_ANSWER_SECONDS
        )
        self._loop = BackgroundLoop(
            "redaction jobs", self._step, step_timeout_seconds=LONG_STEP_TIMEOUT_SECONDS
        )

    async def start(self) -> None:
        """Begin with a first round."""
        await self._loop.start()

    async def close(self) -> None:
        """Stop after the job whose validation is under way."""
        await self._loop.close()
        await self._connection.drop()

    async def advance(self) -> int:
        """Validate the jobs that wait for it; returns how many. Raises psycopg.Error and LedgerError."""
        validated = 0
        async with self._connection as conn:
            for (job_id,) in await fetch_all(conn, _STARTED, {"limit": JOBS_A_ROUND_MAX}):
                if self._loop.step_should_end:
                    break
                validated += await self._validate_alone(conn, job_id)
        return validated

    async def _step(self) -> float:
        # By the connection that this process has for reads: most of the time there is nothing to do.
        if await self._store.streams.source.fetch(_STARTED_STATEMENT, {"limit": 1}):
            await self.advance()
            await self._connection.drop()
        return POLL_SECONDS

    async def _validate_alone(self, conn: Conn, job_id: str) -> bool:
        """Validate the job, unless another process does."""
        row = await fetch_one(conn, _TRY_LOCK, {"job": job_id})
        if row is None or not row[0]:
            return False
        try:
            await self._store.clock.refresh(conn)
            return await validate(conn, self._store, self._survey, job_id)
        except UnreadableRecord as error:
            log.error("record_unreadable", loop="redaction jobs", **error.to_log())
            return False
        finally:
            if not conn.closed:
                await conn.execute(_UNLOCK, {"job": job_id})


async def survey_with_holds(conn: Conn, store: Store, survey: Survey, job: RedactionJob) -> Scope:
    """What a job reaches, and what stands in its way, with the legal holds of its roots. Raises
    psycopg.Error, UnreadableRecord and Unavailable."""
    roots = [root for object_id in job.object_ids if (root := await store.streams.read(object_id))]
    holds = []
    for object_id in job.object_ids:
        hold = await store.streams.read(find_hold_id(object_id))
        if (obstacle := find_hold_obstacle(job, hold)) is not None:
            holds.append(obstacle)
    scope = await survey(conn, store, job, roots)
    return scope._replace(obstacles=[*holds, *scope.obstacles])


async def validate(conn: Conn, store: Store, survey: Survey, job_id: str) -> bool:
    """Validate a job whose validation has started, and record the result. False if there is nothing to do, or
    something has changed meanwhile. Raises psycopg.Error, UnreadableRecord and Unavailable."""
    job = await store.streams.read(job_id)
    if not isinstance(job, RedactionJob) or job.status != VALIDATING:
        return False
    scope = await survey_with_holds(conn, store, survey, job)
    now = store.clock.now()
    events = end_validation(job, scope, new_error_id=partial(new_id, "prjve", now), now=int(now))
    cause = Cause(job.account, job.livemode, None, None, None)
    changes = fold_changes(events, job, causation=f"{job.id}/{job.version}")
    try:
        await store.journal.append(Append(cause, changes))
    except VersionConflict:
        return False
    return True
