"""Reconciles all money: the log with itself, and the read models with the log. For `ledger audit reconcile`.

Everything is read in one snapshot, stream by stream, once; memory depends on neither the length of the log
nor the number of differences, only on the longest stream and the number of accounts and currencies.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import psycopg

from ledger.audit.reconciliation.read_models import RowChecker
from ledger.audit.reconciliation.report import Report, Show
from ledger.audit.reconciliation.streams import MONEY_TOPICS, OTHER_TOPICS, StreamChecker
from ledger.clock import Clock
from ledger.postgres.connections import LONG_ANSWER_SECONDS, Conn, connect, fetch_all, fetch_one
from ledger.store.codec import Codec
from ledger.store.log import PLANNER_SETTINGS, Recorded, read_stream, read_streams

PAGE_EVENTS = 1000
SAMPLE_WINDOW_POSITIONS = 1000

# Streams are read along the index of their versions, whatever the statistics say.
_SETTINGS = PLANNER_SETTINGS | {"enable_bitmapscan": "off", "enable_sort": "off"}
_HEAD = "SELECT position FROM ledger.head"
_COUNT = "SELECT count(*) FROM ledger.events WHERE notification_id BETWEEN 1 AND %(upto)s"
_FIRST_HOLE = """
SELECT numbered.position - 1 FROM (
    SELECT notification_id AS position, row_number() OVER (ORDER BY notification_id) AS number
    FROM ledger.events WHERE notification_id BETWEEN 1 AND %(upto)s) AS numbered
WHERE numbered.position > numbered.number ORDER BY numbered.position LIMIT 1
"""
_SAMPLE = """
SELECT DISTINCT next.originator_id
FROM unnest(%(positions)s::bigint[]) AS drawn(position)
CROSS JOIN LATERAL (
    SELECT e.originator_id FROM ledger.events e
    WHERE e.notification_id BETWEEN drawn.position AND least(drawn.position + %(window)s, %(upto)s)
    AND e.topic = ANY (%(topics)s::text[]) AND (%(account)s::text IS NULL OR e.account = %(account)s)
    ORDER BY e.notification_id LIMIT 1) AS next
LIMIT %(count)s
"""

Progress = Callable[[Report], None]


async def reconcile(
    dsn: str,
    codec: Codec,
    clock: Clock,
    *,
    show: Show,
    show_progress: Progress,
    account: str | None = None,
    sample: int | None = None,
) -> Report:
    """Reconcile all accounts and modes, or one account.

    show           gets each difference and gap as it is found
    show_progress  is called after each page of streams
    sample         only about so many streams, drawn at random, and their rows: rows that no event has made,
                   positions that are missing, and balances are then not looked for

    Raises psycopg.OperationalError.
    """
    conn = await connect(
        dsn, "ledger_api", name="reconcile", settings=_SETTINGS, answer_seconds=LONG_ANSWER_SECONDS
    )
    async with conn:
        await conn.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        async with conn.transaction():
            await clock.refresh(conn)
            head = await fetch_one(conn, _HEAD)
            assert head is not None
            report = Report(show, position=head[0])
            streams = StreamChecker(conn, codec, report, report.position)
            rows = RowChecker(conn, codec.data_keys, report, account, int(clock.now()))
            await rows.start()
            if sample is not None:
                for stream in await _draw_streams(conn, report.position, account, sample):
                    recorded = await read_stream(conn, codec, stream, upto=report.position)
                    await rows.check(await streams.check(recorded))
                    show_progress(report)
                return report
            await _check_positions(conn, report)
            gaps_before = report.gaps
            await _walk(conn, codec, report, streams, rows, account, show_progress)
            await rows.finish(is_complete=report.gaps == gaps_before)
    return report


async def _walk(
    conn: Conn,
    codec: Codec,
    report: Report,
    streams: StreamChecker,
    rows: RowChecker,
    account: str | None,
    show_progress: Progress,
) -> None:
    after, is_done = "", False
    while not is_done:
        recorded, is_done = await read_streams(
            conn, codec, after, upto=report.position, limit=PAGE_EVENTS, ignored_topics=OTHER_TOPICS
        )
        if recorded:
            after = recorded[-1].event.originator_id
        entries = await streams.check(list(_select(recorded, account)))
        await rows.check(entries)
        show_progress(report)


def _select(recorded: Sequence[Recorded], account: str | None) -> Iterator[Recorded]:
    return (each for each in recorded if account in (None, each.account))


async def _draw_streams(conn: Conn, upto: int, account: str | None, count: int) -> list[str]:
    """About `count` streams of charges, refunds and disputes: busy ones are likelier."""
    bindings = {
        "positions": [random.randint(1, upto) for _ in range(2 * count)] if upto else [],  # noqa: S311
        "window": SAMPLE_WINDOW_POSITIONS,
        "upto": upto,
        "topics": MONEY_TOPICS,
        "account": account,
        "count": count,
    }
    return [row[0] for row in await fetch_all(conn, _SAMPLE, bindings)]


async def _check_positions(conn: Conn, report: Report) -> None:
    """Check that the log has every position up to its head."""
    bindings = {"upto": report.position}
    row = await fetch_one(conn, _COUNT, bindings)
    assert row is not None
    if row[0] == report.position:
        return
    hole = await fetch_one(conn, _FIRST_HOLE, bindings)
    missing = hole[0] if hole is not None else report.position
    report.add(missing, "log", "recorded events", expected=report.position, found=row[0])
