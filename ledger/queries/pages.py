"""Pages of the read models: newest first, by key, as new as the log was when they were asked for.

A page waits, bounded, until its projection has applied everything that was in the log when the request
came, so a client sees its own writes. A projection that is stuck never blocks: after the bound the answer
is what is there, and says how far behind it is. Depth costs nothing. A list is a `ListQuery` and no code
here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import TupleRow
from psycopg_pool import PoolTimeout

from ledger.call import Call
from ledger.clock import Clock
from ledger.errors import InvalidParameter, Unavailable
from ledger.ids import parse_id_time
from ledger.postgres.connections import Pool, fetch_one, first_line

DAY_SECONDS = 86_400
EVENT_RETENTION_SECONDS = 30 * DAY_SECONDS
CREATED_MAX = 2**62
LIST_POLL_SECONDS = 0.003
LIST_POLL_SECONDS_MAX = 0.05

# One statement, one snapshot: what the checkpoint tells to be applied is in the page. Between the first
# two comes the view's `applied_position`.
_QUERY_START = "SELECT standing.*, page.* FROM (SELECT h.position AS head, "
_QUERY_PROGRESS = """
 AS checkpoint, c.shape, EXISTS (SELECT FROM projections.parked p
                                WHERE p.projection = c.projection AND p.generation = c.generation)
                            AS incomplete
    FROM ledger.head h, projections.live l
    JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
    WHERE l.projection = %(projection)s
) AS standing LEFT JOIN (
"""
_QUERY_END = ") AS page ON true\n"
_FROM_LIVE_CHECKPOINT = """
FROM projections.live l
JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
WHERE l.projection = %(projection)s
"""

_CREATED_FILTERS = {
    "eq": "AND created = %(eq)s",
    "gt": "AND created > %(gt)s",
    "gte": "AND created >= %(gte)s",
    "lt": "AND created < %(lt)s",
    "lte": "AND created <= %(lte)s",
}
_SORT_KEYS = {True: "(created, position, ordinal)", False: "(created, position)"}
_CURSOR_KEYS = {True: "(%(created)s, %(position)s, %(ordinal)s)", False: "(%(created)s, %(position)s)"}
_ORDER_BY = {
    (True, False): "ORDER BY created DESC, position DESC, ordinal DESC",
    (True, True): "ORDER BY created, position, ordinal",
    (False, False): "ORDER BY created DESC, position DESC",
    (False, True): "ORDER BY created, position",
}


class ProjectionProgress(NamedTuple):
    """Where a projection stood against the log when a page was read; `lag_events` after waiting for it."""

    head: int
    checkpoint: int
    shape: int
    incomplete: bool
    lag_events: int = 0


class QueryResult(NamedTuple):
    """An answer. For a list, `lag_events` is how many events its projection had not applied when the wait was
    over, and `incomplete` whether it leaves streams out."""

    body: Mapping[str, Any]
    lag_events: int = 0
    incomplete: bool = False


class Page(NamedTuple):
    """Rows newest first, and whether there are more in the direction travelled."""

    progress: ProjectionProgress
    rows: list[TupleRow]
    has_more: bool


@dataclass(frozen=True, slots=True, eq=False)
class ListQuery:
    """One list: static SQL over one projection.

    noun        what an unknown cursor is called: "No such {noun}"
    select      a SELECT ending in its WHERE; it binds account and livemode, and yields created, position
    place       selects the sort key (created, position, and ordinal if `by_ordinal`) of the id %(cursor)s
    filters     by parameter name, the condition that the parameter adds
    shapes      by the name of a filter that came later, the first shape of rows that can be filtered so
    by_ordinal  several rows may share a position
    by_day      rows lie in partitions by day: %(since)s < created <= %(until)s is bound too
    told        selects when (unix seconds) a row was made whose id, %(id)s, was given by a caller
    reached     up to which position it is as new as the log: the checkpoint `c.position`, or less
    """

    projection: str
    noun: str
    url: str
    select: str
    cursor_select: str
    filters: Mapping[str, str] = field(default_factory=dict)
    filter_shape_min: Mapping[str, int] = field(default_factory=dict)
    by_ordinal: bool = False
    partitioned_by_day: bool = False
    recorded_at_select: str | None = None
    applied_position: str = "c.position"


class Pages:
    """Pages for one process. `wait_ms` bounds how long one waits for its projection."""

    def __init__(self, pool: Pool, clock: Clock, *, wait_ms: int) -> None:
        self._pool = pool
        self._clock = clock
        self._wait_seconds = wait_ms / 1000

    async def fetch_page(
        self, call: Call, list_query: ListQuery, filters: Mapping[str, Any] | None = None
    ) -> Page:
        """The page that the call's `limit`, `created` and cursors ask for, by `filters`: those of the
        view's that the call has parameters for, unless they are given. Raises InvalidParameter."""
        params = call.parameters
        if filters is None:
            filters = {name: params[name] for name in list_query.filters if name in params}
        filters = {**filters, **params.get("created", {})}
        after, before = params.get("starting_after"), params.get("ending_before")
        bindings = self._scope_bindings(call) | filters | {"limit": params["limit"] + 1}
        deadline = self._deadline()
        cursor_key = None
        for param, cursor in (("starting_after", after), ("ending_before", before)):
            if cursor is not None:
                cursor_key = await self._find_cursor(
                    list_query, param, bindings | {"cursor": cursor}, deadline
                )
        if after is not None and before is not None:
            raise InvalidParameter(
                "Received both starting_after and ending_before parameters. Please pass in only one."
            )
        if cursor_key is not None:
            bindings |= dict(zip(("created", "position", "ordinal"), cursor_key, strict=False))
        older = None if cursor_key is None else before is None
        query = _build_page_query(list_query, tuple(filters), older)
        rows: list[TupleRow] = []
        shape_min = max((list_query.filter_shape_min.get(name, 1) for name in filters), default=1)
        if list_query.partitioned_by_day:
            progress, rows = await self._fetch_rows(
                list_query, query, self._narrow_to_day(bindings, cursor_key, older), deadline
            )
        if len(rows) <= params["limit"]:
            progress, rows = await self._fetch_rows(list_query, query, bindings, deadline)
        if progress.shape < shape_min:
            raise Unavailable(
                f"the projection {list_query.projection} is not built with all of these filters yet"
            )
        has_more = len(rows) > params["limit"]
        rows = rows[: params["limit"]]
        return Page(progress, rows if before is None else rows[::-1], has_more)

    async def fetch_newest(
        self, call: Call, list_query: ListQuery, filters: Mapping[str, Any]
    ) -> TupleRow | None:
        """The newest row of the caller's that the filters leave, None when there is none."""
        query = _build_page_query(list_query, tuple(filters), None)
        _, rows = await self._fetch_rows(
            list_query, query, {**self._scope_bindings(call), **filters, "limit": 1}, self._deadline()
        )
        return rows[0] if rows else None

    async def fetch_by_id(self, call: Call, list_query: ListQuery, object_id: str) -> TupleRow | None:
        """The caller's row of that id, None when there is none. The view filters by `id`."""
        bindings = {**self._scope_bindings(call), "id": object_id, "limit": 1}
        query = _build_page_query(list_query, ("id",), None)
        return await self._find_by_id(list_query, query, bindings, object_id, self._deadline())

    def _deadline(self) -> float:
        """Until when, by the loop's clock, a request waits for its projection."""
        return asyncio.get_running_loop().time() + self._wait_seconds

    def _scope_bindings(self, call: Call) -> dict[str, Any]:
        """Whose objects, and for those with a term between which times, in unix seconds."""
        since = int(self._clock.now()) - EVENT_RETENTION_SECONDS
        return {"account": call.account, "livemode": call.livemode, "since": since, "until": CREATED_MAX}

    async def _find_by_id(
        self, list_query: ListQuery, query: str, bindings: Mapping[str, Any], object_id: str, deadline: float
    ) -> TupleRow | None:
        """The row of one id, looked for where it must lie: near the moment that the id carries, or, when it
        was given by a caller and says nothing or something else, near that when it was told."""
        if not list_query.partitioned_by_day:
            _, rows = await self._fetch_rows(list_query, query, bindings, deadline)
            return rows[0] if rows else None
        created_at = parse_id_time(object_id)
        if created_at is not None:
            _, rows = await self._fetch_rows(
                list_query, query, _narrow_to_time(bindings, created_at), deadline
            )
            if rows:
                return rows[0]
        recorded_at = (
            None
            if list_query.recorded_at_select is None
            else await self._fetch_recorded_at(list_query.recorded_at_select, object_id)
        )
        if recorded_at is None or recorded_at <= bindings["since"]:
            return None
        _, rows = await self._fetch_rows(list_query, query, _narrow_to_time(bindings, recorded_at), deadline)
        return rows[0] if rows else None

    async def _fetch_recorded_at(self, query: str, object_id: str) -> float | None:
        try:
            rows = await self._execute(query, {"id": object_id})
        except psycopg.OperationalError as error:
            raise Unavailable(first_line(error)) from error
        return rows[0][0] if rows else None

    def _narrow_to_day(
        self, bindings: dict[str, Any], cursor_key: TupleRow | None, older: bool | None
    ) -> dict[str, Any]:
        """`parameters` for the day where a page most likely lies whole, in one partition or two."""
        start = int(self._clock.now()) if cursor_key is None else cursor_key[0]
        if older is False:
            return {**bindings, "until": start + DAY_SECONDS}
        until = CREATED_MAX if cursor_key is None else start
        return {**bindings, "since": max(bindings["since"], start - DAY_SECONDS), "until": until}

    async def _find_cursor(
        self, list_query: ListQuery, param: str, bindings: Mapping[str, Any], deadline: float
    ) -> TupleRow:
        """Where the cursor's id stands in its collection. Raises InvalidParameter."""
        query = (
            _QUERY_START
            + list_query.applied_position
            + _QUERY_PROGRESS
            + list_query.cursor_select
            + _QUERY_END
        )
        row = await self._find_by_id(list_query, query, bindings, bindings["cursor"], deadline)
        if row is None:
            raise InvalidParameter(
                f"No such {list_query.noun}: '{bindings['cursor']}'", code="resource_missing", param=param
            )
        return row

    async def _fetch_rows(
        self, list_query: ListQuery, query: str, bindings: Mapping[str, Any], deadline: float
    ) -> tuple[ProjectionProgress, list[TupleRow]]:
        """The projection's standing, and rows at least as new as that tells. However many looks a page
        takes, they wait for their projection until one `deadline`."""
        bindings = {**bindings, "projection": list_query.projection}
        try:
            progress, rows = await self._fetch_once(query, bindings)
            lag_events = 0
            if progress.checkpoint < progress.head:
                lag_events = await self._wait_until_applied(list_query, bindings, progress.head, deadline)
                progress, rows = await self._fetch_once(query, bindings)
            return progress._replace(lag_events=lag_events), rows
        except psycopg.OperationalError as error:
            raise Unavailable(first_line(error)) from error

    async def _fetch_once(
        self, query: str, bindings: Mapping[str, Any]
    ) -> tuple[ProjectionProgress, list[TupleRow]]:
        try:
            rows = await self._execute(query, bindings)
        except PoolTimeout:
            raise
        except psycopg.OperationalError:
            # After a restart of the database every pooled connection is dead, each one a failed list.
            await self._pool.check()
            rows = await self._execute(query, bindings)
        if not rows:
            raise Unavailable(f"the projection {bindings['projection']} is not built yet")
        page_rows = [row[4:] for row in rows]
        return ProjectionProgress(*rows[0][:4]), page_rows if page_rows[0][0] is not None else []

    async def _execute(self, query: str, bindings: Mapping[str, Any]) -> list[TupleRow]:
        async with self._pool.connection() as conn:
            return await (await conn.cursor(binary=True).execute(query.encode(), bindings)).fetchall()

    async def _wait_until_applied(
        self, list_query: ListQuery, bindings: Mapping[str, Any], head: int, deadline: float
    ) -> int:
        """Wait until the projection has applied the log up to `head`, or until `deadline`; what it then
        lacks of it, in events. Holds no connection between looks: with eight of these waiting for a stuck
        projection the pool would be empty, for all that reads."""
        loop = asyncio.get_running_loop()
        pause = LIST_POLL_SECONDS
        query = ("SELECT " + list_query.applied_position + _FROM_LIVE_CHECKPOINT).encode()
        while True:
            async with self._pool.connection() as conn:
                row = await fetch_one(conn, query, bindings)
            lag_events = head - (row[0] if row is not None else 0)
            if lag_events <= 0 or loop.time() >= deadline:
                return max(lag_events, 0)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LIST_POLL_SECONDS_MAX)


