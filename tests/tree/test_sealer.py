"""The sealer: the tree follows the log, whatever happens in between, and a damaged one is never signed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import psycopg
import pytest

from ledger.errors import DamagedTree
from ledger.metrics.backlogs import read_sealing_lag
from ledger.postgres.connections import Conn, fetch_one, open_connection
from ledger.store.journal import Append
from ledger.store.store import Store
from ledger.tlog.checkpoints import open_checkpoint
from ledger.tree import sealer as sealer_module
from ledger.tree.checkpoints import read_kept
from ledger.tree.keys import list_keys
from ledger.tree.sealer import Sealer
from ledger.tree.storage import read_root, read_tile, read_tree_head
from tests.store.stores import CAUSE, create_change, fetch_rows, open_store, wait_until
from tests.tlog.logs import list_tiles
from tests.tree.sealed import compute_root, make_sealer

ROOT = Path(__file__).resolve().parents[2]
Scene = Callable[[Store, Sealer, Conn], Awaitable[None]]

# What only a superuser can do, who passes by the triggers.
_AS_SUPERUSER = "SET session_replication_role = replica;"
_CUT = "DELETE FROM ledger.events WHERE notification_id > {0};"
DAMAGES = {
    "the log ends at position 250, but 300 records were signed": _CUT.format(250),
    "the record at position 300 is not the one that was signed": (
        "UPDATE ledger.events SET actor = 'another' WHERE notification_id = 300"
    ),
    "the log has 299 records instead of 301 after position 299": (
        "DELETE FROM ledger.events WHERE notification_id IN (350, 360)"
    ),
    "the stored tile 1 of level 0 has 43 hashes, but 44 in a tree of 300 records": (
        "UPDATE ledger.tree_tiles SET hashes = substr(hashes, 33) WHERE level = 0 AND number = 1"
    ),
    "the stored tiles do not have the root that was signed for 300 records": (
        "UPDATE ledger.tree_tiles SET hashes = set_byte(hashes, 40, 0) WHERE level = 0 AND number = 1"
    ),
    "there are other tiles than those of the 600 records": (
        "INSERT INTO ledger.tree_tiles VALUES (0, 2, sha256('another'))"
    ),
}


def open_reader(dsn: str) -> AbstractAsyncContextManager[Conn]:
    return open_connection(dsn, "ledger_api", name="reader")


def play(dsn: str, scene: Scene, *, checkpoint_seconds: int = 60) -> None:
    """Run a scene with a store, a sealer that seals when it is called, and a connection."""

    async def main() -> None:
        async with (
            open_store(dsn) as store,
            make_sealer(store, checkpoint_seconds=checkpoint_seconds) as sealer,
            open_reader(dsn) as conn,
        ):
            await scene(store, sealer, conn)

    asyncio.run(main())


async def append_many(store: Store, begin: int, end: int) -> None:
    """In one transaction, so that the log then ends at `end`."""
    await store.journal.append(Append(CAUSE, [create_change(f"cus_{n}") for n in range(begin, end)]))


async def seal_all(sealer: Sealer) -> None:
    while (await sealer.seal()).remaining:
        pass


async def check_tree(conn: Conn, size: int) -> None:
    """The stored tree is that of the first `size` records, and a key of the log signed it."""
    head = await read_tree_head(conn)
    signed = open_checkpoint(head.note, *[key.verifier for key in await list_keys(conn)])
    root = await compute_root(conn, size)
    assert (head.size, head.root, head.error) == (size, root, None)
    assert (signed.size, signed.root) == (size, root)
    assert await read_root(conn, size) == root
    for tile in list_tiles(size):
        assert tile.level is not None
        hashes = await read_tile(conn, tile.level, tile.number)
        assert hashes is not None
        assert len(hashes) == tile.width * 32


def test_a_tree_grown_in_steps_is_the_tree_hashed_from_scratch(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer_module, "BATCH_EVENTS_MAX", 300)

    async def scene(store: Store, sealer: Sealer, conn: Conn) -> None:
        assert await sealer.seal() == (0, 0, False)
        await check_tree(conn, 0)
        size = 0
        for grown in (1, 2, 3, 255, 256, 257, 511, 512, 700, 1500):
            await append_many(store, size, grown)
            size = grown
            await seal_all(sealer)
            await check_tree(conn, size)
        for old in (1, 2, 255, 256, 257, 700, 1499):
            assert await read_root(conn, old) == await compute_root(conn, old)

    play(dsn, scene)


def test_the_tree_grows_over_a_third_level_of_tiles(dsn: str) -> None:
    async def scene(store: Store, sealer: Sealer, conn: Conn) -> None:
        for begin in range(0, 66_000, 6_000):
            await append_many(store, begin, begin + 6_000)
        await seal_all(sealer)
        await check_tree(conn, 66_000)
        assert len(await read_tile(conn, 2, 0) or b"") == 32

    play(dsn, scene)


def test_sealers_side_by_side_seal_each_record_once(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealer_module, "BATCH_EVENTS_MAX", 50)

    async def scene(store: Store, sealer: Sealer, conn: Conn) -> None:
        async with make_sealer(store) as second, make_sealer(store) as third:
            sealers = (sealer, second, third)
            for each in sealers:
                await each.start()
            for begin in range(0, 2_000, 40):
                await append_many(store, begin, begin + 40)
            await wait_until(lambda: fetch_rows(dsn, "SELECT size FROM ledger.tree_head") == [(2_000,)])
        await check_tree(conn, 2_000)

    play(dsn, scene)
    assert fetch_rows(dsn, "SELECT count(*) FROM ledger.signing_keys") == [(1,)]


def test_while_another_process_seals_nothing_is_done(dsn: str) -> None:
    async def scene(store: Store, sealer: Sealer, conn: Conn) -> None:
        await append_many(store, 0, 5)
        async with open_reader(dsn) as other, other.transaction():
            await other.execute("SELECT FROM ledger.tree_head FOR UPDATE")
            assert (await sealer.seal()).contended
        assert await sealer.seal() == (5, 0, False)

    play(dsn, scene)


def test_a_seal_that_is_killed_loses_nothing_and_is_made_again(dsn: str) -> None:
    async def scene(store: Store, sealer: Sealer, conn: Conn) -> None:
        await append_many(store, 0, 300)
        await sealer.seal()
        await append_many(store, 300, 700)
        # The seal has hashed and signed, and waits with its tiles for this lock.
        async with await psycopg.AsyncConnection.connect(dsn) as blocker:
            await blocker.execute("LOCK ledger.checkpoints")
            sealing = asyncio.create_task(sealer.seal())
            await wait_until(lambda: fetch_rows(dsn, _WAITING_SEALERS) != [])
            [(pid,)] = fetch_rows(dsn, _WAITING_SEALERS)
            fetch_rows(dsn, f"SELECT pg_terminate_backend({pid})")
            with pytest.raises(psycopg.OperationalError):
                await sealing
        await check_tree(conn, 300)
        await sealer.seal()
        await check_tree(conn, 700)

    play(dsn, scene)


_WAITING_SEALERS = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'ledger sealer' AND wait_event_type = 'Lock'
"""


