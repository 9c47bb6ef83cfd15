"""The work of appending, counted: round trips, WAL and calls for each batch and each command."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import NamedTuple

import psycopg
import pytest

from ledger.postgres.prepared import PreparedConnection
from ledger.store.appender import Appender
from ledger.store.batching import Pending
from ledger.store.codec import Codec
from ledger.store.journal import Append, Journal, VersionConflict, _to_rows
from tests.store.stores import KEY, create_customer, fetch_rows, open_store, with_reply
from tests.work import count_calls, record_runs

CODEC = Codec(KEY)
_MEASURED = 5
_WAL = """
SELECT w.wal_records, w.wal_bytes, w.wal_fpi
FROM pg_stat_activity a, pg_stat_get_backend_wal(a.pid) w
WHERE a.datname = current_database() AND a.application_name = 'ledger journal'
"""


class Wal(NamedTuple):
    records: int
    bytes: int
    full_pages: int


def commands(name: str, count: int) -> list[Append]:
    return [create_customer(f"cus_{name}_{n}", **with_reply(f"key_{name}_{n}")) for n in range(count)]


async def append_together(journal: Journal, name: str, count: int) -> None:
    await asyncio.gather(*map(journal.append, commands(name, count)))


async def read_wal(dsn: str, appender: Appender) -> Wal:
    """What the journal's backend has written so far."""
    assert appender._connection is not None
    await appender._connection.run(b"SELECT pg_stat_force_next_flush()", [], [], deadline=math.inf)
    [row] = fetch_rows(dsn, _WAL)
    return Wal(*map(int, row))


async def measure_wal(dsn: str, count: int) -> Wal:
    """The WAL of one batch, the least of several: some split a page of an index, and Postgres adds full pages
    after a checkpoint."""
    measured = []
    async with open_store(dsn) as store:
        await append_together(store.journal, "warm", count)
        before = await read_wal(dsn, store.journal._appender)
        for number in range(_MEASURED):
            await append_together(store.journal, f"measured_{number}", count)
            after = await read_wal(dsn, store.journal._appender)
            measured.append(Wal(*(now - then for now, then in zip(after, before, strict=True))))
            before = after
    return min(measured)


def test_a_batch_is_one_round_trip(dsn: str) -> None:
    async def main() -> int:
        async with open_store(dsn) as store:
            await append_together(store.journal, "first", 2)
            await store.watch.close()  # it asks by itself
            with record_runs(PreparedConnection._receive_answer) as round_trips:
                await append_together(store.journal, "second", 16)
            return len(round_trips)

    assert asyncio.run(main()) == 1


def test_callers_that_come_back_after_a_batch_form_one_batch(dsn: str) -> None:
    """Without that they would keep alternating in two halves, and a commit would serve half of them."""

    async def call(journal: Journal, caller: int) -> None:
        for _ in range(3 * (caller % 2)):  # the second half comes while the first is under way
            await asyncio.sleep(0)
        for command in commands(f"caller_{caller}", 20):
            await journal.append(command)

    async def main() -> list[int]:
        async with open_store(dsn) as store:
            sizes: list[int] = []
            store.journal.on_append = lambda size, *_: sizes.append(size)
            await asyncio.gather(*(call(store.journal, caller) for caller in range(16)))
            return sizes

    sizes = asyncio.run(main())
    assert sizes.count(16) >= 10, sizes


def test_a_stream_that_exists_although_a_command_creates_it_costs_two_round_trips_more(dsn: str) -> None:
    async def main() -> int:
        async with open_store(dsn) as store:
            await append_together(store.journal, "first", 2)
            taken = create_customer("cus_first_0", **with_reply("another key"))
            again = [taken, *commands("second", 15)]
            with suppress(VersionConflict):
                await store.journal.append(taken)  # prepares the statements
            await store.watch.close()  # it asks by itself
            with record_runs(PreparedConnection._receive_answer) as round_trips:
                outcomes = await asyncio.gather(*map(store.journal.append, again), return_exceptions=True)
            assert isinstance(outcomes[0], VersionConflict)
            assert outcomes[1:] == list(range(3, 18))
            return len(round_trips)

    # The batch again, the look-up of all keys, and perhaps its statement, prepared for a connection.
    assert asyncio.run(main()) in (3, 4)


@pytest.mark.parametrize(("count", "records_max", "bytes_max"), [(1, 15, 1_800), (16, 130, 21_500)])
def test_a_batch_writes_little_wal(dsn: str, count: int, records_max: int, bytes_max: int) -> None:
    with psycopg.connect(dsn) as conn:
        if conn.info.server_version < 180_000:
            pytest.skip("Postgres counts the WAL of a backend since version 18")
    wal = asyncio.run(measure_wal(dsn, count))
    assert wal.records <= records_max
    assert wal.bytes <= bytes_max


def test_a_command_more_costs_few_calls() -> None:
    async def count(size: int) -> int:
        loop = asyncio.get_running_loop()
        batch = [Pending(command, loop.create_future()) for command in commands("a", size)]
        _to_rows(CODEC, False, batch)  # derive each stream's key
        # The least of two: now and then one of them draws a block of random bytes.
        return min(count_calls(lambda: _to_rows(CODEC, False, batch)) for _ in range(2))

    assert asyncio.run(count(32)) - asyncio.run(count(16)) <= 16 * 42
