"""A page of the board of disputes reads as many blocks at any depth, whatever it is filtered by.

Its counts are made from an index alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from typing import Any

import psycopg
import pytest
from psycopg import sql

from ledger.domain.dispute_states import STATUSES
from ledger.postgres.connections import READ_PLANNER_SETTINGS
from ledger.postgres.statements import Statement
from ledger.queries import dispute_board
from ledger.queries.list_query import build_whole_query
from tests.conftest import as_options
from tests.projections.histories import ACCOUNT, Author, catch_up, run_story

ROWS = 30_000
DUE = 1_800_000_000
LIMIT = 10
MORE_BLOCKS_MAX = 16
BLOCKS_MAX = 250
"""Ten statuses with LIMIT rows each, and what the progress of the projection takes."""

# Nine in ten are won; of the reason `duplicate` there are few, and all of them are old.
_FILL = """
INSERT INTO projections.dispute_board
    (generation, id, account, livemode, created, position, status, due_by, amount, currency, reason,
     case_type, charge, submission_count, has_evidence, past_due)
SELECT 1, 'du_' || n, %(account)s, false, %(due)s + n, n,
       CASE WHEN n %% 10 > 0 THEN 'won' ELSE (%(statuses)s::text[])[1 + n / 10 %% 10] END, %(due)s + n, 5,
       'usd', CASE WHEN n < 50 THEN 'duplicate' ELSE 'fraudulent' END, 'chargeback', 'ch_1', 0, false, false
FROM generate_series(1, %(rows)s) AS n
"""


def fill(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        parameters = {"account": ACCOUNT, "due": DUE, "rows": ROWS, "statuses": list(STATUSES)}
        conn.execute(_FILL, parameters)
        conn.execute("VACUUM ANALYZE projections.dispute_board")


def explain(conn: psycopg.Connection, statement: Statement, bindings: Mapping[str, Any]) -> Any:
    conn.execute(b"PREPARE page AS " + statement.text)
    arguments = sql.SQL(", ").join(sql.Literal(bindings[name]) for name in statement.names)
    query = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE page ({})").format(arguments)
    for _ in range(2):  # the first execution also reads the catalog
        row = conn.execute(query).fetchone()
    conn.execute("DEALLOCATE page")
    assert row is not None
    return row[0][0]["Plan"]


def bind(**values: Any) -> dict[str, Any]:
    bounds = {"due_from": 0, "due_to": 2**62, "limit": LIMIT + 1, "statuses": list(STATUSES)}
    owner = {"account": ACCOUNT, "livemode": False, "projection": "dispute_board"}
    times = {"now": DUE, "soon": DUE + 1, "next": DUE + 2}
    return {**owner, **bounds, **times, **values}


def count_blocks(plan: Any) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.fixture
def board(dsn: str) -> str:
    async def story(author: Author) -> None:
        await author.create_customer()
        await catch_up(dsn)
        fill(dsn)

    run_story(dsn, story)
    return dsn


def test_the_board_is_read_along_its_indexes_at_any_depth(board: str) -> None:
    with psycopg.connect(board, options=as_options(READ_PLANNER_SETTINGS), autocommit=True) as conn:
        for order, reason in product(("due_by", "created"), (None, "duplicate", "fraudulent")):
            query = build_whole_query(dispute_board._PAGES[order, reason is not None])
            keys = {"first": (-1, 0), "deep": (DUE + ROWS // 2, ROWS // 2)}
            if order == "created":
                keys["first"] = (2**62, 0)
            blocks = {}
            for name, key in keys.items():
                plan = explain(conn, query, bind(reason=reason, after=key[0], after_position=key[1]))
                assert "Seq Scan on dispute_board" not in json.dumps(plan)
                blocks[name] = count_blocks(plan)
            assert blocks["first"] <= BLOCKS_MAX, (order, reason, blocks)
            assert blocks["deep"] <= blocks["first"] + MORE_BLOCKS_MAX, (order, reason, blocks)


def test_disputes_are_counted_in_an_index_alone_and_only_up_to_the_limit(
    board: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(board, options=as_options(READ_PLANNER_SETTINGS), autocommit=True) as conn:
        for by_reason in (False, True):
            query = build_whole_query(dispute_board._SUMMARIES[by_reason])
            bindings = bind(reason="fraudulent" if by_reason else None, limit=dispute_board.COUNT_MAX + 1)
            plan = json.dumps(explain(conn, query, bindings))
            assert '"Node Type": "Index Only Scan"' in plan
            assert '"Heap Fetches": 0' in plan
            rows = conn.execute(
                sql.SQL("SELECT count(*) FROM projections.dispute_board WHERE status = 'won'")
            ).fetchone()
            assert rows is not None
            assert rows[0] > dispute_board.COUNT_MAX
