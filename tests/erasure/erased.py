"""A job that was requested and completed, as far as a certificate knows of it: two records of one stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ledger.erasure.certificate import digest_streams
from ledger.erasure.issuance import CompletedErasure
from ledger.postgres.connections import Conn, open_connection
from ledger.store.store import Store
from ledger.tree.sealer import Sealer
from tests.store.stores import create_customer, open_store, rename_customer
from tests.tree.sealed import make_sealer

JOB = "prj_1"
STREAMS = ["ch_1", "ch_2", "cus_1"]
ERASURE = CompletedErasure(
    job=JOB,
    account="acct_1",
    livemode=False,
    subjects=["cus_1"],
    requested=2,
    completed=4,
    data_keys_destroyed=1,
    streams=len(STREAMS),
    streams_digest=digest_streams(STREAMS),
    counts={"feed": 7, "replies": 2},
    not_reached=["an export on host b1: /exports/\x1b[31mall.ndjson"],
)


@asynccontextmanager
async def open_completed(dsn: str) -> AsyncIterator[tuple[Conn, Store, Sealer]]:
    """A log of five records, of which those of the job are number 2 and number 4; nothing is sealed yet."""
    async with open_store(dsn) as store, make_sealer(store) as sealer:
        await store.journal.append(create_customer("cus_1"))
        requested = create_customer(JOB)
        await store.journal.append(requested)
        await store.journal.append(create_customer("cus_2"))
        await store.journal.append(rename_customer(requested.changes[0].state, "done"))
        await store.journal.append(create_customer("cus_3"))
        async with open_connection(dsn, "ledger_api", name="certificates") as conn:
            yield conn, store, sealer
