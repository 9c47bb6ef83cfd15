"""Rows hold their documents compressed once no older release may run; they are the same rows."""

from __future__ import annotations

import psycopg

from ledger.postgres.connections import open_connection
from ledger.postgres.migrations import COMPRESSED_SINCE
from projections.read_models.catalog import PROJECTIONS
from projections.rebuild.verification import verify
from tests.projections.histories import Author, catch_up, run_story
from tests.projections.rebuilds import run_rebuild

DOCUMENTS = {
    "customers": "state",
    "charges": "state",
    "balance_transactions": "fact",
    "feed": "data",
}
BYTES_MAX = {"customers": 180, "charges": 290, "balance_transactions": 170, "feed": 300}
"""The average of a document in a row, sealed, with its length; without compression 600, 1530, 320 and 1630.
How well ids and moments compress is chance: over years of moments the averages were at most 160, 262, 152 and
267."""


async def create_objects(author: Author, count: int) -> None:
    for number in range(count):
        await author.create_customer(name="Jenny Rosen", email=f"jenny{number}@example.com")
        await author.create_charge(description="a charge")


async def read_averages(dsn: str) -> dict[str, float]:
    averages = {}
    async with open_connection(dsn, "ledger_projector", name="test") as conn:
        for table, column in DOCUMENTS.items():
            query = f"SELECT avg(pg_column_size({column}))::float8 FROM projections.{table}"
            cur = await conn.execute(query.encode())
            [[averages[table]]] = await cur.fetchall()
    return averages


def serve_releases_from(dsn: str, oldest: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("UPDATE ledger.served SET oldest = %s", (oldest,))
        conn.execute("UPDATE ledger.erasure_epoch SET epoch = %s", (int(oldest >= "0039"),))


def test_documents_take_a_fifth_to_a_half_of_their_length(dsn: str) -> None:
    async def story(author: Author) -> None:
        await create_objects(author, 10)
        await catch_up(dsn)
        averages = await read_averages(dsn)
        assert {table: size for table, size in averages.items() if size > BYTES_MAX[table]} == {}

    run_story(dsn, story)


def test_rows_of_both_forms_are_read_verified_and_equal_to_rebuilt_ones(dsn: str) -> None:
    async def story(author: Author) -> None:
        serve_releases_from(dsn, "0010")
        await create_objects(author, 3)
        await catch_up(dsn)
        assert min((await read_averages(dsn)).values()) > 200, "an older release reads them"
        serve_releases_from(dsn, COMPRESSED_SINCE)
        await create_objects(author, 3)
        await catch_up(dsn)
        verified = await verify(dsn, author.store.codec, author.store.clock, PROJECTIONS)
        assert [(each.differing, each.error) for each in verified] == [(0, None)] * len(PROJECTIONS)
        assert (await run_rebuild(dsn)).state == "switched", "stored differently, and equal"

    run_story(dsn, story)
