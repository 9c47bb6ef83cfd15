"""The eventsourcing library's judgement of our log: its reusable test cases run against our journal, and
its stock Postgres recorder reads our table as it is and agrees with us."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from eventsourcing.persistence import ApplicationRecorder
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.conninfo import conninfo_to_dict

from ledger.postgres.connections import Conn, fetch_all
from ledger.store.codec import Codec
from ledger.store.log import read_log, read_stream
from tests.store.library_recorder import JournalRecorder
from tests.store.stores import KEY, create_customer, open_store, rename_customer

with pytest.MonkeyPatch.context() as patch:
    # The module of the cases also holds those of the library's own cipher, which needs a package we do not.
    cipher = ModuleType("eventsourcing.cipher")
    patch.setattr(cipher, "AESCipher", object, raising=False)
    patch.setitem(sys.modules, "eventsourcing.cipher", cipher)
    from eventsourcing.tests.persistence import (
        ApplicationRecorderTestCase,
        NonInterleavingNotificationIDsBaseCase,
    )


class OnJournal:
    """Gives each of the library's cases a recorder on an empty log."""

    dsn: str
    close: contextlib.ExitStack

    @pytest.fixture(autouse=True)
    def _empty_log(self, dsn: str) -> Iterator[None]:
        self.dsn = dsn
        with contextlib.ExitStack() as self.close:
            yield

    def create_recorder(self) -> Any:
        recorder = JournalRecorder(self.dsn)
        self.close.callback(recorder.close)
        return recorder

    def new_originator_id(self) -> str:
        return str(uuid4())


class TestApplicationRecorder(OnJournal, ApplicationRecorderTestCase[ApplicationRecorder]):
    # The cases write streams from this version, and some from 0 whatever it is; our log takes no gap.
    INITIAL_VERSION = 0

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestNonInterleavingNotificationIDs(OnJournal, NonInterleavingNotificationIDsBaseCase):
    pass


@contextlib.contextmanager
def stock_recorder(dsn: str) -> Iterator[PostgresApplicationRecorder]:
    """The library's own recorder, pointed at our table and not allowed to make one."""
    where = conninfo_to_dict(dsn)
    host, port = str(where["host"]), str(where.get("port", 5432))
    with psycopg.connect(dsn) as conn:
        password = conn.info.password
        user, dbname = conn.info.user, conn.info.dbname
    with PostgresDatastore(
        dbname, host, port, user, password, schema="ledger", originator_id_type="text", pool_size=3
    ) as datastore:
        yield PostgresApplicationRecorder(datastore, events_table_name="events")


def test_the_librarys_stock_recorder_reads_our_log_and_agrees(dsn: str) -> None:
    async def main() -> tuple[list[Any], list[Any], Codec]:
        async with open_store(dsn) as store:
            await asyncio.gather(*(store.journal.append(create_customer(f"cus_{n}")) for n in range(20)))
            for n in range(30):
                await store.journal.append(
                    rename_customer(store.streams.get_cached(f"cus_{n % 4}"), f"name {n}")
                )
        async with await Conn.connect(dsn, autocommit=True) as conn:
            rows = await fetch_all(
                conn, "SELECT originator_id, originator_version, topic, state FROM ledger.events"
            )
            codec = await Codec(KEY).prepare(conn, rows)
            recorded, stream = await read_log(conn, codec, 0, 100), await read_stream(conn, codec, "cus_1")
            return recorded, stream, codec

    ours, our_stream, codec = asyncio.run(main())
    with stock_recorder(dsn) as recorder:
        assert recorder.max_notification_id() == 50
        theirs = recorder.select_notifications(start=1, limit=100)
        assert [(n.id, codec.to_domain_event(n)) for n in theirs] == [(r.position, r.event) for r in ours]
        stream = recorder.select_events("cus_1")
        assert [codec.to_domain_event(event) for event in stream] == [r.event for r in our_stream]
        assert [e.originator_version for e in recorder.select_events("cus_1", desc=True, limit=2)] == [9, 8]
        renamed = recorder.select_notifications(start=1, limit=100, topics=["customer.updated"])
        assert [n.id for n in renamed] == list(range(21, 51))


def test_the_librarys_stock_subscription_follows_our_log(dsn: str) -> None:
    """It waits for a NOTIFY on a channel of its own, which our appends do not send: here the test does."""

    async def append(*numbers: int) -> None:
        async with open_store(dsn) as store:
            await asyncio.gather(*(store.journal.append(create_customer(f"cus_{n}")) for n in numbers))

    asyncio.run(append(*range(5)))
    with stock_recorder(dsn) as recorder, recorder.subscribe(gt=2) as subscription:
        assert [next(subscription).id for _ in range(3)] == [3, 4, 5]
        asyncio.run(append(*range(5, 10)))
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(b"NOTIFY events")
        assert [next(subscription).id for _ in range(5)] == [6, 7, 8, 9, 10]
