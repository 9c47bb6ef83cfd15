"""A long log for the benchmarks of the audit API, and its index: millions of events in minutes.

The oldest events are stories as `history` generates them. After them come copies of those of their streams
that have nothing sealed, with other ids: sealed data is bound to its stream and could not be copied. So every
event of the log can be decoded, and every object be folded.
"""

from __future__ import annotations

import time

import psycopg

from benchmarks.history import DAY_SECONDS, copy_history
from ledger.postgres.connections import open_connection
from ledger.store.codec import Codec
from projections.engine.registration import register_missing
from projections.read_models.audit_index import AUDIT_INDEX

STORY_EVENTS_MAX = 100_000
SEED = 1
LOG_DAYS = 20.0

_SECONDARY_INDEXES = """
SELECT i.relname, pg_get_indexdef(i.oid) FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
WHERE x.indrelid = 'ledger.events'::regclass AND NOT x.indisunique
"""
_MAKE_TEMPLATE = """
CREATE UNLOGGED TABLE ledger.benchmark_template AS
SELECT row_number() OVER (ORDER BY e.notification_id) AS number, e.*,
       convert_from(e.state, 'UTF8') AS text, convert_from(e.state, 'UTF8')::json ->> 'at' AS at
FROM ledger.events e
WHERE NOT EXISTS (
    SELECT FROM ledger.events sealed
    WHERE sealed.originator_id = e.originator_id AND position('"sealed":"'::bytea IN sealed.state) > 0);
ALTER TABLE ledger.benchmark_template ADD PRIMARY KEY (number);
ANALYZE ledger.benchmark_template
"""
_TEMPLATE_SIZE = "SELECT count(*) FROM ledger.benchmark_template"
# A copy was decided when it was recorded, so that the order of creation is that of the log: the time of the
# decision is replaced wherever the state has it. The ids of balance transactions have to differ too.
_COPY_TEMPLATE = """
INSERT INTO ledger.events
    (notification_id, originator_id, originator_version, topic, state, account, livemode, actor, request_id,
     idempotency_key, causation, customer, charge, payment_intent, recorded_at)
SELECT %(after)s + number, originator_id || %(copy)s, originator_version, topic,
       convert_to(replace(replace(text, '"txn_', '"txn' || %(copy)s || '_'),
                          at, floor(%(start)s + number * %(step)s)::bigint::text), 'UTF8'),
       account, livemode, actor, 'req' || %(copy)s || '_' || number, idempotency_key, causation, customer,
       charge, payment_intent, to_timestamp(%(start)s + number * %(step)s)
FROM ledger.benchmark_template WHERE number <= %(count)s ORDER BY number
"""
_MOVE_HEAD = """
UPDATE ledger.head h SET position = e.notification_id, recorded_at = e.recorded_at
FROM (SELECT notification_id, recorded_at FROM ledger.events ORDER BY notification_id DESC LIMIT 1) e
"""
# The same rows as the projection writes, for the kinds of events of these histories. An event that does not
# say when its object was created was decided then.
_FILL_INDEX = """
INSERT INTO projections.audit_index
    (generation, id, account, livemode, position, topic, actor, request_id, idempotency_key, aggregate,
     created)
SELECT l.generation, e.notification_id, e.account, e.livemode, e.notification_id, e.topic, e.actor,
       e.request_id, e.idempotency_key,
       CASE WHEN e.originator_version = 1 THEN split_part(e.topic, '.', 1) END,
       CASE WHEN e.originator_version = 1 THEN coalesce(s.state ->> 'created', s.state ->> 'at')::bigint END
FROM projections.live l, ledger.events e
CROSS JOIN LATERAL (SELECT convert_from(e.state, 'UTF8')::json AS state) s
WHERE l.projection = 'audit_index'
"""
_MOVE_CHECKPOINT = """
UPDATE projections.checkpoints SET position = (SELECT position FROM ledger.head)
WHERE projection = 'audit_index'
"""


def fill_log(dsn: str, codec: Codec, events: int) -> None:
    """Fill the log of an empty database with `events` events, recorded over the last LOG_DAYS."""
    stories = min(events, STORY_EVENTS_MAX)
    days = LOG_DAYS * stories / events
    end = time.time() - (LOG_DAYS - days) * DAY_SECONDS
    copy_history(dsn, codec, SEED, stories, days=days, end=end)
    if stories == events:
        return
    with psycopg.connect(dsn, autocommit=True) as conn:
        indexes = conn.execute(_SECONDARY_INDEXES).fetchall()
        for name, _ in indexes:  # made again at the end, which is faster than to keep them up to date
            conn.execute(f"DROP INDEX ledger.{name}".encode())
        conn.execute("SET synchronous_commit = off")
        conn.execute(_MAKE_TEMPLATE)
        (template_size,) = conn.execute(_TEMPLATE_SIZE).fetchone() or (0,)
        step = (LOG_DAYS - days) * DAY_SECONDS / (events - stories)
        for number, after in enumerate(range(stories, events, template_size), 1):
            start = end + (after - stories) * step
            count = min(template_size, events - after)
            conn.execute(
                _COPY_TEMPLATE,
                {"after": after, "copy": f"_{number}", "start": start, "step": step, "count": count},
            )
        conn.execute("SET maintenance_work_mem = '1GB'")
        for _, definition in indexes:
            conn.execute(definition.encode())
        conn.execute("DROP TABLE ledger.benchmark_template")
        conn.execute(_MOVE_HEAD)
        conn.execute("VACUUM ANALYZE ledger.events")


async def fill_index(dsn: str) -> None:
    """Fill the audit index of a log that only `fill_log` or `copy_history` wrote, as the projection would."""
    async with open_connection(dsn, "ledger_projector", name="benchmark") as conn:
        await register_missing(conn, [AUDIT_INDEX])
        async with conn.transaction():
            await conn.execute("SET LOCAL work_mem = '256MB'")
            await conn.execute(_FILL_INDEX)
            await conn.execute(_MOVE_CHECKPOINT)
        await conn.execute("ANALYZE projections.audit_index")
