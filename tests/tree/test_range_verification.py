"""The log verified in ranges finds what the verification of the whole log finds, and names the same first
position."""

from __future__ import annotations

import asyncio

import pytest

from ledger.postgres.connections import Conn
from ledger.tlog.tiles import TILE_WIDTH
from ledger.tree import verification
from ledger.tree.keys import Keyring
from ledger.tree.verification import Verification, verify_range
from tests.store.stores import KEY
from tests.tree.test_verification import (
    CASES,
    KEPT,
    SEALED,
    Tampering,
    open_own_key,
    open_superuser,
    rewrite,
    run_sql,
    sealed,  # noqa: F401  # a fixture
)


async def verify_in_ranges(dsn: str, change: Tampering | None = None) -> list[Verification]:
    """What each range of a tile finds after a change, which is then undone."""
    async with open_superuser(dsn) as conn, conn.transaction(force_rollback=True):
        await conn.execute("SET LOCAL session_replication_role = replica")
        if change:
            await change(conn)
        results: list[Verification] = []
        while not results or results[-1].upto < results[-1].sealed:
            begin = results[-1].upto if results else 0
            results.append(await verify_range(conn, Keyring(KEY), begin, begin + TILE_WIDTH, seconds=10))
        return results


def list_differences(results: list[Verification]) -> list[tuple[int, int] | None]:
    return [result.first_difference for result in results]


def find_first(results: list[Verification]) -> tuple[int, int] | None:
    found = [each for each in list_differences(results) if each is not None]
    return min(found, key=lambda each: (each[1], -each[0]), default=None)


def test_each_range_of_an_untouched_log_leads_to_the_newest_checkpoint(sealed: str) -> None:  # noqa: F811
    results = asyncio.run(verify_in_ranges(sealed))
    assert [result.upto for result in results] == [256, 512, SEALED]
    assert [result.findings for result in results] == [[], [], []]
    assert len({result.root for result in results}) == 1
    assert sum(result.checkpoints for result in results) == len(KEPT) + len(results)


@pytest.mark.parametrize("name", CASES)
def test_the_ranges_find_the_same_first_position(sealed: str, name: str) -> None:  # noqa: F811
    change, first, code = CASES[name]
    results = asyncio.run(verify_in_ranges(sealed, change))
    assert find_first(results) == first
    assert code in {finding.code for result in results for finding in result.findings}


def test_a_range_says_which_side_is_wrong_by_the_newest_checkpoint(sealed: str) -> None:  # noqa: F811
    change = run_sql("UPDATE ledger.events SET state = state || ' '::bytea WHERE notification_id = 321")
    results = asyncio.run(verify_in_ranges(sealed, change))
    assert list_differences(results) == [None, (320, 321), None]
    assert results[1].findings[0].message == "the event at position 321 is not the one that was sealed"


def test_a_tree_made_anew_is_found_in_every_range(sealed: str) -> None:  # noqa: F811
    """Its tiles do not lead to what was signed, whichever of them a range reads."""

    async def change(conn: Conn) -> None:
        await rewrite(conn, None)

    async def change_and_sign(conn: Conn) -> None:
        await rewrite(conn, await open_own_key(conn))

    results = asyncio.run(verify_in_ranges(sealed, change))
    assert None not in list_differences(results)
    assert find_first(results) == (300, 500)
    assert find_first(asyncio.run(verify_in_ranges(sealed, change_and_sign))) == (300, 500)


def test_a_range_ends_after_a_block_when_its_time_is_up(
    sealed: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verification, "BLOCK_EVENTS", TILE_WIDTH)

    async def verify() -> Verification:
        async with open_superuser(sealed) as conn:
            return await verify_range(conn, Keyring(KEY), 0, SEALED, seconds=0)

    result = asyncio.run(verify())
    assert (result.upto, result.sealed, result.findings) == (TILE_WIDTH, SEALED, [])