def test_another_process_continues_the_tree_with_the_same_key(dsn: str) -> None:
    async def scene(store: Store, sealer: Sealer, conn: Conn) -> None:
        size = 0 if await fetch_one(conn, "SELECT FROM ledger.events") is None else 400
        await append_many(store, size, size + 400)
        await sealer.seal()
        await check_tree(conn, size + 400)

    play(dsn, scene)
    play(dsn, scene)
    assert fetch_rows(dsn, "SELECT count(*) FROM ledger.signing_keys") == [(1,)]


GROWTH_ONLY = [
    "UPDATE ledger.tree_tiles SET hashes = sha256('another')",
    "UPDATE ledger.tree_tiles SET hashes = substr(hashes, 1, 64)",
    "UPDATE ledger.tree_tiles SET number = number + 7",
    "DELETE FROM ledger.tree_tiles",
    "TRUNCATE ledger.tree_tiles",
    "UPDATE ledger.tree_head SET size = 2",
    "UPDATE ledger.tree_head SET root = sha256('another')",
    "DELETE FROM ledger.tree_head",
    "TRUNCATE ledger.tree_head",
]


@pytest.mark.parametrize("statement", GROWTH_ONLY)
def test_even_the_owner_of_the_tree_can_only_let_it_grow(sealed_dsn: str, statement: str) -> None:
    with psycopg.connect(sealed_dsn) as conn, pytest.raises(psycopg.errors.RestrictViolation):
        conn.execute(statement.encode())


@pytest.mark.parametrize("role", ["ledger_api", "ledger_projector"])
@pytest.mark.parametrize(
    "statement",
    [*GROWTH_ONLY, "DELETE FROM ledger.checkpoints", "DELETE FROM ledger.signing_keys"],
)
def test_the_services_roles_delete_nothing_of_the_tree(sealed_dsn: str, statement: str, role: str) -> None:
    refusals = (psycopg.errors.RestrictViolation, psycopg.errors.InsufficientPrivilege)
    with psycopg.connect(sealed_dsn, options=f"-c role={role}") as conn, pytest.raises(refusals):
        conn.execute(statement.encode())