def _narrow_to_time(bindings: Mapping[str, Any], at: float) -> dict[str, Any]:
    """`parameters` for what was made at `at`: one or two partitions in place of all."""
    second = int(at)
    return {**bindings, "since": max(bindings["since"], second - 2), "until": second + 1}


def render_list(list_query: ListQuery, data: list[Any], page: Page) -> QueryResult:
    """The list object that answers with `data`, made of the page's rows."""
    body = {"object": "list", "data": data, "has_more": page.has_more, "url": list_query.url}
    return QueryResult(body, page.progress.lag_events, page.progress.incomplete)


@lru_cache(maxsize=1024)
def _build_page_query(list_query: ListQuery, filters: Sequence[str], older: bool | None) -> str:
    """The view's SELECT with the texts of the filters given, the cursor's side, and the order."""
    conditions = {**_CREATED_FILTERS, **list_query.filters}
    parts = [
        _QUERY_START + list_query.applied_position + _QUERY_PROGRESS,
        list_query.select,
        *(conditions[name] for name in filters),
    ]
    if older is not None:
        comparison = "<" if older else ">"
        parts.append(
            f"AND {_SORT_KEYS[list_query.by_ordinal]} {comparison} {_CURSOR_KEYS[list_query.by_ordinal]}"
        )
    order = _ORDER_BY[list_query.by_ordinal, older is False]
    return "\n".join([*parts, order, "LIMIT %(limit)s", _QUERY_END, order])
