"""The head is the end of the log. Appends lock it, and cost no more under an old snapshot."""

from __future__ import annotations

import shutil
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import TupleRow

from ledger.errors import SettingError
from ledger.postgres import migrations
from ledger.store.log import PLANNER_SETTINGS
from tests.conftest import Cluster, as_options
from tests.store.stores import check_gapless, fetch_rows, read_positions

NOW = 1_700_000_000
BEFORE = "0030"
"""The schema whose functions updated the head."""

# The parameters of each: appender, number, stream.
_APPEND_ONE = f"""
ledger.append_one(%s::uuid, %s::bigint, {NOW}, NULL, NULL, %s::text, 1, 't', '', 'acct_1', false,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
"""
_APPEND_ONE_UNDER_EPOCH = f"""
ledger.append_one(%s::uuid, %s::bigint, {NOW}, 0, NULL, NULL, %s::text, 1, 't', '', 'acct_1', false,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL)
"""
_EVENTS = ", ".join(["ARRAY[{}]"] * 7).format("0", "%s::text", "1", "'t'", "''::bytea", "'acct_1'", "false")
_APPEND_BATCH = f"""
ledger.append_batch(%s::uuid, %s::bigint, {NOW}, NULL, NULL, NULL, {_EVENTS}, {", ".join(["NULL"] * 18)})
"""
_APPEND_JSON = f"""
ledger.append(%s::uuid, %s::bigint, {NOW}, '[]', json_build_array(json_build_object(
    'c', 0, 's', %s::text, 'v', 1, 't', 't', 'd', '', 'a', 'acct_1', 'l', false)), NULL)
"""
_OF_RELEASES = {
    "0001": _APPEND_JSON,
    "0019": _APPEND_BATCH,
    "0021": _APPEND_ONE,
    "0039": _APPEND_ONE_UNDER_EPOCH,
}
"""How a release of this schema version appends an event."""

_APPEND_IN_TURN = """
DO $$ BEGIN
    FOR n IN 1..{count} LOOP
        PERFORM base FROM {call};
        COMMIT;
    END LOOP;
END $$
"""


class Appends:
    """One appender of a release, on a connection of its own."""

    def __init__(self, dsn: str, release: str = "0039") -> None:
        self.conn = psycopg.connect(dsn, autocommit=True, options=as_options(PLANNER_SETTINGS))
        self.id = uuid.uuid4()
        self._call = _OF_RELEASES[release]
        self._number = 0

    def append(self, number: int | None = None) -> int:
        """Append one event as the batch `number`; None: as the next one. Returns its position."""
        self._number += number is None
        number = self._number if number is None else number
        stream = f"{self.id}_{number}"
        row = self.conn.execute(f"SELECT base FROM {self._call}", (self.id, number, stream)).fetchone()
        assert row is not None
        return int(row[0]) + 1


@pytest.fixture(autouse=True)
def _earlier_releases_may_run(request: pytest.FixtureRequest) -> None:
    if "dsn" in request.fixturenames:
        with psycopg.connect(request.getfixturevalue("dsn")) as conn:
            conn.execute("UPDATE ledger.erasure_epoch SET epoch = 0")


@contextmanager
def appends_of(dsn: str, release: str = "0039") -> Iterator[Appends]:
    appends = Appends(dsn, release)
    try:
        yield appends
    finally:
        appends.conn.close()


@contextmanager
def old_snapshot(dsn: str) -> Iterator[None]:
    """A transaction that keeps every version of every row, as a dump does."""
    with psycopg.connect(dsn) as conn:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        conn.execute("SELECT FROM ledger.events")
        yield


def count_buffers(appends: Appends, query: str, *values: Any) -> int:
    """The pages that a statement looks at."""
    row = appends.conn.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) {query}", values).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def count_append_buffers(appends: Appends) -> int:
    """The least of several appends: some split a page of an index."""
    counts = []
    for _ in range(5):
        appends._number += 1
        values = (appends.id, appends._number, f"{appends.id}_{appends._number}")
        counts.append(count_buffers(appends, f"SELECT {_APPEND_ONE}", *values))
    return min(counts)


def test_an_append_under_an_old_snapshot_looks_at_as_many_pages_after_thousands_of_others(dsn: str) -> None:
    """When each updated the head's and the appender's row, one more for each forty appends."""
    with appends_of(dsn) as appends, old_snapshot(dsn):
        for _ in range(20):
            appends.append()
        before = count_append_buffers(appends)
        values = (f"'{appends.id}'", f"{appends._number} + n", "'cus_' || n")
        call = _APPEND_ONE.replace("%s", "{}").format(*values)
        appends.conn.execute(_APPEND_IN_TURN.format(count=4000, call=call).encode())
        appends._number += 4000
        assert count_append_buffers(appends) <= before + 8  # the indexes of the log have grown by a level
        assert count_buffers(appends, "SELECT position, recorded_at FROM ledger.head") <= 12


