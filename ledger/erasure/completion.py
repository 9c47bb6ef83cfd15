"""The last steps of an erasure: when nobody can have anything any more, the event that says so, and then the
certificate."""

from __future__ import annotations

from ledger.call import Cause
from ledger.clock import Clock
from ledger.domain import redaction_job_decisions
from ledger.domain.redaction_job import RedactionJob, RedactionJobSucceeded
from ledger.erasure.certificate import digest_streams
from ledger.erasure.exports import list_not_reached
from ledger.erasure.issuance import CompletedErasure, make_certificate
from ledger.erasure.records import WAIT, Erasure, Page, read_seconds_to_wait
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.store.journal import Append, VersionConflict, fold_changes
from ledger.store.store import Store
from ledger.tree.keys import Keyring

_POSITION = """
SELECT notification_id FROM ledger.events WHERE originator_id = %(job)s AND topic = %(topic)s
"""
_STREAMS = 'SELECT stream FROM ledger.erasure_streams WHERE job = %(job)s ORDER BY stream COLLATE "C"'


async def wait_for_lease(conn: Conn, erasure: Erasure) -> Page:
    """Wait until no cache of any process has what it should not, and no attempt to send it is under way."""
    return WAIT if await read_seconds_to_wait(conn, erasure.job) else Page()


class Completion:
    """Completes redaction jobs, and certifies that."""

    def __init__(self, store: Store, keyring: Keyring) -> None:
        self._store = store
        self._clock: Clock = store.clock
        self._keyring = keyring

    async def complete(self, conn: Conn, erasure: Erasure) -> Page:
        """Append the event with the counts, unless it was appended before a crash. Raises Unavailable."""
        await self._clock.refresh(conn)
        job = await self._read_job(erasure.job)
        events = redaction_job_decisions.complete(job, erasure.counts, now=int(self._clock.now()))
        if events:
            cause = Cause(job.account, job.livemode, None, None, None)
            try:
                await self._store.journal.append(Append(cause, fold_changes(events, job)))
            except VersionConflict:
                return WAIT
        row = await fetch_one(conn, _POSITION, {"job": job.id, "topic": RedactionJobSucceeded.TOPIC})
        assert row is not None
        return Page(completed=row[0])

    async def certify(self, conn: Conn, erasure: Erasure) -> Page:
        """Make the certificate, once the event is in the sealed tree."""
        job = await self._read_job(erasure.job)
        assert erasure.completed_position is not None
        streams = [row[0] for row in await fetch_all(conn, _STREAMS, {"job": erasure.job})]
        completed = CompletedErasure(
            job=erasure.job,
            account=erasure.account,
            livemode=erasure.livemode,
            subjects=erasure.subjects,
            requested=erasure.requested_position,
            completed=erasure.completed_position,
            data_keys_destroyed=job.counts.get("data_keys", 0),
            streams=len(streams),
            streams_digest=digest_streams(streams),
            counts=job.counts,
            not_reached=await list_not_reached(conn, erasure.job),
        )
        await self._clock.refresh(conn)
        made = await make_certificate(conn, self._keyring, completed, self._clock.now())
        return WAIT if made is None else Page()

    async def _read_job(self, job_id: str) -> RedactionJob:
        job = await self._store.streams.read(job_id)
        assert isinstance(job, RedactionJob), "the erasure of a job that was run"
        return job
