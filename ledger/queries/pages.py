"""Runs list queries: pages of a projection's rows, newest first, as new as the log was at the request.

A page waits, for a bounded time, until its projection has applied every event that was in the log when the
request arrived, so a client sees its own writes. A stalled projection does not block its lists: after that
time the page has the rows that exist, and the number of events that are missing. A page costs the same at any
depth. A replica answers if its projection has applied as much.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from copy import copy
from typing import Any, NamedTuple

from psycopg.rows import TupleRow

from ledger.call import Call
from ledger.clock import Clock
from ledger.domain.money import DAY_SECONDS
from ledger.errors import InvalidParameter, Unavailable
from ledger.ids import parse_id_time
from ledger.postgres.connections import READ_PLANNER_SETTINGS, SNAPSHOT_FIRST
from ledger.postgres.statements import Statement, StatementPool, parse_statement
from ledger.queries.list_query import (
    PROGRESS_COLUMNS,
    ListQuery,
    build_applied_position_query,
    build_cursor_query,
    build_page_query,
    build_whole_query,
)
from ledger.store.notifications import HeadNotifier
from ledger.store.replication.replica import REPLICA_WAIT_SECONDS, Replica
from ledger.time_limits import get_deadline
from ledger.wire.json_values import make_list_object
from ledger.wire.parameters import two_cursors_error
from ledger.wire.public_events import EVENT_RETENTION_DAYS

EVENT_RETENTION_SECONDS = EVENT_RETENTION_DAYS * DAY_SECONDS
CREATED_MAX = 2**62
CLOCK_AHEAD_SECONDS = 3600
"""How far the clock of another process may be ahead before its Events cost the first page a second query."""
PAGE_CONNECTIONS_MAX = 8
ANSWER_SECONDS = 1.0
"""What a list that waited keeps of its request's time, to answer with what there is."""
LIST_NOTIFIED_SECONDS = 0.2
LIST_POLL_SECONDS = 0.003
LIST_POLL_SECONDS_MAX = 0.05


class ProjectionProgress(NamedTuple):
    """How far a projection was when a page was read.

    newest_at   when the log's last event was recorded, in unix seconds: no event is later
    lag_events  how many events it had not applied after the wait
    """

    head: int
    checkpoint: int
    shape: int
    incomplete: bool
    newest_at: int
    lag_events: int = 0


class QueryResult(NamedTuple):
    """The result of a query: the object, or the list.

    lag_events  of a list: how many events its projection had not applied when the wait was over
    incomplete  of a list: whether its projection lacks parked streams
    """

    body: Mapping[str, Any]
    lag_events: int = 0
    incomplete: bool = False


class Page(NamedTuple):
    """Rows, newest first, and whether there are more beyond them in the direction of the request."""

    progress: ProjectionProgress
    rows: list[TupleRow]
    has_more: bool


