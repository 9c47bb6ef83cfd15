"""A job that was requested and completed, as far as a certificate knows of it: two records of one stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ledger.domain import redaction_job_decisions as decisions
from ledger.domain.redaction_job import RedactionJob, RedactionJobRunRequested
from ledger.erasure.certificate import digest_streams
from ledger.erasure.issuance import CompletedErasure
from ledger.postgres.connections import Conn, open_connection
from ledger.store.codec import evolve, fold
from ledger.store.journal import Append, Change, fold_changes
from ledger.store.store import Store
from ledger.tree.sealer import Sealer
from tests.store.stores import CAUSE, NOW, create_customer, open_store
from tests.tree.sealed import make_sealer

JOB = "prj_1"
STREAMS = ["ch_1", "ch_2", "cus_1"]
COUNTS = {"feed": 7, "replies": 2}
ERASURE = CompletedErasure(
    job=JOB,
    account="acct_1",
    livemode=False,
    subjects=["cus_1"],
    requested=4,
    completed=6,
    data_keys_destroyed=1,
    streams=len(STREAMS),
    streams_digest=digest_streams(STREAMS),
    counts=COUNTS,
    not_reached=["an export on host b1: /exports/\x1b[31mall.ndjson"],
)


@asynccontextmanager
async def open_completed(dsn: str) -> AsyncIterator[tuple[Conn, Store, Sealer]]:
    """A log of seven records, of which the request is number 4 and the completion number 6; nothing is sealed
    yet."""
    async with open_store(dsn) as store, make_sealer(store) as sealer:
        await store.journal.append(create_customer("cus_1"))
        created = decisions.create(
            job_id=JOB, account="acct_1", livemode=False, objects={"customers": ["cus_1"]},
            validation_behavior="error", now=NOW,
        )  # fmt: skip
        job = fold(created)
        assert isinstance(job, RedactionJob)
        await store.journal.append(Append(CAUSE, fold_changes(created)))
        request = RedactionJobRunRequested(
            originator_id=JOB, originator_version=job.version + 1, at=NOW, subjects=["cus_1"]
        )
        running = evolve(job, request)
        assert isinstance(running, RedactionJob)
        await store.journal.append(Append(CAUSE, [Change(request, running)]))
        await store.journal.append(create_customer("cus_2"))
        [completion] = decisions.complete(running, COUNTS, now=NOW)
        await store.journal.append(Append(CAUSE, [Change(completion, evolve(running, completion))]))
        await store.journal.append(create_customer("cus_3"))
        async with open_connection(dsn, "ledger_api", name="certificates") as conn:
            yield conn, store, sealer
