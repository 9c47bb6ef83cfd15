"""The long log on which the audit is measured, and its index: millions of events in minutes.

The oldest events are stories as `history` generates them. After them come copies of all of these with other
ids, but without what is sealed, which is bound to its stream: as if the personal data had been erased. So
every event of the log can be decoded, every object be folded, and the books agree. Rows are inserted over two
connections into tables without indexes, which are made afterwards, two at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg

from benchmarks.database import Server
from benchmarks.history import DAY_SECONDS, copy_history
from benchmarks.store import ACCOUNT, SECRET_KEY
from ledger.postgres.connections import open_connection
from ledger.store.codec import Codec
from ledger.wire.versions import LATEST_VERSION
from projections.engine.registration import register_missing
from projections.read_models.audit_index import AUDIT_INDEX

STORY_EVENTS_MAX = 100_000
SEED = 1
LOG_DAYS = 20.0
GUEST = "cus_guest"
"""A customer with so many events that a search by it and something rare examines as many as a page may."""
CONNECTIONS = 2
INDEX_SLICES = 8

_INSERT_ACCOUNT = "INSERT INTO ledger.accounts (id, name, api_version) VALUES (%s, 'Benchmark', %s)"
_CONSTRAINTS = """
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = %(table)s::regclass AND contype IN ('p', 'u')
"""
_IS_PARTITIONED = "SELECT relkind = 'p' FROM pg_class WHERE oid = %(table)s::regclass"
# Of a partitioned table this names "ONLY" it, although the index has parts in the partitions.
_INDEXES = """
SELECT i.relname, replace(pg_get_indexdef(i.oid), ' ON ONLY ', ' ON ') FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
WHERE x.indrelid = %(table)s::regclass
AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = x.indexrelid)
"""
_BUILD_OPTIONS = "SET maintenance_work_mem = '512MB'; SET synchronous_commit = off"
# Ids are marked, so that a copy only has to replace the mark; as text has no such character.
_MAKE_TEMPLATE = r"""
CREATE UNLOGGED TABLE ledger.benchmark_template AS
SELECT e.notification_id AS number, e.*, d.at,
       regexp_replace(e.customer, '^((?!cus_guest).*)$', E'\\1\x01') AS marked_customer,
       e.charge || E'\x01' AS marked_charge, e.payment_intent || E'\x01' AS marked_intent,
       regexp_replace(
           regexp_replace(
               regexp_replace(d.text, ',"sealed":"[^"]*"', ''),
               '"available_on":[0-9]+', '"available_on":' || d.at),
           '"((?:ch|cus|cuss|du|pi|ref|txn)_[0-9A-Za-z]+)"', E'"\\1\x01"', 'g') AS text
FROM ledger.events e
CROSS JOIN LATERAL (
    SELECT convert_from(e.state, 'UTF8') AS text, convert_from(e.state, 'UTF8')::json ->> 'at' AS at
    OFFSET 0) d;
ALTER TABLE ledger.benchmark_template ADD PRIMARY KEY (number);
ANALYZE ledger.benchmark_template
"""
# A copy was decided when it was recorded, so that the order of creation is that of the log: the time of the
# decision is replaced wherever the state has it. Its money is available at once.
_COPY_TEMPLATE = r"""
INSERT INTO ledger.events
    (notification_id, originator_id, originator_version, topic, state, account, livemode, actor, request_id,
     idempotency_key, causation, customer, charge, payment_intent, recorded_at)
SELECT %(after)s + number, originator_id || %(copy)s, originator_version, topic,
       convert_to(replace(replace(text, E'\x01', %(copy)s),
                          at, floor(%(start)s + number * %(step)s)::bigint::text), 'UTF8'),
       account, livemode, actor, 'req' || %(copy)s || '_' || number, idempotency_key || %(copy)s, causation,
       replace(marked_customer, E'\x01', %(copy)s), replace(marked_charge, E'\x01', %(copy)s),
       replace(marked_intent, E'\x01', %(copy)s), to_timestamp(%(start)s + number * %(step)s)
FROM ledger.benchmark_template WHERE number <= %(count)s ORDER BY number
"""
_MOVE_HEAD = """
UPDATE ledger.head h SET position = e.notification_id, recorded_at = e.recorded_at
FROM (SELECT notification_id, recorded_at FROM ledger.events ORDER BY notification_id DESC LIMIT 1) e
"""
# The same rows as the projection writes, for the kinds of events of these histories. An event that does not
# say when its object was created was decided then.
_KEY = "(crc32(convert_to(e.account || ' ' || e.livemode::integer{values}, 'UTF8')) - 2147483648)::integer"
_KEYS = ",\n       ".join(
    _KEY.format(values="".join(f" || ' ' || {value}" for value in values))
    for values in (
        (),
        ("e.topic",),
        ("e.actor",),
        ("e.actor", "e.topic"),
        ("e.request_id",),
        ("e.idempotency_key",),
    )
)
_FILL_INDEX = f"""
INSERT INTO projections.audit_keys
    (generation, id, position, by_owner, by_topic, by_actor, by_actor_and_topic, by_request,
     by_idempotency_key, by_creation, aggregate, created)
