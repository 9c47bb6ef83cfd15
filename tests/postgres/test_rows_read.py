"""How many rows the statements read that look up a few objects in a table that grows for ever, each with the
settings of the session that runs it: also by a plan that is made while the table counts as empty."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest

from ledger import deadlines
from ledger.audit.money import journal
from ledger.audit.reconciliation import read_models, reconcile
from ledger.feed import scans
from ledger.postgres.connections import READ_PLANNER_SETTINGS, connect
from ledger.queries import redaction_scope
from ledger.queries.events import COUNT_OWED
from ledger.store import log
from ledger.store.log import PLANNER_SETTINGS
from ledger.webhooks import sender
from ledger.webhooks.history import deliveries, endpoint_report
from projections.engine.registration import register
from projections.operate.stepper import live_rows
from projections.read_models.catalog import PROJECTIONS
from tests.conftest import Cluster, as_options

STREAMS = 10_000
EVENTS = 3 * STREAMS
ROWS_MAX = 1_000
"""Of all tables and indexes together: each statement needs a few hundred."""

_FILL = """
INSERT INTO ledger.events (notification_id, originator_id, originator_version, topic, state, account,
                           livemode, charge, recorded_at)
SELECT 3 * (n - 1) + v, 'ch_' || lpad(n::text, 6, '0'), v, 'charge.created',
       convert_to(CASE v WHEN 2 THEN '{"movement":{"id":"txn_' || n || '"}}' ELSE '{}' END, 'UTF8'), 'acct_1',
       false, CASE WHEN n % 2 = 0 THEN 'ch_' || lpad((n - 1)::text, 6, '0') END, to_timestamp(n)
FROM generate_series(1, 10000) AS n, generate_series(1, 3) AS v ORDER BY 1;
INSERT INTO ledger.events (notification_id, originator_id, originator_version, topic, state, account,
                           livemode, recorded_at)
SELECT 30000 + n, 'we_' || n, 1, 'webhook_endpoint.created', '{}', 'acct_1', false, to_timestamp(20000)
FROM generate_series(1, 10) AS n;
INSERT INTO projections.webhook_endpoints (generation, id, account, livemode, created, position, deleted,
                                           state)
SELECT 1, 'we_' || n, 'acct_1', false, 1, 30000 + n, false, '{}' FROM generate_series(1, 10) AS n;
INSERT INTO projections.parked (projection, generation, stream, position, error)
SELECT p, 1, 'ch_' || lpad(n::text, 6, '0'), 3 * n - 1, 'UnknownTopic'
FROM generate_series(1, 20) AS n, unnest('{balance_changes,postings}'::text[]) AS p;
INSERT INTO projections.deadlines (generation, id, position, kind, moment)
SELECT 1, 'du_' || n, n, 'response', n FROM generate_series(1, 30000) AS n;
INSERT INTO webhooks.deliveries (id, event, endpoint, account, livemode, created, position, ordinal, type,
                                 state, due_at)
SELECT 'dlv_' || lpad(n::text, 6, '0'), 'evt_' || n, 'we_' || n % 10 + 1, 'acct_1', false, n, n, 0,
       'charge.succeeded', CASE n % 3 WHEN 0 THEN 'failed' ELSE 'delivered' END, to_timestamp(n)
