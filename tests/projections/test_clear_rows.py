"""An upgraded database: which generations may keep personal data in the clear, until they are built again."""

from __future__ import annotations

import psycopg

from ledger.postgres.connections import open_connection
from ledger.store.seals.clear_rows import SEALED_PROJECTIONS, list_clear_generations
from ledger.store.seals.key_migration import KeyMigration
from projections.read_models.catalog import PROJECTIONS
from projections.rebuild import generations
from tests.projections.histories import Author, catch_up, run_story
from tests.projections.rebuilds import OPERATOR, run_rebuild

BEFORE_0039 = """
UPDATE ledger.served SET oldest = '0038'; UPDATE ledger.erasure_epoch SET epoch = 0;
UPDATE ledger.key_migration SET finished_at = NULL;
"""
CONTRACT = "UPDATE ledger.served SET oldest = '0039'"
FIRST = sorted(f"{name}_g1" for name in SEALED_PROJECTIONS)


def execute(dsn: str, statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(statements.encode())


async def migrate_keys(dsn: str, author: Author) -> None:
    async with open_connection(dsn, "ledger_api", name="test") as conn:
        while await KeyMigration(dsn, author.store.codec).advance(conn) is not None:
            pass


async def find(dsn: str, *objects: str) -> list[str]:
    async with open_connection(dsn, "ledger_api", name="test") as conn:
        return sorted(await list_clear_generations(conn, objects))


def test_the_projections_with_sealed_rows_are_all_named() -> None:
    sealed = {each.name for each in PROJECTIONS if any(column.sealed for column in each.columns)}
    assert set(SEALED_PROJECTIONS) == sealed


def test_generations_of_before_are_named_until_they_are_retired(dsn: str) -> None:
    async def story(author: Author) -> None:
        execute(dsn, BEFORE_0039)
        early = await author.create_customer(name="Ada")
        await catch_up(dsn)
        execute(dsn, CONTRACT)
        await migrate_keys(dsn, author)
        late = await author.create_customer(name="Grace")
        await catch_up(dsn)
        assert await find(dsn, early) == FIRST
        assert await find(dsn, late, early) == FIRST
        assert await find(dsn, late) == [], "all of hers is sealed"
        assert (await run_rebuild(dsn)).state == "switched"
        assert await find(dsn, early) == FIRST, "kept for a rollback"
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            for name in SEALED_PROJECTIONS:
                await generations.retire(conn, name, [1], OPERATOR)
        assert await find(dsn, early) == []

    run_story(dsn, story)


def test_a_database_that_no_earlier_release_has_used_has_none(dsn: str) -> None:
    async def story(author: Author) -> None:
        customer = await author.create_customer(name="Ada")
        await catch_up(dsn)
        await migrate_keys(dsn, author)
        assert await find(dsn, customer) == []

    run_story(dsn, story)
