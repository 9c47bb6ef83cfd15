"""`ledger audit verify` finds what a superuser of the database changes, and names the first position.

One sealed log for all: each tampering happens in a transaction that is undone. Its tiles, its newest
checkpoint and the kept ones of 100, 300, 500 and 600 events are real.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from psycopg import sql

from ledger.cli.audit.verify import describe
from ledger.postgres.connections import Conn
from ledger.store.journal import Append
from ledger.store.store import Store
from ledger.tlog.checkpoints import Checkpoint
from ledger.tlog.keys import SignerKey
from ledger.tlog.merkle import EMPTY_ROOT
from ledger.tlog.notes import sign_note
from ledger.tree.edge import TreeEdge
from ledger.tree.keys import Keyring
from ledger.tree.records import derive_leaf_hash
from ledger.tree.storage import read_records, read_tree_head
from ledger.tree.verification import Verification, verify_log
from tests.conftest import Cluster
from tests.store.stores import CAUSE, KEY, create_change, open_store
from tests.tree.sealed import make_sealer

KEPT = (100, 300, 500, 600)
SEALED, HEAD = 700, 705
Tampering = Callable[[Conn], Awaitable[None]]


async def fill(dsn: str) -> None:
    async with open_store(dsn) as store:
        async with make_sealer(store, checkpoint_seconds=0) as sealer:
            for begin, end in zip((0, *KEPT), KEPT, strict=False):
                await append(store, begin, end)
                await sealer.seal()
        async with make_sealer(store, checkpoint_seconds=3600) as sealer:
            await append(store, KEPT[-1], SEALED)
            await sealer.seal()
        await append(store, SEALED, HEAD)


async def append(store: Store, begin: int, end: int) -> None:
    await store.journal.append(Append(CAUSE, [create_change(f"cus_{n}") for n in range(begin, end)]))


@pytest.fixture(scope="module")
def sealed(cluster: Cluster) -> Iterator[str]:
    with cluster.create_database() as dsn:
        asyncio.run(fill(dsn))
        yield dsn


@asynccontextmanager
async def open_superuser(dsn: str) -> AsyncIterator[Conn]:
    async with await Conn.connect(dsn, autocommit=True) as conn:
        yield conn


async def tamper(dsn: str, change: Tampering | None = None, **against: str) -> Verification:
    """What the verification finds after a change, which is then undone."""
    async with open_superuser(dsn) as conn, conn.transaction(force_rollback=True):
        await conn.execute("SET LOCAL session_replication_role = replica")  # no trigger refuses it
        if change:
            await change(conn)
        return await verify_log(conn, Keyring(KEY), against=against)


def run_sql(*statements: str) -> Tampering:
    async def change(conn: Conn) -> None:
        for statement in statements:
            await conn.execute(sql.SQL(statement))

    return change


def shift(after: int, by: int) -> tuple[str, str]:
    """Renumber all events after a position; in two steps, since positions are unique at every moment."""
    return (
        f"UPDATE ledger.events SET notification_id = -notification_id WHERE notification_id > {after}",
        f"UPDATE ledger.events SET notification_id = {by} - notification_id WHERE notification_id < 0",
    )


APPLY = """
INSERT INTO projections.checkpoints (projection, generation, position, recorded_at)
VALUES ('charges', 1, {position}, now())
"""
DELETE = "DELETE FROM ledger.events WHERE notification_id {}"
INSERT = """
INSERT INTO ledger.events SELECT {place}, 'cus_x', 1, topic, state, account, livemode, actor, request_id,
    idempotency_key, causation, customer, charge, payment_intent, recorded_at
FROM ledger.events WHERE notification_id = 1
"""
ROLL_BACK = """
UPDATE ledger.tree_head SET size = 600, note = c.note,
    root = decode(split_part(c.note, E'\\n', 3), 'base64') FROM ledger.checkpoints c WHERE c.size = 600