class Pages:
    """Fetches pages for one process, on connections of its own, until `close`. `wait_ms`: how long a request
    waits for a projection at most. `replica`: which is asked first, if there is one."""

    def __init__(
        self, dsn: str, clock: Clock, notifier: HeadNotifier, *, wait_ms: int, replica: Replica | None = None
    ) -> None:
        self._statements = StatementPool(
            dsn,
            "ledger_api",
            name="pages",
            settings=READ_PLANNER_SETTINGS | SNAPSHOT_FIRST,
            connections_max=PAGE_CONNECTIONS_MAX,
        )
        self._clock = clock
        self._notifier = notifier
        self._wait_seconds = wait_ms / 1000
        self._replica = replica

    def only_from_primary(self) -> Pages:
        """The same, without a replica: for what a decision depends on."""
        pages = copy(self)
        pages._replica = None
        return pages

    async def close(self) -> None:
        """Close the connections; the first query opened them."""
        await self._statements.close()

    async def fetch_page(
        self, call: Call, list_query: ListQuery, filters: Mapping[str, Any] | None = None
    ) -> Page:
        """The page for the call's `limit`, `created` and cursors. `filters`: values by filter of the
        list query; by default the call's parameters of these names. Raises InvalidParameter, Unavailable."""
        params = call.parameters
        if filters is None:
            filters = {name: params[name] for name in list_query.filters if name in params}
        filters = {**filters, **params.get("created", {})}
        bindings = self._scope_bindings(call) | filters | {"limit": params["limit"] + 1}
        deadline = self._deadline()
        older, cursor_key = await self._find_cursor(call, list_query, bindings, deadline)
        if cursor_key is not None:
            created = cursor_key[0]
            bindings |= dict(zip(("created", "position", "ordinal"), cursor_key, strict=False))
            bindings |= {"until": created} if older else {"since": max(bindings["since"], created - 1)}
            filters = _drop_implied_bounds(filters, created, older is True)
        query = build_page_query(list_query, tuple(filters), older)
        shape_min = max((list_query.filter_shape_min.get(name, 1) for name in filters), default=1)
        rows: list[TupleRow] = []
        if list_query.partitioned_by_day:  # first the day that most pages are within, then all days
            day_bindings = self._narrow_to_day(bindings, cursor_key, older)
            progress, rows = await self._fetch_rows(list_query, query, day_bindings, deadline, shape_min)
            if older is None and progress.newest_at > day_bindings["until"]:  # recorded by a clock far ahead
                rows = []
        if len(rows) <= params["limit"]:
            progress, rows = await self._fetch_rows(list_query, query, bindings, deadline, shape_min)
        if progress.shape < shape_min:
            raise Unavailable(
                f"the projection {list_query.projection} is being rebuilt and cannot filter by these "
                "parameters yet"
            )
        has_more = len(rows) > params["limit"]
        rows = rows[: params["limit"]]
        return Page(progress, rows[::-1] if older is False else rows, has_more)

    async def fetch_newest(
        self, call: Call, list_query: ListQuery, filters: Mapping[str, Any], *, limit: int
    ) -> list[TupleRow]:
        """The caller's newest rows that pass the filters, at most `limit`. Raises Unavailable."""
        query = build_page_query(list_query, tuple(filters), None)
        _, rows = await self._fetch_rows(
            list_query, query, {**self._scope_bindings(call), **filters, "limit": limit}, self._deadline()
        )
        return rows

    async def fetch_by_id(self, call: Call, list_query: ListQuery, object_id: str) -> TupleRow | None:
        """The caller's row of that id, or None. The list query has a filter `id`. Raises Unavailable."""
        bindings = {**self._scope_bindings(call), "id": object_id, "limit": 1}
        query = build_page_query(list_query, ("id",), None)
        return await self._find_by_id(list_query, query, bindings, object_id, self._deadline())

    async def fetch_whole(
        self, call: Call, list_query: ListQuery, bindings: Mapping[str, Any]
    ) -> tuple[ProjectionProgress, list[TupleRow]]:
        """The projection's progress and all rows of the list query's `select`, for the caller's account and
        mode. Raises Unavailable."""
        bindings = {**self._scope_bindings(call), **bindings}
        return await self._fetch_rows(list_query, build_whole_query(list_query), bindings, self._deadline())

    def _deadline(self) -> float:
        """The time by the event loop's clock until which a request that begins now waits for its
        projection."""
        return get_deadline(self._wait_seconds + ANSWER_SECONDS) - ANSWER_SECONDS

    def _scope_bindings(self, call: Call) -> dict[str, Any]:
        """Account and mode of the caller, and the times (unix seconds) between which Events are shown."""
        since = int(self._clock.now()) - EVENT_RETENTION_SECONDS
        return {"account": call.account, "livemode": call.livemode, "since": since, "until": CREATED_MAX}

    async def _find_by_id(
        self,
        list_query: ListQuery,
        query: Statement,
        bindings: Mapping[str, Any],
        object_id: str,
        deadline: float,
    ) -> TupleRow | None:
        """The row of one id. If rows are partitioned by day, this looks near the time in the id. The id of an
        imported object has no such time, or another one: then it looks near the time of the recording."""
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
        rows = await self._statements.fetch(parse_statement(query), {"id": object_id})
        return rows[0][0] if rows else None

    def _narrow_to_day(
        self, bindings: dict[str, Any], cursor_key: TupleRow | None, older: bool | None
    ) -> dict[str, Any]:
        """The bindings, limited to the day that most likely holds the whole page: one or two partitions."""
        start = int(self._clock.now()) if cursor_key is None else cursor_key[0]
        if older is False:
            return {**bindings, "until": start + DAY_SECONDS}
        until = start + CLOCK_AHEAD_SECONDS if cursor_key is None else bindings["until"]
        return {**bindings, "since": max(bindings["since"], start - DAY_SECONDS), "until": until}

    async def _find_cursor(
        self, call: Call, list_query: ListQuery, bindings: Mapping[str, Any], deadline: float
    ) -> tuple[bool | None, TupleRow | None]:
        """Whether the call asks for rows older than its cursor, and the cursor's sort key; None, None without
        a cursor. Raises InvalidParameter for an unknown cursor, and for two."""
        older, key = None, None
        for param, towards_older in (("starting_after", True), ("ending_before", False)):
            cursor = call.parameters.get(param)
            if cursor is None:
                continue
            query, cursor_bindings = build_cursor_query(list_query), {**bindings, "cursor": cursor}
            row = await self._find_by_id(list_query, query, cursor_bindings, cursor, deadline)
            if row is None:
                raise InvalidParameter(
                    f"No such {list_query.noun}: '{cursor}'", code="resource_missing", param=param
                )
            if key is not None:
                raise two_cursors_error()
            older, key = towards_older, row
        return older, key

    async def _fetch_rows(
        self,
        list_query: ListQuery,
        query: Statement,
        bindings: Mapping[str, Any],
        deadline: float,
        shape_min: int = 1,
    ) -> tuple[ProjectionProgress, list[TupleRow]]:
        """The projection's progress, and rows at least as new. All queries of one page share the `deadline`
        until which they wait for the projection. Rows of a replica have the shape `shape_min`."""
        bindings = {**bindings, "projection": list_query.projection}
        if self._replica is not None:
            found = await self._fetch_from_replica(self._replica, query, bindings, shape_min)
            if found is not None:
                return found
        progress, rows = await self._fetch_once(query, bindings, deadline)
        head = progress.head
        if progress.checkpoint < head:
            # Usually the projection is a moment behind, and a notification arrives: then nothing is polled.
            self._notifier.want_applied(head)
            left_seconds = deadline - asyncio.get_running_loop().time()
            wait_seconds = min(LIST_NOTIFIED_SECONDS, max(left_seconds, 0))
            if await self._notifier.wait_applied(head, timeout_seconds=wait_seconds):
                progress, rows = await self._fetch_once(query, bindings, deadline)
        if progress.checkpoint < head:
            await self._wait_until_applied(list_query, bindings, head, deadline)
            progress, rows = await self._fetch_once(query, bindings, deadline)
        return progress._replace(lag_events=max(head - progress.checkpoint, 0)), rows

    async def _fetch_from_replica(
        self, replica: Replica, query: Statement, bindings: Mapping[str, Any], shape_min: int
    ) -> tuple[ProjectionProgress, list[TupleRow]] | None:
        """The same from the replica, where the projection has applied all that was in the log when this was
        called; None when the primary has to answer."""
        if not replica.is_used:
            replica.on_read("not_asked")
            return None
        loop = asyncio.get_running_loop()
        until = loop.time() + REPLICA_WAIT_SECONDS
        head_read = replica.read_head()
        while rows := await replica.fetch(query, bindings):
            progress, page_rows = _split_rows(rows)
            try:
                head = await head_read
            except Unavailable:  # who waits for the primary has the time of the request
                replica.on_read("not_asked")
                return None
            if progress.checkpoint >= head and progress.shape >= shape_min:
                replica.on_read("answered")
                return progress, page_rows
            if loop.time() >= until:
                if progress.head < head:
                    replica.note_behind(head)
                else:  # the projection is, or its last batch is not sent yet
                    replica.on_read("behind")
                return None
            self._notifier.want_applied(head)
            await self._notifier.wait_applied(head, timeout_seconds=until - loop.time())
            await asyncio.sleep(LIST_POLL_SECONDS)
        head_read.cancel()
        return None

    async def _fetch_once(
        self, query: Statement, bindings: Mapping[str, Any], deadline: float
    ) -> tuple[ProjectionProgress, list[TupleRow]]:
        rows = await self._statements.fetch(query, bindings)
        while not rows and asyncio.get_running_loop().time() < deadline:  # the first worker has just started
            await asyncio.sleep(LIST_POLL_SECONDS_MAX)
            rows = await self._statements.fetch(query, bindings)
        if not rows:
            raise Unavailable(f"the projection {bindings['projection']} has no live generation yet")
        return _split_rows(rows)

    async def _wait_until_applied(
        self, list_query: ListQuery, bindings: Mapping[str, Any], head: int, deadline: float
    ) -> None:
        """Wait until the projection has applied the log up to `head`, or until `deadline`.

        Holds no connection between polls: a few requests that wait for a stalled projection would otherwise
        use up the pool, for all reads."""
        loop = asyncio.get_running_loop()
        pause = LIST_POLL_SECONDS
        query = build_applied_position_query(list_query)
        while True:
            rows = await self._statements.fetch(query, bindings)
            if (rows and rows[0][0] >= head) or loop.time() >= deadline:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LIST_POLL_SECONDS_MAX)


