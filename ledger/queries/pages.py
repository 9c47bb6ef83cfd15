"""Pages of the read models: newest first, by key, as new as the log was when they were asked for.

A page waits, bounded, until its projection has applied everything that was in the log when the request
came, so a client sees its own writes. A projection that is stuck never blocks: after the bound the answer
is what is there, and says how far behind it is. Depth costs nothing. A list is a `View` and no code here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from ledger.call import Call
from ledger.clock import Clock
from ledger.errors import InvalidParameter, Unavailable
from ledger.ids import id_time
from ledger.postgres.connections import first_line

DAY_SECONDS = 86_400
EVENT_LIFE_SECONDS = 30 * DAY_SECONDS
END_OF_TIME = 2**62
LIST_POLL_SECONDS = 0.003
LIST_POLL_SECONDS_MAX = 0.05

# One statement, one snapshot: what the checkpoint tells to be applied is in the page. Between the first
# two comes the view's `reached`.
_HEAD = "SELECT standing.*, page.* FROM (SELECT h.position AS head, "
_STANDING = """
 AS checkpoint, c.shape, EXISTS (SELECT FROM projections.parked p
                                WHERE p.projection = c.projection AND p.generation = c.generation)
                            AS incomplete
    FROM ledger.head h, projections.live l
    JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
    WHERE l.projection = %(projection)s
) AS standing LEFT JOIN (
"""
_OF_PAGE = ") AS page ON true\n"
_PROGRESS = """
FROM projections.live l
JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
WHERE l.projection = %(projection)s
"""

_CREATED = {
    "eq": "AND created = %(eq)s",
    "gt": "AND created > %(gt)s",
    "gte": "AND created >= %(gte)s",
    "lt": "AND created < %(lt)s",
    "lte": "AND created <= %(lte)s",
}
_KEYS = {True: "(created, position, ordinal)", False: "(created, position)"}
_CURSORS = {True: "(%(created)s, %(position)s, %(ordinal)s)", False: "(%(created)s, %(position)s)"}
_ORDERS = {
    (True, False): "ORDER BY created DESC, position DESC, ordinal DESC",
    (True, True): "ORDER BY created, position, ordinal",
    (False, False): "ORDER BY created DESC, position DESC",
    (False, True): "ORDER BY created, position",
}


class Standing(NamedTuple):
    """Where a projection stood against the log when a page was read; `behind` after waiting for it."""

    head: int
    checkpoint: int
    shape: int
    incomplete: bool
    behind: int = 0


class Found(NamedTuple):
    """An answer. For a list, `behind` is how many events its projection had not applied when the wait was
    over, and `incomplete` whether it leaves streams out."""

    body: Mapping[str, Any]
    behind: int = 0
    incomplete: bool = False


class Page(NamedTuple):
    """Rows newest first, and whether there are more in the direction travelled."""

    standing: Standing
    rows: list[TupleRow]
    has_more: bool


@dataclass(frozen=True, slots=True, eq=False)
class View:
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
    place: str
    filters: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, int] = field(default_factory=dict)
    by_ordinal: bool = False
    by_day: bool = False
    told: str | None = None
    reached: str = "c.position"


class Pages:
    """Pages for one process. `wait_ms` bounds how long one waits for its projection."""

    def __init__(
        self, pool: AsyncConnectionPool[AsyncConnection[TupleRow]], clock: Clock, *, wait_ms: int
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._wait_seconds = wait_ms / 1000

    async def page(self, call: Call, view: View, filters: Mapping[str, Any] | None = None) -> Page:
        """The page that the call's `limit`, `created` and cursors ask for, by `filters`: those of the
        view's that the call has parameters for, unless they are given. Raises InvalidParameter."""
        given = call.parameters
        if filters is None:
            filters = {name: given[name] for name in view.filters if name in given}
        filters = {**filters, **given.get("created", {})}
        after, before = given.get("starting_after"), given.get("ending_before")
        parameters = self._scope(call) | filters | {"limit": given["limit"] + 1}
        deadline = self._deadline()
        place = None
        for param, cursor in (("starting_after", after), ("ending_before", before)):
            if cursor is not None:
                place = await self._place(view, param, parameters | {"cursor": cursor}, deadline)
        if after is not None and before is not None:
            raise InvalidParameter(
                "Received both starting_after and ending_before parameters. Please pass in only one."
            )
        if place is not None:
            parameters |= dict(zip(("created", "position", "ordinal"), place, strict=False))
        older = None if place is None else before is None
        query = _page_query(view, tuple(filters), older)
        rows: list[TupleRow] = []
        shape = max((view.shapes.get(name, 1) for name in filters), default=1)
        if view.by_day:
            standing, rows = await self._rows(view, query, self._around(parameters, place, older), deadline)
        if len(rows) <= given["limit"]:
            standing, rows = await self._rows(view, query, parameters, deadline)
        if standing.shape < shape:
            raise Unavailable(f"the projection {view.projection} is not built with all of these filters yet")
        has_more = len(rows) > given["limit"]
        rows = rows[: given["limit"]]
        return Page(standing, rows if before is None else rows[::-1], has_more)

    async def first(self, call: Call, view: View, filters: Mapping[str, Any]) -> TupleRow | None:
        """The newest row of the caller's that the filters leave, None when there is none."""
        query = _page_query(view, tuple(filters), None)
        _, rows = await self._rows(
            view, query, {**self._scope(call), **filters, "limit": 1}, self._deadline()
        )
        return rows[0] if rows else None

    async def one(self, call: Call, view: View, object_id: str) -> TupleRow | None:
        """The caller's row of that id, None when there is none. The view filters by `id`."""
        parameters = {**self._scope(call), "id": object_id, "limit": 1}
        query = _page_query(view, ("id",), None)
        return await self._row(view, query, parameters, object_id, self._deadline())

    def _deadline(self) -> float:
        """Until when, by the loop's clock, a request waits for its projection."""
        return asyncio.get_running_loop().time() + self._wait_seconds

    def _scope(self, call: Call) -> dict[str, Any]:
        """Whose objects, and for those with a term between which times, in unix seconds."""
        since = int(self._clock.now()) - EVENT_LIFE_SECONDS
        return {"account": call.account, "livemode": call.livemode, "since": since, "until": END_OF_TIME}

    async def _row(
        self, view: View, query: str, parameters: Mapping[str, Any], object_id: str, deadline: float
    ) -> TupleRow | None:
        """The row of one id, looked for where it must lie: near the moment that the id carries, or, when it
        was given by a caller and says nothing or something else, near that when it was told."""
        if not view.by_day:
            _, rows = await self._rows(view, query, parameters, deadline)
            return rows[0] if rows else None
        made = id_time(object_id)
        if made is not None:
            _, rows = await self._rows(view, query, _near(parameters, made), deadline)
            if rows:
                return rows[0]
        told = None if view.told is None else await self._told(view.told, object_id)
        if told is None or told <= parameters["since"]:
            return None
        _, rows = await self._rows(view, query, _near(parameters, told), deadline)
        return rows[0] if rows else None

    async def _told(self, query: str, object_id: str) -> float | None:
        try:
            rows = await self._fetch(query, {"id": object_id})
        except psycopg.OperationalError as error:
            raise Unavailable(first_line(error)) from error
        return rows[0][0] if rows else None

    def _around(
        self, parameters: dict[str, Any], place: TupleRow | None, older: bool | None
    ) -> dict[str, Any]:
        """`parameters` for the day where a page most likely lies whole, in one partition or two."""
        start = int(self._clock.now()) if place is None else place[0]
        if older is False:
            return {**parameters, "until": start + DAY_SECONDS}
        until = END_OF_TIME if place is None else start
        return {**parameters, "since": max(parameters["since"], start - DAY_SECONDS), "until": until}

    async def _place(
        self, view: View, param: str, parameters: Mapping[str, Any], deadline: float
    ) -> TupleRow:
        """Where the cursor's id stands in its collection. Raises InvalidParameter."""
        query = _HEAD + view.reached + _STANDING + view.place + _OF_PAGE
        row = await self._row(view, query, parameters, parameters["cursor"], deadline)
        if row is None:
            raise InvalidParameter(
                f"No such {view.noun}: '{parameters['cursor']}'", code="resource_missing", param=param
            )
        return row

    async def _rows(
        self, view: View, query: str, parameters: Mapping[str, Any], deadline: float
    ) -> tuple[Standing, list[TupleRow]]:
        """The projection's standing, and rows at least as new as that tells. However many looks a page
        takes, they wait for their projection until one `deadline`."""
        parameters = {**parameters, "projection": view.projection}
        try:
            standing, rows = await self._look(query, parameters)
            behind = 0
            if standing.checkpoint < standing.head:
                behind = await self._caught_up(view, parameters, standing.head, deadline)
                standing, rows = await self._look(query, parameters)
            return standing._replace(behind=behind), rows
        except psycopg.OperationalError as error:
            raise Unavailable(first_line(error)) from error

    async def _look(self, query: str, parameters: Mapping[str, Any]) -> tuple[Standing, list[TupleRow]]:
        try:
            rows = await self._fetch(query, parameters)
        except PoolTimeout:
            raise
        except psycopg.OperationalError:
            # After a restart of the database every pooled connection is dead, each one a failed list.
            await self._pool.check()
            rows = await self._fetch(query, parameters)
        if not rows:
            raise Unavailable(f"the projection {parameters['projection']} is not built yet")
        page = [row[4:] for row in rows]
        return Standing(*rows[0][:4]), page if page[0][0] is not None else []

    async def _fetch(self, query: str, parameters: Mapping[str, Any]) -> list[TupleRow]:
        async with self._pool.connection() as conn:
            return await (await conn.cursor(binary=True).execute(query.encode(), parameters)).fetchall()

    async def _caught_up(self, view: View, parameters: Mapping[str, Any], head: int, deadline: float) -> int:
        """Wait until the projection has applied the log up to `head`, or until `deadline`; what it then
        lacks of it, in events. Holds no connection between looks: with eight of these waiting for a stuck
        projection the pool would be empty, for all that reads."""
        loop = asyncio.get_running_loop()
        pause = LIST_POLL_SECONDS
        query = ("SELECT " + view.reached + _PROGRESS).encode()
        while True:
            async with self._pool.connection() as conn:
                row = await (await conn.execute(query, parameters)).fetchone()
            behind = head - (row[0] if row is not None else 0)
            if behind <= 0 or loop.time() >= deadline:
                return max(behind, 0)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LIST_POLL_SECONDS_MAX)


def _near(parameters: Mapping[str, Any], moment: float) -> dict[str, Any]:
    """`parameters` for what was made at `moment`: one or two partitions in place of all."""
    made = int(moment)
    return {**parameters, "since": max(parameters["since"], made - 2), "until": made + 1}


def listed(view: View, data: list[Any], page: Page) -> Found:
    """The list object that answers with `data`, made of the page's rows."""
    body = {"object": "list", "data": data, "has_more": page.has_more, "url": view.url}
    return Found(body, page.standing.behind, page.standing.incomplete)


@lru_cache(maxsize=1024)
def _page_query(view: View, filters: Sequence[str], older: bool | None) -> str:
    """The view's SELECT with the texts of the filters given, the cursor's side, and the order."""
    conditions = {**_CREATED, **view.filters}
    parts = [_HEAD + view.reached + _STANDING, view.select, *(conditions[name] for name in filters)]
    if older is not None:
        side = "<" if older else ">"
        parts.append(f"AND {_KEYS[view.by_ordinal]} {side} {_CURSORS[view.by_ordinal]}")
    order = _ORDERS[view.by_ordinal, older is False]
    return "\n".join([*parts, order, "LIMIT %(limit)s", _OF_PAGE, order])
