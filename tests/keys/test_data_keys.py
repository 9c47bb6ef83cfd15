"""Data keys: wrapped, loaded together, cached for as long as erasures are known, and never after one."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import Iterator

import psycopg
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ledger.errors import ServiceKeyMissing
from ledger.ids import new_id
from ledger.keys.data_keys import _SELECT_KEYS, CACHED_KEYS_MAX, DataKey, DataKeys, Keyring, NewKey
from ledger.keys.erasure_watch import LEASE_SECONDS, ErasureWatch
from ledger.keys.service_keys import ServiceKeys
from ledger.postgres.connections import Conn, connect, fetch_all, open_connection
from ledger.store.log import PLANNER_SETTINGS
from tests.conftest import Cluster
from tests.postgres.plans import list_nodes

KEY = b"the service key of these tests, of 32 bytes and more"
_INSERT = "INSERT INTO ledger.data_keys (subject, wrapped, wrapped_by) VALUES (%s, %s, %s)"


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with cluster.create_database() as dsn:
        yield dsn


@pytest.fixture(autouse=True)
def _no_keys(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("DELETE FROM ledger.data_keys")


def insert(dsn: str, *keys: NewKey) -> None:
    with psycopg.connect(dsn) as conn:
        for new in keys:
            conn.execute(_INSERT, (new.subject, new.wrapped, new.wrapped_by))


def erase(dsn: str, subject: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("UPDATE ledger.data_keys SET erasing_since = now() WHERE subject = %s", (subject,))


def count_keys(keyring: Keyring, subjects: list[str]) -> int:
    return sum(keyring.get(subject) is not None for subject in subjects)


def watched() -> ErasureWatch:
    """A watch that has just seen that there was no erasure."""
    watch = ErasureWatch()
    watch.observe(1, asked_at=time.monotonic())
    return watch


class CountedConn:
    """Counts the statements of a connection."""

    def __init__(self, conn: Conn) -> None:
        self._conn = conn
        self.count = 0
        self.prepare_threshold = conn.prepare_threshold

    async def execute(self, *arguments: object) -> object:
        self.count += 1
        return await self._conn.execute(*arguments)  # type: ignore[call-overload]


def test_a_key_is_derived_as_rfc_5869_says() -> None:
    key = DataKeys(KEY).create("cus_1").key
    raw = bytes(range(32))
    for length in (16, 32, 33, 64, 100):
        theirs = HKDF(SHA256(), length, b"ledger/data-key/1", b"events/cus_1").derive(raw)
        assert DataKey(raw).derive(b"events/cus_1", length) == theirs
    assert key.derive(b"events/cus_1") != DataKey(raw).derive(b"events/cus_1")


def test_what_is_sealed_opens_under_its_key_context_and_data_only() -> None:
    key, other = DataKeys(KEY).create("cus_1").key, DataKeys(KEY).create("cus_1").key
    sealed = key.seal("a", b"Ada", b"1")
    assert key.open("a", sealed, b"1") == b"Ada"
    assert sealed != key.seal("a", b"Ada", b"1")
    for opener, context, data in ((other, "a", b"1"), (key, "b", b"1"), (key, "a", b"2")):
        with pytest.raises(InvalidTag):
            opener.open(context, sealed, data)


def test_another_process_loads_the_same_key(dsn: str) -> None:
    async def run() -> None:
        new = DataKeys(KEY).create("cus_1")
        insert(dsn, new)
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            keyring = await DataKeys(KEY).load(conn, ["cus_1", "cus_none"])
        loaded = keyring.get("cus_1")
        assert loaded is not None
        assert loaded.open("a", new.key.seal("a", b"Ada")) == b"Ada"
        assert keyring.get("cus_none") is None
        assert not keyring.is_erased("cus_none")

    asyncio.run(run())


def test_the_wrap_of_one_subject_does_not_open_as_that_of_another(dsn: str) -> None:
    async def run() -> None:
        new = DataKeys(KEY).create("cus_1")
        insert(dsn, new._replace(subject="cus_2"))
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            keyring = await DataKeys(KEY).load(conn, ["cus_2"])
            assert keyring.get("cus_2") is None
            assert not keyring.is_erased("cus_2")

    asyncio.run(run())


def test_a_key_under_a_service_key_that_is_missing_says_which(dsn: str) -> None:
    async def run() -> None:
        insert(dsn, DataKeys(b"another service key, of 32 bytes and more").create("cus_1"))
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            with pytest.raises(ServiceKeyMissing):
                await DataKeys(KEY).load(conn, ["cus_1"])
            keys = ServiceKeys(KEY, b"another service key, of 32 bytes and more")
            assert (await DataKeys(keys).load(conn, ["cus_1"])).get("cus_1") is not None

    asyncio.run(run())


def test_one_statement_loads_what_is_not_cached(dsn: str) -> None:
    async def run() -> None:
        keys = DataKeys(KEY, watched())
        subjects = [f"cus_{number}" for number in range(50)]
        insert(dsn, *map(keys.create, subjects))
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            counted = CountedConn(conn)
            assert count_keys(await keys.load(counted, subjects[:30]), subjects) == 30  # type: ignore[arg-type]
            assert count_keys(await keys.load(counted, subjects), subjects) == 50  # type: ignore[arg-type]
            assert count_keys(await keys.load(counted, subjects), subjects) == 50  # type: ignore[arg-type]
            assert counted.count == 2

    asyncio.run(run())


def test_a_cache_smaller_than_a_batch_still_gives_all_its_keys(dsn: str) -> None:
    async def run() -> None:
        keys = DataKeys(KEY, watched(), cached_max=3)
        subjects = [f"cus_{number}" for number in range(20)]
        insert(dsn, *map(keys.create, subjects))
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            for _ in range(2):
                assert count_keys(await keys.load(conn, subjects), subjects) == 20
        assert len(keys) == 3

    asyncio.run(run())


def test_an_erased_subject_has_no_key_from_then_on(dsn: str) -> None:
    async def run() -> None:
        watch = watched()
        keys = DataKeys(KEY, watch)
        insert(dsn, keys.create("cus_1"))
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            assert (await keys.load(conn, ["cus_1"])).get("cus_1") is not None
            erase(dsn, "cus_1")
            assert keys.get_cached("cus_1") is not None  # not told yet
            watch.observe(2, asked_at=time.monotonic())
            assert keys.get_cached("cus_1") is None
            assert (await keys.load(conn, ["cus_1"])).is_erased("cus_1")

    asyncio.run(run())


def test_a_process_that_may_have_missed_an_erasure_uses_nothing_cached(dsn: str) -> None:
    async def run() -> None:
        watch = ErasureWatch()
        keys = DataKeys(KEY, watch)
        insert(dsn, keys.create("cus_1"))
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            watch.observe(1, asked_at=time.monotonic() - LEASE_SECONDS)
            await keys.load(conn, ["cus_1"])  # however long that takes
            watch.observe(1, asked_at=time.monotonic() - LEASE_SECONDS + 0.5)
            assert keys.get_cached("cus_1") is not None
            erase(dsn, "cus_1")
            time.sleep(0.55)  # noqa: ASYNC251 (a stopped process)
            assert keys.get_cached("cus_1") is None
            assert (await keys.load(conn, ["cus_1"])).is_erased("cus_1")

    asyncio.run(run())


def test_a_key_that_is_loaded_while_its_subject_is_erased_is_not_kept(dsn: str) -> None:
    async def run() -> None:
        watch = watched()
        keys = DataKeys(KEY, watch)
        insert(dsn, keys.create("cus_1"))

        class ErasesMeanwhile(CountedConn):
            async def execute(self, *arguments: object) -> object:
                result = await super().execute(*arguments)
                if self.count == 1:
                    erase(dsn, "cus_1")
                    watch.observe(2, asked_at=time.monotonic())
                return result

        async with open_connection(dsn, "ledger_api", name="test") as conn:
            keyring = await keys.load(ErasesMeanwhile(conn), ["cus_1"])  # type: ignore[arg-type]
            assert keyring.is_erased("cus_1")
            assert keyring.get("cus_1") is None

    asyncio.run(run())


def test_keys_are_planned_once_on_a_connection_that_psycopg_prepares_nothing_on(dsn: str) -> None:
    async def run() -> None:
        keys = DataKeys(KEY, ErasureWatch())
        insert(dsn, keys.create("cus_1"))
        async with await connect(
            dsn, "ledger_projector", name="projections", settings=PLANNER_SETTINGS, prepare_threshold=None
        ) as conn:
            for _ in range(3):
                assert (await keys.load(conn, ["cus_1"])).get("cus_1") is not None
            used = await fetch_all(conn, "SELECT generic_plans, custom_plans FROM pg_prepared_statements")
        assert used == [(3, 0)]

    asyncio.run(run())


def test_subjects_of_one_moment_have_their_keys_in_one_partition(dsn: str) -> None:
    """So a batch of new ones opens one table, and not one for each. Imported ids are spread as ever."""
    second = 1_700_000_000
    moments = {new_id("cus", second + hundredths / 100) for hundredths in range(200)}
    hours = {new_id("cus", second + 3600 * hour) for hour in range(200)}
    imported = {f"cus_{number:014d}" for number in range(200)}
    long = {f"customer_of_another_system_{number:024d}" for number in range(200)}
    keys = DataKeys(KEY)
    insert(dsn, *map(keys.create, moments | hours | imported | long))
    with psycopg.connect(dsn) as conn:

        def count_partitions(subjects: set[str]) -> int:
            query = "SELECT count(DISTINCT tableoid) FROM ledger.data_keys WHERE subject = ANY (%s)"
            row = conn.execute(query, (list(subjects),)).fetchone()
            assert row is not None
            return int(row[0])

        assert count_partitions(moments) <= 2
        assert count_partitions(hours) > 40
        assert count_partitions(imported) > 40
        assert count_partitions(long) > 40


def test_a_key_is_looked_up_in_its_partition_only(dsn: str) -> None:
    keys = DataKeys(KEY)
    subjects = ["cus_1", new_id("cus", 1_700_000_000.0)]
    insert(dsn, *map(keys.create, subjects))
    with psycopg.connect(dsn) as conn:
        row = conn.execute(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {_SELECT_KEYS}", {"subjects": [*subjects, "cus_none"]}
        ).fetchone()
    assert row is not None
    nodes = list_nodes(row[0][0]["Plan"])
    loops = [node["Actual Loops"] for node in nodes if str(node.get("Relation Name")).startswith("data_keys")]
    assert sum(loops) == 3


def test_twenty_thousand_cached_keys_take_little_memory() -> None:
    keys = DataKeys(KEY, watched())
    tracemalloc.start()
    try:
        for number in range(CACHED_KEYS_MAX):
            new = keys.create(f"cus_{number}")._replace(epoch=1)
            new.key.seal("events/cus", b"text")
            new.key.seal_document(b"document")
            keys.remember(new)
        assert len(keys) == CACHED_KEYS_MAX
        assert tracemalloc.get_traced_memory()[0] < 8_000_000
    finally:
        tracemalloc.stop()
