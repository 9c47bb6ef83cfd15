"""Destroyed keys: no file of their table has them any more, and everybody sees that they are gone."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from ledger.erasure.key_destruction import KeyDestruction
from ledger.erasure.records import Erasure, Step, begin_erasure, list_unended, lock_erasure, save_page
from ledger.postgres.connections import Conn, open_connection
from tests.conftest import Cluster

ERASED, OTHERS = 40, 400
JOB = "prj_1"
_INSERT = "INSERT INTO ledger.data_keys (subject, wrapped, wrapped_by) VALUES (%s, %s, 'key')"
_FILES = """
SELECT current_setting('data_directory') || '/' || pg_relation_filepath(c.oid)
FROM pg_class c WHERE c.relname ~ '^data_keys_[0-9]+$'
"""


class Keys:
    """Keys of subjects, and an erasure of some of them. `before`: what a transaction that began before the
    destruction reads after it."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.wraps = {f"cus_{number}": secrets.token_bytes(60) for number in range(ERASED + OTHERS)}
        self.erased = [f"cus_{number}" for number in range(ERASED)]
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.cursor().executemany(_INSERT, list(self.wraps.items()))
            conn.execute("SELECT ledger.begin_erasing(%s)", (self.erased,))
            conn.execute("CHECKPOINT")
            self.found_before = self.find_on_disk(self.erased)
            with psycopg.connect(dsn) as old:
                old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                old.execute("SELECT count(*) FROM ledger.head_lock")  # its snapshot; holds no partition
                self.pages = asyncio.run(self._destroy())
                self.seen_by_old: dict[str, bytes | None] = dict(
                    old.execute("SELECT subject, wrapped FROM ledger.data_keys").fetchall()
                )
            conn.execute("CHECKPOINT")

    def find_on_disk(self, subjects: Sequence[str]) -> list[str]:
        """Those whose wrap is in a file of the table, as it is on disk."""
        with psycopg.connect(self.dsn) as conn:
            files = [Path(path) for (path,) in conn.execute(_FILES)]
        stored = b"".join(file.read_bytes() for file in files)
        return [subject for subject in subjects if self.wraps[subject] in stored]

    async def _destroy(self) -> int:
        async with open_connection(self.dsn, "ledger_api", name="test") as conn:
            await begin_erasure(conn, JOB, account="acct_1", livemode=False, subjects=self.erased, position=1)
            await conn.execute("UPDATE ledger.erasures SET step = 'keys'")
            pages = 0
            while (erasure := (await list_unended(conn))[0]).step is Step.KEYS:
                await run_page(conn, erasure)
                pages += 1
            return pages


async def run_page(conn: Conn, erasure: Erasure, destruction: KeyDestruction | None = None) -> None:
    async with conn.transaction():
        locked = await lock_erasure(conn, erasure.job, erasure.step)
        assert locked is not None
        page = await (destruction or KeyDestruction(cache_seconds=2)).run_page(conn, locked)
        await save_page(conn, locked, page)


@pytest.fixture(scope="module")
def keys(cluster: Cluster) -> Iterator[Keys]:
    with cluster.create_database() as dsn:
        yield Keys(dsn)


def test_the_files_of_the_table_have_no_destroyed_key_any_more(keys: Keys) -> None:
    assert keys.found_before == keys.erased  # they are found where they are
    assert keys.find_on_disk(keys.erased) == []


def test_the_keys_of_others_stay(keys: Keys) -> None:
    others = [subject for subject in keys.wraps if subject not in keys.erased]
    assert keys.find_on_disk(others) == others
    with psycopg.connect(keys.dsn) as conn:
        rows = conn.execute("SELECT subject, wrapped FROM ledger.data_keys WHERE erasing_since IS NULL")
        assert dict(rows.fetchall()) == {subject: keys.wraps[subject] for subject in others}


def test_a_read_that_began_before_finds_keys_destroyed_and_not_missing(keys: Keys) -> None:
    assert keys.seen_by_old.keys() == keys.wraps.keys()
    assert {subject for subject, wrap in keys.seen_by_old.items() if wrap is None} == set(keys.erased)


def test_each_partition_is_written_once_and_the_counts_are_of_keys(keys: Keys) -> None:
    assert keys.pages <= ERASED + 1
    with psycopg.connect(keys.dsn) as conn:
        row = conn.execute("SELECT counts, step FROM ledger.erasures").fetchone()
    assert row == ({"data_keys": ERASED, "subjects": ERASED}, "rows")


def test_whoever_needs_a_key_waits_seldom_for_an_erasure_that_waits_for_a_backup(dsn: str) -> None:
    """A backup reads for hours; behind each attempt to lock a partition all that is appended there waits."""
    with psycopg.connect(dsn) as conn:
        conn.execute(_INSERT, ("cus_1", b"wrap"))
        conn.execute("SELECT ledger.begin_erasing('{cus_1}')")

    async def main() -> tuple[int, Step]:
        destruction = KeyDestruction(cache_seconds=2)
        attempts = 0
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            await begin_erasure(conn, JOB, account="acct_1", livemode=False, subjects=["cus_1"], position=1)
            await conn.execute("UPDATE ledger.erasures SET step = 'keys'")
            with psycopg.connect(dsn) as backup:
                backup.execute("LOCK TABLE ledger.data_keys IN ACCESS SHARE MODE")
                for _ in range(10):
                    try:
                        await run_page(conn, (await list_unended(conn))[0], destruction)
                    except psycopg.errors.LockNotAvailable:
                        attempts += 1
            while (erasure := (await list_unended(conn))[0]).step is Step.KEYS:
                await run_page(conn, erasure, KeyDestruction(cache_seconds=2))
            return attempts, erasure.step

    assert asyncio.run(main()) == (1, Step.ROWS)


def test_two_erasures_never_wait_for_each_other(dsn: str) -> None:
    """Each has read all partitions, the second one while the first still reads, and then locks one."""

    async def main() -> list[object]:
        async with (
            open_connection(dsn, "ledger_api", name="one") as one,
            open_connection(dsn, "ledger_api", name="two") as two,
        ):
            for conn, subject in ((one, "cus_1"), (two, "cus_2")):
                await conn.execute("SELECT ledger.begin_erasing(%s)", ([subject],))
                await begin_erasure(
                    conn, subject, account="acct_1", livemode=False, subjects=[subject], position=1
                )
            await one.execute("UPDATE ledger.erasures SET step = 'keys'")
            erasures = await list_unended(one)
            runs = [run_page(conn, each) for conn, each in zip((one, two), erasures, strict=True)]
            return list(await asyncio.gather(*runs, return_exceptions=True))

    assert [each for each in asyncio.run(main()) if each is not None] == []