"""
TRIM = "UPDATE ledger.tree_tiles SET hashes = substr(hashes, 1, 32 * 88) WHERE (level, number) = (0, 2)"
OVERLAY = "UPDATE ledger.tree_tiles SET hashes = overlay(hashes PLACING sha256('x') FROM {byte}) "
COLUMNS = {
    "originator_id": "'cus_other'",
    "originator_version": "2",
    "topic": "'customer.deleted'",
    "state": "state || ' '::bytea",
    "account": "'acct_2'",
    "livemode": "NOT livemode",
    "actor": "'key_2'",
    "request_id": "NULL",
    "idempotency_key": "''",
    "causation": "'evt_1'",
    "customer": "'cus_1'",
    "charge": "'ch_1'",
    "payment_intent": "'pi_1'",
    "recorded_at": "recorded_at + interval '1 microsecond'",
}
CASES: dict[str, tuple[Tampering, tuple[int, int], str]] = {
    f"the column {name} edited": (
        run_sql(f"UPDATE ledger.events SET {name} = {value} WHERE notification_id = 321"), (320, 321), "event"
    )
    for name, value in COLUMNS.items()
} | {
    "a time that is no time": (
        run_sql("UPDATE ledger.events SET recorded_at = 'infinity' WHERE notification_id = 321"),
        (320, 321), "event",
    ),
    "an event removed": (
        run_sql(DELETE.format("= 400")), (399, 400), "missing"
    ),
    "an event removed, and the hole closed": (
        run_sql(DELETE.format("= 400"), *shift(400, -1)), (399, 400), "event"
    ),
    "an event inserted": (
        run_sql(*shift(449, 1), INSERT.format(place=450)), (449, 450), "event"
    ),
    "an event inserted before the first": (run_sql(INSERT.format(place=0)), (-1, 0), "positions"),
    "two events swapped": (
        run_sql(
            "UPDATE ledger.events SET notification_id = -1 WHERE notification_id = 10",
            "UPDATE ledger.events SET notification_id = 10 WHERE notification_id = 400",
            "UPDATE ledger.events SET notification_id = 400 WHERE notification_id = -1",
        ),
        (9, 10), "event",
    ),
    "the tail cut": (
        run_sql(DELETE.format("> 650")), (650, 651), "missing"
    ),
    "an event removed that is not sealed": (
        run_sql(DELETE.format("= 702")), (701, 702), "positions"
    ),
    "events removed at the end that are not sealed, but that a projection has applied": (
        run_sql(APPLY.format(position=HEAD), DELETE.format("> 703")), (703, 704), "positions"
    ),
    "a tile edited": (
        run_sql(OVERLAY.format(byte=143 * 32 + 1) + "WHERE (level, number) = (0, 1)"), (399, 400), "tile"
    ),
    "a tile removed": (
        run_sql("DELETE FROM ledger.tree_tiles WHERE (level, number) = (0, 1)"), (256, 257), "tile"
    ),
    "a tile shortened": (run_sql(TRIM), (600, 601), "tile"),
    "an upper tile edited": (
        run_sql(OVERLAY.format(byte=33) + "WHERE (level, number) = (1, 0)"), (256, 512), "tile"
    ),
    "an upper tile removed": (
        run_sql("DELETE FROM ledger.tree_tiles WHERE (level, number) = (1, 0)"), (0, 256), "tile"
    ),
    "an older checkpoint as the newest one": (run_sql(ROLL_BACK), (600, 601), "rolled_back"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_tampering_is_found_with_the_first_position(sealed: str, name: str) -> None:
    change, first, code = CASES[name]
    result = asyncio.run(tamper(sealed, change))
    assert result.first_difference == first
    assert code in {finding.code for finding in result.findings}
    assert all("\n" not in finding.message for finding in result.findings)


def test_the_untouched_log_is_verified(sealed: str) -> None:
    result = asyncio.run(tamper(sealed))
    assert result.findings == []
    assert (result.sealed, result.unsealed, result.checkpoints) == (SEALED, HEAD - SEALED, len(KEPT) + 1)
    assert describe(result)["verified"] is True


async def rewrite(conn: Conn, signer: SignerKey | None, *, kept: bool = False) -> None:
    """Edit the event 321 and make the whole tree anew. `signer` signs the new head, and the kept checkpoints
    if `kept`; None: the old checkpoint stays."""
    await conn.execute("UPDATE ledger.events SET state = state || ' '::bytea WHERE notification_id = 321")
    edge = TreeEdge(0, EMPTY_ROOT, {})
    done = 0
    for size in (*KEPT, SEALED):
        leaves = [derive_leaf_hash(each) async for page in read_records(conn, done, size) for each in page]
        done = size
        for tile in edge.append(b"".join(leaves)):
            await conn.execute(
                "UPDATE ledger.tree_tiles SET hashes = %s WHERE (level, number) = (%s, %s)",
                (tile.hashes, tile.level, tile.number),
            )
        if signer and kept:
            text = Checkpoint(signer.name, size, edge.root).to_text()
            note = sign_note(text, [signer])
            await conn.execute("UPDATE ledger.checkpoints SET note = %s WHERE size = %s", (note, size))
    if signer:
        note = sign_note(Checkpoint(signer.name, SEALED, edge.root).to_text(), [signer])
        await conn.execute("UPDATE ledger.tree_head SET root = %s, note = %s", (edge.root, note))


async def open_own_key(conn: Conn) -> SignerKey:
    return (await Keyring(KEY).open_signer(conn, 0)).keys[0]


def test_a_tree_made_anew_is_found_by_the_checkpoints(sealed: str) -> None:
    """Between the last kept checkpoint that agrees and the first that does not; also when the thief has the
    log's own key."""

    async def change(conn: Conn) -> None:
        await rewrite(conn, None)

    async def change_and_sign(conn: Conn) -> None:
        await rewrite(conn, await open_own_key(conn))

    for tampering in (change, change_and_sign):
        result = asyncio.run(tamper(sealed, tampering))
        assert result.first_difference == (300, 500)
        assert {finding.code for finding in result.findings} == {"rewritten"}


