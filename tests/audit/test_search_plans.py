"""Every combination of filters is answered along an index, with the plan that the service uses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from functools import partial
from itertools import combinations
from typing import Any

import psycopg
import pytest
from psycopg import sql

from ledger.audit.search import scans
from ledger.postgres.connections import READ_PLANNER_SETTINGS, open_connection
from ledger.store.index_keys import derive_key
from projections.engine.registration import register_missing
from projections.read_models.audit_index import AUDIT_INDEX
from tests.conftest import as_options
from tests.postgres.plans import list_nodes

EVENTS = 20_000
PARAMETERS: dict[str, Any] = {
    "account": "acct_1", "livemode": False, "limit": 11, "examined": 1000, "after": 0, "upto": EVENTS,
    "object": "ch_77", "customer": "cus_7", "charge": "ch_77", "payment_intent": "pi_7", "actor": "key_3",
    "request": "req_77", "idempotency_key": "key-77", "topics": ["dispute.opened", "charge.succeeded"],
}  # fmt: skip
FILTERS = sorted(set(PARAMETERS) - {"account", "livemode", "limit", "examined", "after", "upto"})
# By filter, the most selective first: the indexes along which a search with it reads.
DRIVING_INDEXES = {
    "object": {"events_stream_version"},
    "payment_intent": {"events_payment_intent", "events_stream_version"},
    "charge": {"events_charge", "events_stream_version"},
    "request": {"audit_keys_by_request"},
    "idempotency_key": {"audit_keys_by_idempotency_key"},
    "customer": {"events_customer", "events_stream_version"},
}
OTHER_INDEXES = {
    (): "audit_keys_by_owner",
    ("actor",): "audit_keys_by_actor",
    ("topics",): "audit_keys_by_topic",
    ("actor", "topics"): "audit_keys_by_actor_and_topic",
}

_FILL_LOG = """
INSERT INTO ledger.events
    (notification_id, originator_id, originator_version, topic, state, account, livemode, actor, request_id,
     idempotency_key, customer, charge, payment_intent, recorded_at)
SELECT n, 'ch_' || n / 4, n %% 4 + 1,
       (ARRAY['charge.succeeded', 'charge.updated', 'charge.refunded', 'dispute.opened'])[n %% 4 + 1], '{}',
       'acct_' || n %% 3, false, 'key_' || n %% 7, 'req_' || n / 2, 'key-' || n / 2, 'cus_' || n %% 500,
       'ch_' || n / 4, 'pi_' || n / 4, to_timestamp(n)
FROM generate_series(1, %(events)s) AS n
"""
_FILL_INDEX = """
COPY projections.audit_keys
    (generation, id, position, by_owner, by_topic, by_actor, by_actor_and_topic, by_request,
     by_idempotency_key)
FROM STDIN
"""
_SELECT_VALUES = """
SELECT notification_id, account, livemode, topic, actor, request_id, idempotency_key FROM ledger.events
"""
_PARENTS = """
SELECT child.relname, parent.relname
FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid JOIN pg_class parent ON parent.oid = inhparent
WHERE parent.relkind = 'I'
"""


@pytest.fixture
def conn(dsn: str) -> Iterator[psycopg.Connection]:
    """A full log and index with statistics, and the planner as the service sets it."""
    asyncio.run(_register(dsn))
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(_FILL_LOG, {"events": EVENTS})
        fill_index(conn)
        conn.execute("UPDATE projections.checkpoints SET position = %s", (EVENTS,))
        conn.execute("VACUUM ANALYZE ledger.events")
        conn.execute("VACUUM ANALYZE projections.audit_keys")
    with psycopg.connect(dsn, options=as_options(READ_PLANNER_SETTINGS), autocommit=True) as conn:
        yield conn


async def _register(dsn: str) -> None:
    async with open_connection(dsn, "ledger_projector", name="test") as conn:
        await register_missing(conn, [AUDIT_INDEX])


def fill_index(conn: psycopg.Connection) -> None:
    """Write the rows of all events, without what says what they created."""
    rows = conn.execute(_SELECT_VALUES).fetchall()
    with conn.cursor() as cur, cur.copy(_FILL_INDEX) as copy:
        for position, account, livemode, topic, actor, request_id, idempotency_key in rows:
            key = partial(derive_key, account, livemode)
            keys = key(), key(topic), key(actor), key(actor, topic), key(request_id), key(idempotency_key)
            copy.write_row((1, position, position, *keys))


def explain(conn: psycopg.Connection, query: str) -> Any:
    """The plan that every execution of the statement uses."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    numbered = re.sub(r"%\((\w+)\)s", number, query)
    parameters = PARAMETERS | {"key": [1, 2] if "unnest" in query else 1}  # a generic plan is for any key
    values = sql.SQL(", ").join(sql.Literal(parameters[name]) for name in names)
    conn.execute(f"PREPARE searched AS {numbered}".encode())
    row = conn.execute(sql.SQL("EXPLAIN (FORMAT JSON) EXECUTE searched({})").format(values)).fetchone()
    conn.execute("DEALLOCATE searched")
    assert row is not None
    return row[0][0]["Plan"]


def check_plan(conn: psycopg.Connection, parents: dict[str, str], query: str, expected: str) -> None:
    """Check that the statement reads along the index `expected`, in its order, and nothing without an index.
    `parents`: by index of a generation, the index that it belongs to."""
    nodes = list(list_nodes(explain(conn, query)))
    scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
    assert scanned <= {"live", "parked"}, query
    indexes = {parents.get(node["Index Name"], node["Index Name"]) for node in nodes if "Index Name" in node}
    assert expected in indexes, (indexes, query)
    if "CROSS JOIN LATERAL" not in query:  # otherwise a page for each topic or parked stream is sorted
        assert not any("Sort" in node["Node Type"] for node in nodes), query


def test_each_combination_of_filters_reads_along_an_index(conn: psycopg.Connection) -> None:
    parents: dict[str, str] = dict(conn.execute(_PARENTS).fetchall())
    for count in range(len(FILTERS) + 1):
        for names in combinations(FILTERS, count):
            filters = frozenset(names)
            driver = next((name for name in DRIVING_INDEXES if name in filters), None)
            descending = count % 2 == 0
            if driver in scans._LOG_DRIVERS:
                queries = scans.build_log_scans(filters, descending=descending)
                for query, index in zip(queries, sorted(DRIVING_INDEXES[driver]), strict=True):
                    check_plan(conn, parents, query, index)
                continue
            index = OTHER_INDEXES[tuple(name for name in ("actor", "topics") if name in filters)]
            if driver is not None:
                (index,) = DRIVING_INDEXES[driver]
            check_plan(conn, parents, scans.build_index_scan(filters, descending=descending), index)
            check_plan(
                conn, parents, scans.build_tail_scan(filters, descending=descending), "events_position"
            )
            check_plan(
                conn,
                parents,
                scans.build_parked_scan(filters, descending=descending),
                "events_stream_version",
            )