SELECT l.generation, e.notification_id, e.notification_id,
       {_KEYS},
       (({_KEY.format(values=" || ' ' || s.aggregate")} & 8388607)::bigint << 40) | s.created,
       s.aggregate, s.created
FROM projections.live l, ledger.events e
LEFT JOIN LATERAL (
    SELECT split_part(e.topic, '.', 1) AS aggregate,
           coalesce(first.state ->> 'created', first.state ->> 'at')::bigint AS created
    FROM (SELECT convert_from(e.state, 'UTF8')::json AS state OFFSET 0) AS first
    WHERE e.originator_version = 1) AS s ON true
WHERE l.projection = 'audit_keys' AND e.notification_id > %(after)s AND e.notification_id <= %(upto)s
"""
_MOVE_CHECKPOINT = """
UPDATE projections.checkpoints SET position = (SELECT position FROM ledger.head)
WHERE projection = 'audit_keys'
"""


class Ground(NamedTuple):
    """A server's database with a filled log; the index is filled when `fill_index` was called."""

    server: Server
    dsn: str
    events: int


def create_ground(server: Server, name: str, events: int) -> Ground:
    """A database with one account and a log of `events` events."""
    dsn = server.create_ledger_database(name)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(_INSERT_ACCOUNT, (ACCOUNT, LATEST_VERSION))
    fill_log(dsn, Codec(SECRET_KEY), events)
    return Ground(server, dsn, events)


def fill_log(dsn: str, codec: Codec, events: int) -> None:
    """Fill the log of an empty database with `events` events, recorded over the last LOG_DAYS."""
    stories = min(events, STORY_EVENTS_MAX)
    days = LOG_DAYS * stories / events
    end = time.time() - (LOG_DAYS - days) * DAY_SECONDS
    copy_history(dsn, codec, SEED, stories, days=days, end=end, guest=GUEST)
    if stories == events:
        return
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(_MAKE_TEMPLATE.encode())
    step = (LOG_DAYS - days) * DAY_SECONDS / (events - stories)
    copies = [
        {
            "after": after,
            "copy": f"_{number}",
            "start": end + (after - stories) * step,
            "step": step,
            "count": min(stories, events - after),
        }
        for number, after in enumerate(range(stories, events, stories), 1)
    ]
    with _without_indexes(dsn, "ledger.events"):
        _run_in_parallel(dsn, [(_COPY_TEMPLATE, copy) for copy in copies])
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("DROP TABLE ledger.benchmark_template")
        conn.execute(_MOVE_HEAD)
        conn.execute("VACUUM ANALYZE ledger.events")


async def fill_index(dsn: str) -> None:
    """Fill the audit index of a log that only `fill_log` or `copy_history` wrote, as the projection would."""
    async with open_connection(dsn, "ledger_projector", name="benchmark") as conn:
        await register_missing(conn, [AUDIT_INDEX])
    with psycopg.connect(dsn, autocommit=True) as conn:
        (head,) = conn.execute("SELECT position FROM ledger.head").fetchone() or (0,)
    slices = [
        {"after": head * number // INDEX_SLICES, "upto": head * (number + 1) // INDEX_SLICES}
        for number in range(INDEX_SLICES)
    ]
    with _without_indexes(dsn, "projections.audit_keys"):
        _run_in_parallel(dsn, [(_FILL_INDEX, each) for each in slices])
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(_MOVE_CHECKPOINT)
        conn.execute("VACUUM ANALYZE projections.audit_keys")


@contextmanager
def _without_indexes(dsn: str, table: str) -> Iterator[None]:
    """Drop the table's indexes and keys, and make them again at the end: faster than to maintain them."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        constraints = conn.execute(_CONSTRAINTS, {"table": table}).fetchall()
        indexes = conn.execute(_INDEXES, {"table": table}).fetchall()
        schema = table.partition(".")[0]
        for name, _ in constraints:
            conn.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}".encode())
        for name, _ in indexes:
            conn.execute(f"DROP INDEX {schema}.{name}".encode())
    yield
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(_BUILD_OPTIONS)
        for name, definition in constraints:
            conn.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}".encode())
        row = conn.execute(_IS_PARTITIONED, {"table": table}).fetchone()
    # Two statements at once may choose the same name for the part of their index in a partition.
    connections = 1 if row is not None and row[0] else CONNECTIONS
    _run_in_parallel(dsn, [(definition, None) for _, definition in indexes], connections)


def _run_in_parallel(
    dsn: str, statements: Iterable[tuple[str, dict[str, Any] | None]], connections: int = CONNECTIONS
) -> None:
    """Run each statement with its parameters, over so many connections at a time."""

    def run(statement: str, parameters: dict[str, Any] | None) -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(_BUILD_OPTIONS)
            conn.execute(statement.encode(), parameters)

    with ThreadPoolExecutor(connections) as pool:
        for done in [pool.submit(run, *each) for each in statements]:
            done.result()