FROM generate_series(1, 30000) AS n;
INSERT INTO webhooks.attempts (delivery, number, at, duration_ms, status)
SELECT id, 1, due_at, 1, 200 FROM webhooks.deliveries;
UPDATE projections.checkpoints SET position = 30010;
"""
_READ = """
SELECT c.oid::regclass::text, pg_stat_get_xact_tuples_returned(c.oid) FROM pg_class c
WHERE c.relnamespace IN ('ledger'::regnamespace, 'projections'::regnamespace, 'webhooks'::regnamespace)
AND c.relkind IN ('r', 'i') AND pg_stat_get_xact_tuples_returned(c.oid) > 0
"""
STREAM_IDS = [f"ch_{n:06}" for n in range(1, STREAMS, STREAMS // 50)]
EVENT_IDS = [f"evt_{n}" for n in range(1, EVENTS, EVENTS // 20)]
NAMED: dict[str, Any] = {
    "account": "acct_1", "livemode": False, "after": 0, "upto": EVENTS, "limit": 20,
    "stream": STREAM_IDS[-1], "object": STREAM_IDS[-1], "transaction": "txn_7", "generation": 1,
    "projection": "postings", "ignored": ["other"], "position": 0, "kind": "response", "moment": 0, "id": "",
    "endpoint": "we_1", "states": ["delivered", "failed"], "types": ["charge.succeeded"], "first": "",
    "before": "dlw", "rows": 21, "events": EVENT_IDS, "replay": None, "attempts": 100, "since": 0,
    "median": 0.5, "high": 0.95, "topics": ["charge.created"],
}  # fmt: skip
STATES = NAMED | {"streams": json.dumps(STREAM_IDS)}
DUE = NAMED | {"upto": 10}
LIVE = NAMED | {"projection": "deadlines"}
OF_ANY_ENDPOINT = NAMED | {"endpoint": None, "types": None}
_OWED = f"SELECT {COUNT_OWED.format(event='asked.id')} FROM unnest(%(events)s::text[]) AS asked (id)"


def page_of(positions: str) -> str:
    """The statement of the journal that reads the entries at these positions."""
    return journal._PAGE.replace("{positions}", positions).replace("{order}", "DESC")


STATEMENTS: Mapping[str, tuple[str, Mapping[str, str], Mapping[str, Any]]] = {
    "states of a validation": (log._EVENTS_UPTO, {}, STATES),
    "names in a validation": (redaction_scope._NAMING, {}, STATES),
    "what hangs in a validation": (redaction_scope._HANGING, {}, STATES),
    "what is named in a validation": (redaction_scope._NAMED, {}, STATES),
    "states of a request": (log._EVENTS_UPTO, READ_PLANNER_SETTINGS, STATES),
    "states of a batch": (log._EVENTS_UPTO, PLANNER_SETTINGS, STATES),
    "journal of a range": (page_of(journal._OF_RANGE), READ_PLANNER_SETTINGS, NAMED),
    "journal of an object": (page_of(journal._OF_OBJECT), READ_PLANNER_SETTINGS, NAMED),
    "journal of a transaction": (page_of(journal._OF_TRANSACTION), READ_PLANNER_SETTINGS, NAMED),
    "parked streams": (read_models._PARKED, reconcile._SETTINGS, NAMED),
    "feed of an object": (
        scans._RANGE[True] + scans._CONDITIONS["stream"] + scans._IN_ORDER[True], PLANNER_SETTINGS, NAMED,
    ),
    "live rows of a step": (live_rows._LIVE, PLANNER_SETTINGS, LIVE),
    "deadlines that are due": (deadlines._SELECT_DUE, deadlines.SETTINGS, DUE),
    "oldest deadline": (deadlines._SELECT_OLDEST_DUE, deadlines.SETTINGS, DUE),
    "endpoints that an Event is owed to": (_OWED, sender._SETTINGS, NAMED),
    "deliveries of an endpoint": (deliveries._OF_ENDPOINT, READ_PLANNER_SETTINGS, NAMED),
    "deliveries of types": (deliveries._OF_ENDPOINT_AND_TYPES, READ_PLANNER_SETTINGS, NAMED),
    "deliveries of an account": (deliveries._OF_ACCOUNT_AND_TYPES, READ_PLANNER_SETTINGS, NAMED),
    "deliveries of Events": (deliveries._OF_EVENT, READ_PLANNER_SETTINGS, OF_ANY_ENDPOINT),
    "attempts of an endpoint": (endpoint_report._ATTEMPTS, READ_PLANNER_SETTINGS, NAMED),
}  # fmt: skip


async def register_all(dsn: str) -> None:
    async with await connect(dsn, "ledger_projector", name="test") as conn:
        for projection in PROJECTIONS:
            await register(conn, projection, 1)


@pytest.fixture(scope="module", params=["counts as empty", "is analyzed"])
def filled(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A log, the read models of it that the statements read, and deliveries."""
    with cluster.create_database() as dsn:
        asyncio.run(register_all(dsn))
        with psycopg.connect(dsn) as conn:
            conn.execute(_FILL)
        if request.param == "is analyzed":
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute("ANALYZE")
        yield dsn


@pytest.mark.parametrize("name", STATEMENTS)
def test_only_what_is_looked_up_is_read(filled: str, name: str) -> None:
    statement, settings, parameters = STATEMENTS[name]
    with psycopg.connect(filled, options=as_options(settings)) as conn:
        assert conn.execute(statement.encode(), parameters, prepare=True).fetchall()
        read: dict[str, int] = dict(conn.execute(_READ).fetchall())
        conn.rollback()
    assert sum(read.values()) <= ROWS_MAX, read
