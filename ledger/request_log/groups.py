"""Failed requests grouped by how they failed, and how many requests there were over time."""

from __future__ import annotations

from typing import Any, NamedTuple

from ledger.postgres.connections import Conn, fetch_all
from ledger.request_log.pages import EXAMINED_MAX
from ledger.request_log.requests import make_group_id
from ledger.request_log.storage import BUCKET_COLUMNS, BUCKETS, PERIODS
from ledger.request_log.viewers import Viewer

GROUPS_MAX = 200
NEWEST_MAX = 3
MINUTES_SECONDS_MAX = 6 * 3600
"""A longer time is counted by hours."""

_IN_WINDOW = """
FROM unnest(%(owners)s::text[], %(modes)s::boolean[]) AS s(owner, livemode)
JOIN request_log.counts c ON c.owner = s.owner AND c.livemode = s.livemode AND c.period = %(period)s
    AND c.start >= to_timestamp(%(from)s) AND c.start < to_timestamp(%(to)s)
    AND c.account = coalesce(%(account)s::text, '')
"""
_WITHIN = ", ".join(f"sum(c.{column})::bigint" for column in BUCKET_COLUMNS)
_SELECT_COUNTS = f"""
SELECT extract(epoch FROM c.start)::float8, sum(c.count)::bigint,
       coalesce(sum(c.count) FILTER (WHERE c.status >= %(refused)s), 0)::bigint,
       coalesce(sum(c.count) FILTER (WHERE c.status >= %(fault)s), 0)::bigint,
       sum(c.left_out)::bigint, sum(c.seconds), max(c.seconds_max), {_WITHIN}
{_IN_WINDOW}
GROUP BY c.start ORDER BY c.start
"""  # noqa: S608 (constants)
_SELECT_GROUPS = f"""
SELECT c.operation, c.status, c.code, c.param, sum(c.count)::bigint AS count,
       extract(epoch FROM min(c.first_at))::float8, extract(epoch FROM max(c.last_at))::float8
{_IN_WINDOW} AND c.status >= %(refused)s
GROUP BY 1, 2, 3, 4 ORDER BY count DESC, 1, 2, 3, 4 LIMIT %(limit)s
"""  # noqa: S608 (constants)
_SELECT_NEWEST = """
SELECT g.id, r.request_id, r.error_type, r.message
FROM unnest(%(groups)s::text[]) AS g(id)
CROSS JOIN unnest(%(owners)s::text[], %(modes)s::boolean[]) AS s(owner, livemode)
CROSS JOIN LATERAL (
    SELECT r.* FROM (
        SELECT r.at, r.number, r.request_id, r.account, r.error_type, r.message FROM request_log.requests r
        WHERE r.owner = s.owner AND r.livemode = s.livemode AND r.grouped_by = g.id
        AND r.at < to_timestamp(%(to)s)
        ORDER BY r.at DESC, r.number DESC LIMIT %(examined_max)s) r
    WHERE (%(account)s::text IS NULL OR r.account = %(account)s)
    LIMIT %(newest)s) r
ORDER BY r.at DESC, r.number DESC
"""


class Window(NamedTuple):
    """From one time to another (unix seconds), and the seconds of one count: whole ones of it."""

    start: int
    end: int
    period: int

    @classmethod
    def of(cls, start: float, end: float) -> Window:
        """The window of whole minutes or hours that contains these times."""
        period = PERIODS[0] if end - start <= MINUTES_SECONDS_MAX else PERIODS[1]
        return cls(int(start // period * period), int(-(-end // period) * period), period)


async def summarize_requests(
    conn: Conn, viewer: Viewer, window: Window, *, refused: int, fault: int
) -> dict[str, Any]:
    """The counts and the groups of the window. `refused` and `fault`: from which status on the caller or the
    service has failed."""
    values = {
        **viewer.bind(),
        "from": window.start, "to": window.end, "period": window.period,
        "refused": refused, "fault": fault, "limit": GROUPS_MAX + 1, "newest": NEWEST_MAX,
        "examined_max": EXAMINED_MAX,
    }  # fmt: skip
    counts = [_render_count(row) for row in await fetch_all(conn, _SELECT_COUNTS, values)]
    rows = await fetch_all(conn, _SELECT_GROUPS, values)
    groups = [_render_group(row) for row in rows[:GROUPS_MAX]]
    ids = [group["id"] for group in groups]
    for group_id, request_id, error_type, message in await fetch_all(
        conn, _SELECT_NEWEST, {**values, "groups": ids}
    ):
        group = groups[ids.index(group_id)]
        if not group["newest"]:
            group |= {"error_type": error_type, "message": message}
        if len(group["newest"]) < NEWEST_MAX:
            group["newest"].append(request_id)
    return {
        "from": window.start,
        "to": window.end,
        "period": window.period,
        **{name: sum(count[name] for count in counts) for name in ("total", "failed", "faults", "left_out")},
        "counts": counts,
        "groups": groups,
        "has_more_groups": len(rows) > GROUPS_MAX,
    }


def _render_count(row: Any) -> dict[str, Any]:
    start, total, failed, faults, left_out, seconds, seconds_max, *within = row
    bounds = [*(round(bound * 1000) for bound in BUCKETS), None]
    return {
        "start": int(start),
        "total": total,
        "failed": failed,
        "faults": faults,
        "left_out": left_out,
        "duration_ms_mean": round(seconds * 1000 / total, 3),
        "duration_ms_max": round(seconds_max * 1000, 3),
        "durations": [
            {"at_most_ms": bound, "count": count} for bound, count in zip(bounds, within, strict=True)
        ],
    }


def _render_group(row: Any) -> dict[str, Any]:
    operation, status, code, param, count, first_at, last_at = row
    return {
        "id": make_group_id(operation, status, code, param),
        "object": "request_group",
        "code": code or None,
        "count": count,
        "error_type": None,
        "first_at": first_at,
        "last_at": last_at,
        "message": None,
        "newest": [],
        "operation": operation,
        "param": param or None,
        "status": status,
    }
