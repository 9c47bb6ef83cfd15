"""The service whose lists are measured: its log, projections and tables have a million rows for each list.

The log is filled as for the audit, and the service's own projections apply it: events, customers, the search.
What takes too long to make so is written as the service would write it: disputes, deliveries, requests, and
as many customers again as are missing, with the state of others. A table that this release does not have is
left out.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg

from benchmarks.audit.ground import fill_log
from benchmarks.service import Service, run_service
from benchmarks.store import ACCOUNT
from ledger.accounts import SCOPES
from ledger.domain.dispute_decisions import REASONS
from ledger.domain.dispute_states import STATUSES
from ledger.ids import new_id
from ledger.postgres.embedded import EmbeddedPostgres
from ledger.store.codec import Codec
from ledger.wire.versions import LATEST_VERSION

EVENTS_PER_ROW = 1.6
"""Recorded events for each public Event of these histories: so that there are as many Events as rows."""
CATCH_UP_PER_SECOND_MIN = 500
ENDPOINTS = 10
SHELL_ONLY = ("ledger_feed",)

_INSERT_ACCOUNT = "INSERT INTO ledger.accounts (id, name, api_version) VALUES (%s, 'Benchmark', %s)"
# Most are decided, as in an account of some years. A due date is 8 days after the creation.
_FILL_DISPUTES = """
INSERT INTO projections.dispute_board
    (generation, id, account, livemode, created, position, status, due_by, amount, currency, reason,
     case_type, charge, submission_count, has_evidence, past_due)
SELECT l.generation, 'du_seed_' || n, %(account)s, false, %(start)s + n * 60, n,
       CASE n %% 10 WHEN 0 THEN (%(statuses)s::text[])[1 + n / 10 %% %(status_count)s]
            WHEN 1 THEN 'won' ELSE 'lost' END,
       %(start)s + n * 60 + 8 * 86400, 2000 + n %% 9000, CASE WHEN n %% 7 = 0 THEN 'eur' ELSE 'usd' END,
       (%(reasons)s::text[])[1 + (n * 31) %% %(reason_count)s], 'chargeback', 'ch_seed_' || n, 1, true, false
FROM projections.live l, generate_series(1, %(rows)s) AS n WHERE l.projection = 'dispute_board'
"""
# None is due: the service sends nothing while it is measured.
_COPY_DELIVERIES = """
COPY webhooks.deliveries
    (id, event, endpoint, account, livemode, created, position, ordinal, type, state, tries, due_at)
FROM STDIN
"""
_ENDPOINTS = "SELECT id FROM projections.webhook_endpoints WHERE account = %(account)s ORDER BY id"
_FILL_ATTEMPTS = """
INSERT INTO webhooks.attempts (delivery, number, at, duration_ms, status)
SELECT id, 1, now(), 40, CASE state WHEN 'delivered' THEN 200 ELSE 500 END FROM webhooks.deliveries
WHERE account = %(account)s AND due_at = 'infinity'
"""
_FILL_CUSTOMERS = """
INSERT INTO projections.customers
    (generation, id, account, livemode, created, position, deleted, email, state)
SELECT c.generation, c.id || '_more_' || round, c.account, c.livemode, c.created - round, c.position,
       c.deleted, c.email, c.state
FROM generate_series(1, 1 + %(rows)s / greatest(1, (SELECT count(*) FROM projections.customers))) AS round,
     projections.customers c WHERE c.account = %(account)s
LIMIT greatest(0, %(rows)s - (SELECT count(*) FROM projections.customers))
"""
_FILL_REQUESTS = """
INSERT INTO request_log.requests
    (at, request_id, owner, account, livemode, method, path, operation, status, milliseconds, grouped_by,
     error_type, code, param, message)
SELECT now() - make_interval(secs => (%(rows)s - n) * 0.5), 'req_seed_' || n, %(account)s, %(account)s, false,
       'POST', '/v1/customers', 'POST /v1/customers', CASE WHEN n %% 20 = 0 THEN 400 ELSE 200 END, 12,
       'group_' || n %% 20, CASE WHEN n %% 20 = 0 THEN 'invalid_request_error' END,
       CASE WHEN n %% 20 = 0 THEN 'parameter_unknown' END, CASE WHEN n %% 20 = 0 THEN 'nmae' END,
       CASE WHEN n %% 20 = 0 THEN 'Received unknown parameter: nmae' END