def test_positions_are_gapless_whatever_release_appends_and_whoever_rolls_back(dsn: str) -> None:
    def run(release: str) -> list[int]:
        positions = []
        with appends_of(dsn, release) as appends:
            for n in range(60):
                if n % 7 == 3:
                    with appends.conn.transaction(force_rollback=True):
                        appends.append(10_000 + n)
                positions.append(appends.append())
        return positions

    releases = [*_OF_RELEASES, *_OF_RELEASES]
    with ThreadPoolExecutor(len(releases)) as pool:
        answered = [position for positions in pool.map(run, releases) for position in positions]
    check_gapless(read_positions(dsn))
    assert sorted(answered) == list(range(1, 60 * len(releases) + 1))
    assert fetch_rows(dsn, "SELECT position FROM ledger.head") == [(60 * len(releases),)]


def test_an_appender_has_one_row_which_answers_or_refuses_every_batch_that_comes_again(dsn: str) -> None:
    rows = "SELECT batch, hundred FROM ledger.appenders"
    with appends_of(dsn) as appends:
        for number in (1, 2, 99, 100, 350):
            position = appends.append(number)
            assert appends.append(number) == position
            assert fetch_rows(dsn, rows) == [(number, number // 100)]
        for number in (349, 300, 120, 99, 1):
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="was given up"):
                appends.append(number)
    assert len(read_positions(dsn)) == 5


def test_a_batch_that_is_sent_again_commits_a_write(dsn: str) -> None:
    """So its answer waits until a synchronous standby has what the first one wrote."""
    wal = """SELECT pg_current_xact_id_if_assigned() IS NOT NULL,
             (SELECT wal_records FROM pg_stat_get_backend_wal(pg_backend_pid()))"""

    def read(conn: psycopg.Connection[TupleRow]) -> TupleRow:
        conn.execute("SELECT pg_stat_force_next_flush()")
        row = conn.execute(wal).fetchone()
        assert row is not None
        return row

    with appends_of(dsn) as appends:
        if appends.conn.info.server_version < 180_000:
            pytest.skip("Postgres counts the WAL of a backend since version 18")
        appends.append()
        _, before = read(appends.conn)
        with appends.conn.transaction():
            appends.append(1)
            assert read(appends.conn)[0]
        assert read(appends.conn)[1] >= before + 2  # the lock and the commit


@pytest.fixture
def dsn_before(cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    """A database as the release before had it."""
    shutil.copytree(migrations.MIGRATIONS, tmp_path / "alembic")
    for script in (tmp_path / "alembic" / "versions").glob("[0-9]*.py"):
        if script.name[:4] > BEFORE:
            script.unlink()
    with cluster.create_database(template="template0") as dsn:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(migrations, "MIGRATIONS", tmp_path / "alembic")
            migrations.migrate(dsn)
        yield dsn


def test_calls_under_way_during_the_migration_append_once_and_without_an_error(dsn_before: str) -> None:
    """Those that began before it, and those that waited for it with the functions of before."""
    dsn = dsn_before
    appenders = [Appends(dsn, release) for release in ("0019", "0021", "0021")]
    with ThreadPoolExecutor(8) as pool, psycopg.connect(dsn) as blocker:
        for each in appenders:  # with prepared plans, as in a process that runs
            for _ in range(8):
                each.append()
        blocker.execute("SELECT FROM ledger.head FOR UPDATE")
        first = pool.submit(appenders[2].append)
        wait_for_locks(dsn, 1)
        migration = pool.submit(migrations.migrate, dsn)
        wait_for_locks(dsn, 2)
        waiting = [pool.submit(each.append) for each in appenders[:2]]
        wait_for_locks(dsn, 4)
        blocker.rollback()
        migration.result(30)
        positions = [future.result(30) for future in (first, *waiting)]
    assert sorted(positions) == [25, 26, 27]
    assert sorted(each.append(9) for each in appenders) == [25, 26, 27], "sent again: the same answers"
    assert [each.append() for each in appenders] == [28, 29, 30]
    check_gapless(read_positions(dsn))
    for each in appenders:
        each.conn.close()


def wait_for_locks(dsn: str, count: int) -> None:
    """Wait until `count` sessions of the database wait for a lock."""
    query = """SELECT count(*) FROM pg_stat_activity
               WHERE datname = current_database() AND wait_event_type = 'Lock'"""
    done = threading.Event()
    for _ in range(1000):
        if fetch_rows(dsn, query)[0][0] >= count:
            return
        done.wait(0.005)
    raise AssertionError("nobody waits")


def test_a_log_that_does_not_end_at_its_head_is_not_migrated(dsn_before: str) -> None:
    with psycopg.connect(dsn_before) as conn:
        conn.execute("UPDATE ledger.head SET position = 2")
    with pytest.raises(SettingError, match=r"ends at position 0, but ledger\.head is at 2"):
        migrations.migrate(dsn_before)
