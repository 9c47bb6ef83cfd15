"""Stores what a process has recorded of requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ledger.postgres.connections import Conn

BUCKETS = (0.005, 0.02, 0.1, 0.5, 2.0)
"""Upper bounds of durations in seconds; one more bucket has what takes longer."""
BUCKET_COLUMNS = ("within_5ms", "within_20ms", "within_100ms", "within_500ms", "within_2000ms", "longer")
PERIODS = (60, 3600)
"""Seconds for which counts are added up."""
CountKey = tuple[str, bool, str, int, str, str]
"""Account, mode, operation, status, and code and parameter of the error."""

# Rows of counts are taken in one order: processes that add to the same ones do not block each other for good.
_INSERT = """
WITH kept AS (
    INSERT INTO request_log.requests
        (at, request_id, owner, account, livemode, key, method, path, operation, status, milliseconds,
         grouped_by, error_type, code, param, message)
    SELECT to_timestamp(r.at), r.request_id, coalesce(a.platform, r.account), r.account, r.livemode, r.key,
           r.method, r.path, r.operation, r.status, r.milliseconds, r.grouped_by, r.error_type, r.code,
           r.param, r.message
    FROM json_to_recordset(%(rows)s::json) AS r(
        at double precision, request_id text, account text, livemode boolean, key text, method text,
        path text, operation text, status smallint, milliseconds real, grouped_by text, error_type text,
        code text, param text, message text)
    LEFT JOIN ledger.accounts a ON a.id = r.account
    ORDER BY r.at)
INSERT INTO request_log.counts AS c
    (owner, livemode, period, start, account, operation, status, code, param, count, left_out, seconds,
     seconds_max, within_5ms, within_20ms, within_100ms, within_500ms, within_2000ms, longer,
     first_at, last_at)
SELECT coalesce(a.platform, n.account), n.livemode, p.period,
       to_timestamp(floor(%(began)s::float8 / p.period) * p.period),
       shown.account, n.operation, n.status, n.code, n.param, sum(n.count), sum(n.left_out), sum(n.seconds),
       max(n.seconds_max), sum(n.within[1]), sum(n.within[2]), sum(n.within[3]), sum(n.within[4]),
       sum(n.within[5]), sum(n.within[6]), to_timestamp(%(began)s), to_timestamp(%(ended)s)
FROM json_to_recordset(%(counts)s::json) AS n(
    account text, livemode boolean, operation text, status smallint, code text, param text,
    count bigint, left_out bigint, seconds double precision, seconds_max double precision, within bigint[])
LEFT JOIN ledger.accounts a ON a.id = n.account
CROSS JOIN unnest(%(periods)s::integer[]) AS p(period)
CROSS JOIN LATERAL (SELECT '' AS account UNION ALL SELECT a.id WHERE a.platform IS NOT NULL) shown
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
ON CONFLICT ON CONSTRAINT counts_key DO UPDATE SET
    count = c.count + excluded.count,
    left_out = c.left_out + excluded.left_out,
    seconds = c.seconds + excluded.seconds,
    seconds_max = greatest(c.seconds_max, excluded.seconds_max),
    within_5ms = c.within_5ms + excluded.within_5ms,
    within_20ms = c.within_20ms + excluded.within_20ms,
    within_100ms = c.within_100ms + excluded.within_100ms,
    within_500ms = c.within_500ms + excluded.within_500ms,
    within_2000ms = c.within_2000ms + excluded.within_2000ms,
    longer = c.longer + excluded.longer,
    first_at = least(c.first_at, excluded.first_at),
    last_at = greatest(c.last_at, excluded.last_at)
"""

_encoder = msgspec.json.Encoder()


class Count:
    """How many requests of a key there were. `within`: by bucket of BUCKETS; `left_out`: not kept."""

    __slots__ = ("count", "left_out", "seconds", "seconds_max", "within")

    def __init__(self) -> None:
        self.count = 0
        self.left_out = 0
        self.seconds = 0.0
        self.seconds_max = 0.0
        self.within = [0] * (len(BUCKETS) + 1)


class Batch:
    """What has come together since `began_at` (unix seconds). `error_kinds`: errors that are told apart."""

    __slots__ = ("began_at", "counts", "ended_at", "error_kinds", "rows")

    def __init__(self, began_at: float) -> None:
        self.began_at = began_at
        self.ended_at = began_at
        self.counts: dict[CountKey, Count] = {}
        self.rows: list[dict[str, Any]] = []
        self.error_kinds = 0


async def store_batch(conn: Conn, batch: Batch) -> None:
    """Store all of it, in one statement. Raises psycopg.Error; what is sent again after a lost connection may
    be counted twice."""
    values = {
        "rows": _encode(batch.rows),
        "counts": _encode(list(_list_counts(batch))),
        "periods": list(PERIODS),
        "began": batch.began_at,
        "ended": batch.ended_at,
    }
    await conn.execute(_INSERT, values)


def _encode(rows: list[dict[str, Any]]) -> str:
    """The rows as JSON. No text of the database has a NUL: clients send some, and the place of each shows."""
    return _encoder.encode(rows).decode().replace("\\u0000", "\\ufffd")


def _list_counts(batch: Batch) -> Iterator[dict[str, Any]]:
    for key, count in batch.counts.items():
        account, livemode, operation, status, code, param = key
        yield {
            "account": account,
            "livemode": livemode,
            "operation": operation,
            "status": status,
            "code": code,
            "param": param,
            "count": count.count,
            "left_out": count.left_out,
            "seconds": count.seconds,
            "seconds_max": count.seconds_max,
            "within": count.within,
        }
