"""The keys that earlier releases derived: kept online, killed anywhere, and from the end on never derived."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from ledger.domain.event import DomainEvent
from ledger.errors import UnreadableRecord
from ledger.keys.data_keys import DataKeys
from ledger.postgres.connections import Conn, open_connection
from ledger.store.codec import Codec, evolve
from ledger.store.journal import VersionConflict
from ledger.store.log import read_log
from ledger.store.seals.key_migration import PAUSE_SECONDS, KeyMigration
from tests.conftest import Cluster
from tests.domain.histories import HISTORIES
from tests.store.stores import KEY, create_customer, fetch_rows, open_store

_INSERT = """
INSERT INTO ledger.events (notification_id, originator_id, originator_version, topic, state, account,
                           livemode, customer, recorded_at)
SELECT coalesce(max(notification_id), 0) + 1, %s, %s, %s, %s, 'acct_1', false, %s, now() FROM ledger.events
"""
_OLD_DATABASE = """
UPDATE ledger.served SET oldest = '0038'; UPDATE ledger.erasure_epoch SET epoch = 0;
UPDATE ledger.key_migration SET finished_at = NULL;
"""
EVENTS = [
    event for history in {each[0].originator_id: each for each in HISTORIES}.values() for event in history
]


@pytest.fixture
def dsn(cluster: Cluster) -> Iterator[str]:
    """A database whose log a release before data keys has written."""
    with cluster.create_database() as dsn:
        execute(dsn, _OLD_DATABASE)
        append_as_before(dsn, EVENTS)
        yield dsn


def execute(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(statement.encode())


def append_as_before(dsn: str, events: list[DomainEvent]) -> None:
    """As the previous release does."""
    codec = Codec(KEY)
    states: dict[str, Any] = {}
    with psycopg.connect(dsn) as conn:
        for event in events:
            stored = codec.to_stored_event(event)
            stream = event.originator_id
            states[stream] = evolve(states.get(stream), event)
            customer = (
                None if event.TOPIC.startswith("past_event") else getattr(states[stream], "customer", None)
            )
            row = (stream, event.originator_version, stored.topic, stored.state, customer)
            conn.execute(_INSERT, row)


def end_support(dsn: str) -> None:
    """As `ledger migrate --contract` does."""
    execute(dsn, "UPDATE ledger.served SET oldest = '0039'")


async def advance_until(conn: Conn, migration: KeyMigration, *ends: float | None) -> None:
    while await migration.advance(conn) not in ends:
        pass


def connect(dsn: str) -> Any:
    return open_connection(dsn, "ledger_api", name="test")


async def read(conn: Conn, key: bytes = KEY) -> list[DomainEvent]:
    return [recorded.event for recorded in await read_log(conn, Codec(key), 0, 10_000)]


class Closed:
    """Service keys that derive nothing: the root of earlier releases is gone."""

    def __init__(self) -> None:
        self.data_keys = DataKeys(KEY)
        self.data_keys.service_keys.derive = self._refuse  # type: ignore[method-assign]
        self.codec = Codec(self.data_keys)

    def _refuse(self, label: bytes) -> bytes:
        raise AssertionError(f"{label!r} was derived")


def test_all_is_read_before_during_and_after_the_migration_and_then_without_the_root(dsn: str) -> None:
    async def main() -> None:
        async with connect(dsn) as conn:
            migration = KeyMigration(dsn, Codec(KEY), page_events=7)
            assert await read(conn) == EVENTS
            for _ in range(3):
                assert await migration.advance(conn) == 0
                assert await read(conn) == EVENTS
            await advance_until(conn, migration, PAUSE_SECONDS)
            assert await read(conn) == EVENTS
            assert fetch_rows(dsn, "SELECT epoch FROM ledger.erasure_epoch") == [(0,)]
            end_support(dsn)
            await advance_until(conn, migration, None)
            assert [each.event for each in await read_log(conn, Closed().codec, 0, 10_000)] == EVENTS
            assert await migration.advance(conn) is None

    asyncio.run(main())
    assert fetch_rows(dsn, "SELECT epoch FROM ledger.erasure_epoch") == [(1,)]


def test_each_stream_belongs_to_its_customer_or_itself(dsn: str) -> None:
    async def main() -> None:
        async with connect(dsn) as conn:
            await advance_until(conn, KeyMigration(dsn, Codec(KEY)), PAUSE_SECONDS)

    asyncio.run(main())
    subjects: dict[str, str] = dict(fetch_rows(dsn, "SELECT stream, subject FROM ledger.stream_keys"))
    customers: dict[str, str] = dict(
        fetch_rows(
            dsn,
            "SELECT originator_id, max(customer) FROM ledger.events WHERE customer IS NOT NULL GROUP BY 1",
        )
    )
    assert subjects
    for stream, subject in subjects.items():
        if not stream.startswith("evt_"):
            assert subject == customers.get(stream, stream)
    named = fetch_rows(
        dsn, "SELECT DISTINCT originator_id, customer FROM ledger.events WHERE topic NOT LIKE 'past_event%'"
    )
    owners = {customer or stream for stream, customer in named if stream in subjects}
    assert "in_1" in owners, "it names nobody at its end, and its rows are sealed for itself"
    assert {*subjects.values(), *owners} == {
        row[0] for row in fetch_rows(dsn, "SELECT subject FROM ledger.data_keys")
    }


def test_what_the_previous_release_appends_meanwhile_is_migrated_too(dsn: str) -> None:
    async def main() -> None:
        async with connect(dsn) as conn, open_store(dsn) as store:
            migration = KeyMigration(dsn, Codec(KEY))
            await advance_until(conn, migration, PAUSE_SECONDS)
            await store.journal.append(create_customer("cus_now", name="Grace"))
            assert (
                b"cus_now:"
                not in fetch_rows(dsn, "SELECT state FROM ledger.events WHERE originator_id = 'cus_now'")[0][
                    0
                ]
            )
            end_support(dsn)
            await advance_until(conn, migration, None)
            await store.watch.look(conn)
            await store.journal.append(create_customer("cus_then", name="Alan"))
            assert (
                b'"sealed":"cus_then:'
                in fetch_rows(dsn, "SELECT state FROM ledger.events WHERE originator_id = 'cus_then'")[0][0]
            )
            *before, now, then = [each.event for each in await read_log(conn, Closed().codec, 0, 10_000)]
            assert before == EVENTS
            assert (now.name, then.name) == ("Grace", "Alan")  # type: ignore[attr-defined]

    asyncio.run(main())


def test_a_process_that_has_not_heard_of_the_end_of_the_old_form_appends_nothing_in_it(dsn: str) -> None:
    async def main() -> None:
        async with connect(dsn) as conn, open_store(dsn) as store:
            await store.watch.close()  # it learns of it by being refused
            end_support(dsn)
            await advance_until(conn, KeyMigration(dsn, Codec(KEY)), None)
            assert store.watch.epoch == 0
            with pytest.raises(VersionConflict):
                await store.journal.append(create_customer("cus_now"))
            await store.journal.append(create_customer("cus_now"))
            [(state,)] = fetch_rows(dsn, "SELECT state FROM ledger.events WHERE originator_id = 'cus_now'")
            assert b'"sealed":"cus_now:' in state

    asyncio.run(main())


def test_two_migrations_and_killed_ones_keep_each_key_once(dsn: str) -> None:
    async def main() -> None:
        async with connect(dsn) as one, connect(dsn) as other:
            first, second = (KeyMigration(dsn, Codec(KEY), page_events=5) for _ in range(2))
            async with one.transaction(force_rollback=True):  # killed in its first page
                await first._keep_keys_of_events(one, 0, 5)
            end_support(dsn)
            await asyncio.gather(
                advance_until(one, first, None), advance_until(other, second, None, PAUSE_SECONDS)
            )
            assert [each.event for each in await read_log(one, Closed().codec, 0, 10_000)] == EVENTS

    asyncio.run(main())
    [(streams, count)] = fetch_rows(
        dsn, "SELECT streams, (SELECT count(*) FROM ledger.stream_keys) FROM ledger.key_migration"
    )
    assert streams == count


def test_after_the_migration_a_missing_key_is_an_unreadable_record(dsn: str) -> None:
    async def main() -> None:
        async with connect(dsn) as conn:
            end_support(dsn)
            await advance_until(conn, KeyMigration(dsn, Codec(KEY)), None)
            execute(dsn, "DELETE FROM ledger.stream_keys WHERE stream = 'cus_1'")
            unreadable = [event for event in await read(conn) if not event.TOPIC]
            assert {event.originator_id for event in unreadable} == {"cus_1"}
            for event in unreadable:
                error = event.error  # type: ignore[attr-defined]
                assert isinstance(error, UnreadableRecord)
                assert error.reason.value == "cannot_be_opened"

    asyncio.run(main())