@pytest.mark.parametrize("message", DAMAGES)
def test_a_log_or_tree_that_was_changed_is_not_signed(dsn: str, message: str) -> None:
    async def scene(store: Store, sealer: Sealer, conn: Conn) -> None:
        await append_many(store, 0, 300)
        await sealer.seal()
        signed = await read_tree_head(conn)
        await append_many(store, 300, 600)
        with psycopg.connect(dsn, autocommit=True) as superuser:
            superuser.execute((_AS_SUPERUSER + DAMAGES[message]).encode())
        with pytest.raises(DamagedTree) as error:
            await sealer.seal()
        assert message in str(error.value)
        assert await read_tree_head(conn) == signed

    play(dsn, scene)


def test_a_stopped_sealer_is_seen_and_recovers_when_the_log_is_restored(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer_module, "RETRY_SECONDS", 0.01)

    async def scene(store: Store, sealer: Sealer, conn: Conn) -> None:
        await append_many(store, 0, 5)
        await sealer.seal()
        with psycopg.connect(dsn, autocommit=True) as superuser:
            superuser.execute(_AS_SUPERUSER.encode())
            superuser.execute(b"UPDATE ledger.events SET notification_id = -5 WHERE notification_id = 5")
            await sealer.start()
            await wait_until(lambda: fetch_rows(dsn, "SELECT error FROM ledger.tree_head") != [(None,)])
            lag = await read_sealing_lag(conn, store.clock.now())
            assert (lag.size, lag.events, lag.is_stuck(30.0)) == (5, -1, True)
            assert "the log ends at position 4, but 5 records were signed" in (lag.error or "")
            superuser.execute(b"UPDATE ledger.events SET notification_id = 5 WHERE notification_id = -5")
        await wait_until(lambda: fetch_rows(dsn, "SELECT error FROM ledger.tree_head") == [(None,)])
        assert not (await read_sealing_lag(conn, store.clock.now())).is_stuck(30.0)
        await check_tree(conn, 5)

    play(dsn, scene)


def test_without_a_sealer_the_lag_is_stuck_after_its_limit(dsn: str) -> None:
    async def scene(store: Store, sealer: Sealer, conn: Conn) -> None:
        await sealer.seal()
        await append_many(store, 0, 3)
        lag = await read_sealing_lag(conn, store.clock.now() + 31)
        assert (lag.size, lag.events) == (0, 3)
        assert lag.seconds > 30
        assert not lag.is_stuck(30.0), "it was sealed just now: it is at work"
        assert lag._replace(idle_seconds=31.0).is_stuck(30.0)
        assert not lag._replace(idle_seconds=31.0, has_begun=False).is_stuck(30.0)

    play(dsn, scene)


def test_checkpoints_are_kept_at_most_once_in_an_interval(dsn: str) -> None:
    async def scene(store: Store, sealer: Sealer, conn: Conn) -> None:
        await sealer.seal()
        for size in (1, 2):
            await append_many(store, size - 1, size)
            await sealer.seal()
        with psycopg.connect(dsn, autocommit=True) as superuser:
            superuser.execute(b"UPDATE ledger.checkpoints SET made_at = made_at - interval '1 minute'")
        for size in (3, 4):
            await append_many(store, size - 1, size)
            await sealer.seal()
        await sealer.seal()
        assert fetch_rows(dsn, "SELECT size FROM ledger.checkpoints ORDER BY 1") == [(1,), (3,)]

    play(dsn, scene)


def test_the_last_checkpoint_of_a_burst_is_kept_although_nothing_follows(dsn: str) -> None:
    async def scene(store: Store, sealer: Sealer, conn: Conn) -> None:
        for size in (1, 3):
            await append_many(store, size // 2, size)
            await sealer.seal()
        assert await read_kept(conn, 3) is None
        with psycopg.connect(dsn, autocommit=True) as superuser:
            superuser.execute(b"UPDATE ledger.checkpoints SET made_at = made_at - interval '1 minute'")
        await sealer.start()
        while await read_kept(conn, 3) is None:  # noqa: ASYNC110  # the database has no event to wait for
            await asyncio.sleep(0.02)

    play(dsn, scene)


def test_a_tree_made_again_from_the_log_has_the_same_root(dsn: str) -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    statements = text[
        text.index("TRUNCATE ledger.tree_tiles;") : text.index("The next worker seals the whole")
    ]

    async def scene(store: Store, sealer: Sealer, conn: Conn) -> None:
        await append_many(store, 0, 700)
        await sealer.seal()
        root = (await read_tree_head(conn)).root
        with psycopg.connect(dsn, autocommit=True) as superuser:
            superuser.execute(f"BEGIN; {_AS_SUPERUSER} {statements}".encode())
        await sealer.seal()
        await check_tree(conn, 700)
        assert (await read_tree_head(conn)).root == root

    play(dsn, scene)