def test_a_leaf_hash_that_follows_its_event_is_found_by_the_tile_above(sealed: str) -> None:
    async def change(conn: Conn) -> None:
        await rewrite(conn, None)
        async with open_superuser(sealed) as other:  # the tile above as it was
            cur = await other.execute("SELECT hashes FROM ledger.tree_tiles WHERE level = 1")
            await conn.execute(
                "UPDATE ledger.tree_tiles SET hashes = %s WHERE level = 1", await cur.fetchone()
            )

    result = asyncio.run(tamper(sealed, change))
    assert {(finding.code, finding.after, finding.upto) for finding in result.findings} == {
        ("rewritten", 300, 500),
        ("tile", 256, 512),
    }


def test_a_perfect_forgery_is_found_by_a_checkpoint_kept_elsewhere(sealed: str) -> None:
    """With the log's own key, every checkpoint can be signed again; or the log be cut with its tree."""

    async def forge(conn: Conn) -> None:
        await rewrite(conn, await open_own_key(conn), kept=True)

    cut = run_sql(DELETE.format("> 600"), TRIM, ROLL_BACK)
    note = asyncio.run(read_note(sealed))
    for change, first in ((forge, (0, SEALED)), (cut, (600, 601))):
        assert asyncio.run(tamper(sealed, change)).findings == []
        result = asyncio.run(tamper(sealed, change, yesterday=note))
        assert result.first_difference == first
    result = asyncio.run(tamper(sealed, None, yesterday=note))
    assert (result.findings, result.checkpoints) == ([], len(KEPT) + 2)


async def read_note(dsn: str) -> str:
    async with open_superuser(dsn) as conn:
        return (await read_tree_head(conn)).note


def test_signatures_of_other_keys_count_for_nothing(sealed: str) -> None:
    """Also when the key was put into the table of keys."""

    async def replace(conn: Conn, table: str, condition: str) -> None:
        own = await open_own_key(conn)
        stranger = SignerKey.make(own.name, b"s" * 32)
        await conn.execute(
            "INSERT INTO ledger.signing_keys SELECT 'logkey_x', origin, 'ml-dsa-44', %s, sealed_private_key "
            "FROM ledger.signing_keys",
            (stranger.verifier.public_key,),
        )
        cur = await conn.execute(sql.SQL(f"SELECT note FROM {table} WHERE {condition}"))
        row: Any = await cur.fetchone()
        note = sign_note(row[0].partition("\n\n")[0] + "\n", [stranger])
        await conn.execute(sql.SQL(f"UPDATE {table} SET note = %s WHERE {condition}"), (note,))

    for table, condition in (("ledger.tree_head", "true"), ("ledger.checkpoints", "size = 300")):
        change = partial(replace, table=table, condition=condition)
        result = asyncio.run(tamper(sealed, change))
        assert [finding.code for finding in result.findings] == ["signature"]
        assert "not signed by a known key" in result.findings[0].message


def test_there_must_be_something_to_verify(dsn: str) -> None:
    async def change(conn: Conn) -> None:
        await conn.execute("DELETE FROM ledger.tree_head")

    assert [each.code for each in asyncio.run(tamper(dsn)).findings] == ["empty"]
    assert "head" in {each.code for each in asyncio.run(tamper(dsn, change)).findings}


def test_a_service_that_appends_and_seals_does_not_disturb(dsn: str) -> None:
    """Each moment at which the verification reads finds another head, tree and last tile."""

    async def grow(store: Store, begin: int, end: int) -> None:
        async with make_sealer(store, checkpoint_seconds=0) as sealer:
            for number in range(begin, end, 25):
                await append(store, number, number + 25)
                await sealer.seal()

    async def main() -> tuple[int, set[int]]:
        sizes: list[int] = []
        async with open_store(dsn) as store, open_superuser(dsn) as conn:
            await grow(store, 0, 25)
            growth = asyncio.create_task(grow(store, 25, 800))
            while not growth.done():
                result = await verify_log(conn, Keyring(KEY))
                assert result.findings == []
                sizes.append(result.sealed)
            await growth
            return (await verify_log(conn, Keyring(KEY))).sealed, set(sizes)

    sealed_count, sizes = asyncio.run(main())
    assert sealed_count == 800
    assert len(sizes) > 1