def _split_rows(rows: list[TupleRow]) -> tuple[ProjectionProgress, list[TupleRow]]:
    page_rows = [row[PROGRESS_COLUMNS:] for row in rows]
    progress = ProjectionProgress(*rows[0][:PROGRESS_COLUMNS])
    return progress, page_rows if page_rows[0][0] is not None else []


def _drop_implied_bounds(filters: Mapping[str, Any], created: int, older: bool) -> dict[str, Any]:
    """The filters without the bounds on `created` that a cursor of this time implies. Postgres would read the
    index from such a bound to the cursor, which takes longer the deeper the page is."""
    if older:
        implied = {"lt": created < filters.get("lt", created), "lte": created <= filters.get("lte", created)}
    else:
        implied = {"gt": created > filters.get("gt", created), "gte": created >= filters.get("gte", created)}
    return {name: value for name, value in filters.items() if not implied.get(name, False)}


def _narrow_to_time(bindings: Mapping[str, Any], at: float) -> dict[str, Any]:
    """The bindings, limited to rows created at the time `at`: one or two partitions instead of all."""
    second = int(at)
    return {**bindings, "since": max(bindings["since"], second - 2), "until": second + 1}


def render_list(list_query: ListQuery, data: list[Any], page: Page, *, url: str | None = None) -> QueryResult:
    """The list object with `data`, rendered from the page's rows. `url` is that of a list within an
    object."""
    body = make_list_object(data, url or list_query.url, has_more=page.has_more)
    return QueryResult(body, page.progress.lag_events, page.progress.incomplete)
