"""A page reads as many blocks of the database whether it is the first or 10,000 objects deep."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import product
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from ledger.call import Call, Cause
from ledger.ids import new_id
from ledger.postgres.connections import READ_PLANNER_SETTINGS
from ledger.postgres.statements import Statement, StatementPool
from ledger.queries.customers import CUSTOMERS
from ledger.queries.disputes import DISPUTES
from ledger.queries.events import EVENTS
from ledger.queries.list_query import ListQuery
from tests.conftest import as_options
from tests.projections.histories import ACCOUNT, Author, catch_up, run_story
from tests.projections.queries import open_queries

ROWS = 20_000
DEPTH = 10_000
LIMIT = 10
PER_SECOND = 30
MORE_BLOCKS_MAX = 8
"""A deep page may begin in another leaf of the index, and its rows may lie in more blocks."""

# The n-th row is at position n.
_FILL: dict[ListQuery, LiteralString] = {
    CUSTOMERS: """
INSERT INTO projections.customers
    (generation, id, account, livemode, created, position, deleted, email, state)
SELECT 1, CASE n WHEN %(depth)s THEN %(cursor)s ELSE 'id_' || n END, %(account)s, false,
       %(start)s + n / %(per_second)s, n, false, null, '{}'
FROM generate_series(1, %(rows)s) AS n
""",
    DISPUTES: """
INSERT INTO projections.disputes
    (generation, id, account, livemode, created, position, charge, payment_intent, state)
SELECT 1, CASE n WHEN %(depth)s THEN %(cursor)s ELSE 'id_' || n END, %(account)s, false,
       %(start)s + n / %(per_second)s, n, 'ch_1', null, '{}'
FROM generate_series(1, %(rows)s) AS n
""",
    EVENTS: """
INSERT INTO projections.feed
    (generation, id, account, livemode, created, position, ordinal, type, object_id, api_version, data)
SELECT 1, CASE n WHEN %(depth)s THEN %(cursor)s ELSE 'id_' || n END, %(account)s, false,
       %(start)s + n / %(per_second)s, n, 0, 'charge.updated', 'ch_1',
       '2025', '{}'
FROM generate_series(1, %(rows)s) AS n
""",
}


def make_call(cursor: dict[str, str], created: dict[str, int]) -> Call:
    parameters = {"limit": LIMIT, **cursor} | ({"created": created} if created else {})
    return Call(Cause(ACCOUNT, False, "key_test", "req_test", None), "", parameters)


def count_blocks(conn: psycopg.Connection, statement: Statement, bindings: Mapping[str, Any]) -> int:
    """How many blocks of the database the statement reads."""
    conn.execute(b"PREPARE page AS " + statement.text)
    arguments = sql.SQL(", ").join(sql.Literal(bindings[name]) for name in statement.names)
    explain = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE page ({})").format(arguments)
    for _ in range(2):  # the first execution also reads the catalog
        row = conn.execute(explain).fetchone()
    conn.execute("DEALLOCATE page")
    assert row is not None
    plan = row[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def fetch_page(
    author: Author, list_query: ListQuery, call: Call, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[int], list[tuple[Statement, Mapping[str, Any]]]]:
    """The positions on the page, and the statements that it took."""
    statements: list[tuple[Statement, Mapping[str, Any]]] = []
    fetch = StatementPool.fetch

    async def record_and_fetch(self: StatementPool, statement: Statement, bindings: Mapping[str, Any]) -> Any:
        statements.append((statement, bindings))
        return await fetch(self, statement, bindings)

    async with open_queries(author) as queries:
        with monkeypatch.context() as patch:
            patch.setattr(StatementPool, "fetch", record_and_fetch)
            page = await queries.pages.fetch_page(call, list_query)
    place = -2 if list_query.by_ordinal else -1
    return [row[place] for row in page.rows], statements


@pytest.mark.parametrize("list_query", _FILL, ids=lambda list_query: list_query.projection)
def test_a_page_reads_as_many_blocks_at_any_depth(
    dsn: str, list_query: ListQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(author: Author) -> None:
        await author.create_customer()
        await catch_up(dsn)
        start = int(time.time())
        cursor = new_id("evt", start + DEPTH // PER_SECOND)  # its time tells the partition
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(f"TRUNCATE projections.{list_query.projection}".encode())
            conn.execute(
                _FILL[list_query],
                {
                    "account": ACCOUNT,
                    "start": start,
                    "rows": ROWS,
                    "per_second": PER_SECOND,
                    "depth": DEPTH,
                    "cursor": cursor,
                },
            )
            conn.execute(f"VACUUM ANALYZE projections.{list_query.projection}".encode())
        first, statements = await fetch_page(author, list_query, make_call({}, {}), monkeypatch)
        assert first == list(range(ROWS, ROWS - LIMIT, -1))
        everything = {"gte": start - 10, "lte": start + ROWS}
        with psycopg.connect(dsn, options=as_options(READ_PLANNER_SETTINGS), autocommit=True) as conn:
            first_blocks = count_blocks(conn, *statements[-1])
            for param, created in product(("starting_after", "ending_before"), ({}, everything)):
                call = make_call({param: cursor}, created)
                page, statements = await fetch_page(author, list_query, call, monkeypatch)
                older = range(DEPTH - 1, DEPTH - LIMIT - 1, -1)
                newer = range(DEPTH + LIMIT, DEPTH, -1)
                assert page == list(older if param == "starting_after" else newer)
                blocks = count_blocks(conn, *statements[-1])
                assert blocks <= first_blocks + MORE_BLOCKS_MAX, (param, created, first_blocks, blocks)

    run_story(dsn, story)