FROM generate_series(1, %(rows)s) AS n
"""
_FILLS = {
    "projections.dispute_board": (_FILL_DISPUTES,),
    "webhooks.deliveries": (_FILL_ATTEMPTS,),
    "projections.customers": (_FILL_CUSTOMERS,),
    "request_log.requests": (_FILL_REQUESTS,),
}


class Ground(NamedTuple):
    """A running service, its filled tables, and a key of the account that owns the rows, with every scope."""

    service: Service
    key: str
    rows: int
    tables: frozenset[str]


@contextmanager
def run_ground(directory: Path, rows: int) -> Iterator[Ground]:
    """Start the service, fill it, and stop it afterwards."""
    with run_service(directory / "console") as service:
        started = time.perf_counter()
        _fill_log(service, round(rows * EVENTS_PER_ROW))
        key = _create_key(service)
        service.secret = key
        for number in range(ENDPOINTS):
            form = {"url": f"https://example.com/{number}", "enabled_events[0]": "customer.deleted"}
            service.create("/v1/webhook_endpoints", form)
        service.wait_until_caught_up(timeout_seconds=60, plural="webhook_endpoints")
        tables = frozenset(table for table in _FILLS if _has_table(service, table))
        for table in tables:
            _fill_table(service, table, rows)
        with service.connect() as conn:
            conn.execute("VACUUM ANALYZE")
            conn.execute("CHECKPOINT")
        seconds = time.perf_counter() - started
        print(f"  {rows:,} rows of {len(tables)} tables: {seconds:.0f} s", file=sys.stderr, flush=True)
        yield Ground(service, key, rows, tables)


def _fill_log(service: Service, events: int) -> None:
    """Fill the log while the service is stopped; then wait until its projections have applied it."""
    service.stop()
    with EmbeddedPostgres(service.data_dir) as postgres:
        with psycopg.connect(postgres.dsn(), autocommit=True) as conn:
            conn.execute(_INSERT_ACCOUNT, (ACCOUNT, LATEST_VERSION))
        codec = Codec((service.data_dir / "secret.key").read_text().encode())
        fill_log(postgres.dsn(), codec, events)
    service.start()
    service.secret = json.loads(service.run_command("keys", "create", ACCOUNT, "--json"))["key"]
    for plural in ("customers", "events"):
        service.wait_until_caught_up(timeout_seconds=60 + events / CATCH_UP_PER_SECOND_MIN, plural=plural)


def _create_key(service: Service) -> str:
    scopes = [argument for scope in SCOPES if scope not in SHELL_ONLY for argument in ("--scope", scope)]
    printed = service.run_command("keys", "create", ACCOUNT, "--kind", "rk", *scopes, "--json")
    match = re.search(r"rk_test_\w+", printed)
    if match is None:
        raise RuntimeError("`ledger keys create` printed no key")
    return match[0]


def _has_table(service: Service, table: str) -> bool:
    with service.connect() as conn:
        row = conn.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchone()
    return row is not None and bool(row[0])


def _fill_table(service: Service, table: str, rows: int) -> None:
    parameters = {
        "account": ACCOUNT,
        "rows": rows,
        "start": int(time.time()) - rows * 60,
        "statuses": list(STATUSES),
        "status_count": len(STATUSES),
        "reasons": list(REASONS),
        "reason_count": len(REASONS),
    }
    with service.connect() as conn:
        if table == "webhooks.deliveries":
            _copy_deliveries(conn, rows)
        for statement in _FILLS[table]:
            conn.execute(statement.encode(), parameters)


def _copy_deliveries(conn: psycopg.Connection, rows: int) -> None:
    """Deliveries of the last days to all endpoints. Their ids have the times, in the order of the list."""
    endpoints = [row[0] for row in conn.execute(_ENDPOINTS, {"account": ACCOUNT}).fetchall()]
    end = time.time()
    with conn.cursor() as cur, cur.copy(_COPY_DELIVERIES) as copy:
        for number in range(rows):
            created = end - (rows - number) / 2
            state = {0: "failed", 1: "pending"}.get(number % 100, "delivered")
            ids = (new_id("dlv", created), f"evt_seed_{number}", endpoints[number % len(endpoints)], ACCOUNT)
            copy.write_row((*ids, False, int(created), number, 0, "charge.succeeded", state, 1, "infinity"))
