"""Pages of the requests that are kept, newest first.

A page looks at EXAMINED_MAX rows at most, along an index, and says where to go on: so it takes the same time
whatever the log has in it and however rare what is asked for is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from psycopg.rows import TupleRow

from ledger.errors import UnknownReference
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.request_log.viewers import Viewer

EXAMINED_MAX = 2_500
_SECONDS_MAX = 32_503_680_000  # the year 3000

_COLUMNS = """
r.number, r.at, r.request_id, r.account, r.livemode, r.key, r.method, r.path, r.operation, r.status,
r.milliseconds, r.grouped_by, r.error_type, r.code, r.param, r.message
"""
# One upper bound: with two of them Postgres begins at the one, and reads all rows down to the other.
_RANGE = """
AND r.at >= to_timestamp(%(since)s)
AND (r.at, r.number) < (%(before_at)s::timestamptz, %(before_number)s::bigint)
"""
_NEWEST = "ORDER BY r.at DESC, r.number DESC"
# By what a page is read along an index, the first that is asked for: the condition that the index answers.
_INDEXED = {
    "group": "r.owner = s.owner AND r.livemode = s.livemode AND r.grouped_by = %(group)s",
    "key": "r.owner = s.owner AND r.livemode = s.livemode AND r.key = %(key)s",
    "account": "r.account = %(account)s AND r.livemode = s.livemode AND r.owner = s.owner",
    "owner": "r.owner = s.owner AND r.livemode = s.livemode",
}
_EXAMINED = """
SELECT {columns} FROM request_log.requests r WHERE {indexed} {range} {newest}
"""
# Every page has the same plan: rows along the index until there are enough.
_PAGE = """
SELECT {columns} FROM unnest(%(owners)s::text[], %(modes)s::boolean[]) AS s(owner, livemode)
CROSS JOIN LATERAL (
    SELECT {columns} FROM ({examined} LIMIT %(examined_max)s) r
    WHERE (%(account)s::text IS NULL OR r.account = %(account)s)
    AND (%(key)s::text IS NULL OR r.key = %(key)s)
    AND (%(operation)s::text IS NULL OR r.operation = %(operation)s)
    AND (%(code)s::text IS NULL OR r.code = %(code)s)
    AND (%(group)s::text IS NULL OR r.grouped_by = %(group)s)
    AND r.status BETWEEN %(status_min)s AND %(status_max)s
    {newest} LIMIT %(rows)s) r
{newest} LIMIT %(rows)s
"""
# Where the page has stopped to look: the row after which there are others that it has not examined.
_BOUND = """
SELECT r.number, r.at, r.request_id
FROM unnest(%(owners)s::text[], %(modes)s::boolean[]) AS s(owner, livemode)
CROSS JOIN LATERAL ({examined} OFFSET %(examined_max)s - 1 LIMIT 1) r
{newest} LIMIT 1
"""
_PAGES, _BOUNDS = (
    {
        name: query.format(
            columns=_COLUMNS,
            newest=_NEWEST,
            examined=_EXAMINED.format(columns=_COLUMNS, indexed=indexed, range=_RANGE, newest=_NEWEST),
        )
        for name, indexed in _INDEXED.items()
    }
    for query in (_PAGE, _BOUND)
)
_ONE = f"""
SELECT {_COLUMNS} FROM request_log.requests r
JOIN unnest(%(owners)s::text[], %(modes)s::boolean[]) AS s(owner, livemode)
    ON s.owner = r.owner AND s.livemode = r.livemode
WHERE r.request_id = %(id)s AND (%(account)s::text IS NULL OR r.account = %(account)s) LIMIT 1
"""  # noqa: S608 (constants)


class RequestFilters(NamedTuple):
    """Which requests a page has. `status`: the least and the greatest; `created` maps `gt`, `gte`, `lt` and
    `lte` to unix seconds."""

    status: tuple[int, int] = (0, 999)
    operation: str | None = None
    key: str | None = None
    code: str | None = None
    group: str | None = None
    created: Mapping[str, int] = {}


class RequestPage(NamedTuple):
    """`next_id`: after which request the next page begins, None if there is none."""

    requests: list[dict[str, Any]]
    next_id: str | None


async def find_request(conn: Conn, viewer: Viewer, request_id: str) -> TupleRow | None:
    """The row of the request, if the viewer is shown it."""
    return await fetch_one(conn, _ONE, {**viewer.bind(), "id": request_id})


async def list_requests(
    conn: Conn, viewer: Viewer, filters: RequestFilters, *, limit: int, starting_after: str | None
) -> RequestPage:
    """A page. Raises UnknownReference for a `starting_after` that the viewer is not shown."""
    since, before = _make_bounds(filters.created)
    if starting_after is not None:
        row = await find_request(conn, viewer, starting_after)
        if row is None:
            raise UnknownReference("request", starting_after, param="starting_after")
        before = min(before, (row[1], row[0]))
    values = {
        **viewer.bind(),
        "since": since, "before_at": before[0], "before_number": before[1],
        "status_min": filters.status[0], "status_max": filters.status[1],
        "operation": filters.operation, "key": filters.key, "code": filters.code, "group": filters.group,
        "rows": limit + 1, "examined_max": EXAMINED_MAX,
    }  # fmt: skip
    index = next((name for name in _INDEXED if values.get(name) is not None), "owner")
    rows = await fetch_all(conn, _PAGES[index], values)
    next_id = None
    if len(rows) > limit:
        rows = rows[:limit]
        next_id = rows[-1][2]
    else:
        bound = await fetch_one(conn, _BOUNDS[index], values)
        if bound is not None:
            number, at, next_id = bound
            rows = [row for row in rows if (row[1], row[0]) >= (at, number)]
    return RequestPage([render_request(row) for row in rows], next_id)


def render_request(row: TupleRow) -> dict[str, Any]:
    """The request as the internal API shows it."""
    at: datetime = row[1]
    request_id, account, livemode, key, method, path, operation, status, milliseconds, group = row[2:12]
    error_type, code, param, message = row[12:]
    error = {"type": error_type, "code": code, "param": param, "message": message}
    return {
        "id": request_id,
        "object": "request",
        "account": account or None,
        "created": at.timestamp(),
        "duration_ms": milliseconds,
        "error": error if error_type is not None else None,
        "group": group,
        "key": key,
        "livemode": livemode,
        "method": method,
        "operation": operation,
        "path": path,
        "status": status,
    }


def _make_bounds(created: Mapping[str, int]) -> tuple[int, tuple[datetime, int]]:
    """The first second, and the time and number before which the others are."""
    first = max([created.get("gte", 0), created.get("gt", -1) + 1])
    end = min([created.get("lt", _SECONDS_MAX), created.get("lte", _SECONDS_MAX - 1) + 1])
    return first, (datetime.fromtimestamp(min(end, _SECONDS_MAX), UTC), 0)
