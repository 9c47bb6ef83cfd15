"""How the closure reads the events of a page of streams: each stream along the index of the log, also by a
plan that is made while the log counts as empty."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from ledger.domain.redaction_roots import NAMING_TOPICS
from ledger.erasure import closure
from ledger.erasure.service import _SETTINGS
from ledger.postgres.statements import parse_statement
from tests.conftest import Cluster, as_options
from tests.postgres.plans import list_nodes

STREAMS, PAGE = 10_000, 50
BLOCKS_OF_A_STREAM_MAX = 16
"""Twice: the blocks of the index down to the stream, and those of its three events."""
JOB = "prj_1"

_FILL = """
INSERT INTO ledger.events (notification_id, originator_id, originator_version, topic, state, account,
                           livemode, customer, recorded_at)
SELECT 3 * (n - 1) + v, 'du_' || lpad(n::text, 6, '0'), v,
       CASE v WHEN 2 THEN 'dispute.evidence_staged' ELSE 'dispute.opened' END, '{}', 'acct_1', false,
       CASE WHEN n %% 2 = 0 THEN 'cus_1' END, now()
FROM generate_series(1, %(streams)s) AS n, generate_series(1, 3) AS v;
"""
_BEGIN = """
INSERT INTO ledger.erasures (job, account, livemode, subjects, requested_position)
VALUES (%(job)s, 'acct_1', false, '{cus_1}', 1)
"""
_FIND_STREAMS = """
INSERT INTO ledger.erasure_streams (job, stream)
SELECT %(job)s, 'du_' || lpad(n::text, 6, '0') FROM generate_series(1, %(streams)s) AS n
"""
PARAMETERS = {
    "job": JOB, "after": 100, "limit": PAGE, "subjects": ["cus_1"], "topics": list(NAMING_TOPICS),
    "streams": json.dumps([f"du_{n:06}" for n in range(1, STREAMS, STREAMS // PAGE)]),
}  # fmt: skip


@pytest.fixture(scope="module", params=["counts as empty", "is analyzed"])
def filled(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A log of many streams, of which an erasure has found all."""
    with cluster.create_database() as dsn:
        with psycopg.connect(dsn) as conn:
            conn.execute("ALTER TABLE ledger.events SET (autovacuum_enabled = off)")
            conn.execute("ANALYZE ledger.events")
            conn.execute(_FILL, {"streams": STREAMS})
            conn.execute(_BEGIN, {"job": JOB})
            conn.execute(_FIND_STREAMS, {"job": JOB, "streams": STREAMS})
            if request.param == "is analyzed":
                conn.execute("ANALYZE ledger.events")
        yield dsn


def explain(dsn: str, query: str) -> Any:
    """The plan with which an erasure runs the statement."""
    statement = parse_statement(query)
    arguments = sql.SQL(", ").join(sql.Literal(PARAMETERS[name]) for name in statement.names)
    with psycopg.connect(dsn, options=as_options(_SETTINGS), autocommit=True) as conn:
        conn.execute(b"PREPARE page AS " + statement.text)
        run = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE page ({})")
        row = conn.execute(run.format(arguments)).fetchone()
    assert row is not None
    return row[0][0]["Plan"]


@pytest.mark.parametrize("name", ["_WITH_FILES", "_OF_OTHERS"])
def test_a_page_of_streams_is_looked_up_along_the_index(filled: str, name: str) -> None:
    plan = explain(filled, getattr(closure, name))
    assert plan["Actual Rows"] >= PAGE
    scans = [node for node in list_nodes(plan) if node.get("Relation Name") == "events"]
    assert scans
    for scan in scans:
        assert "originator_id = " in scan.get("Index Cond", ""), scan
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= BLOCKS_OF_A_STREAM_MAX * PAGE
