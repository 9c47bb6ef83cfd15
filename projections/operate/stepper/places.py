"""Where a step stands in the log: the event asked for, and its neighbours that the projection follows.

Neighbours in the log are looked for within a bounded range of positions, because the log has no index by
type; those of one object along its stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ledger.errors import InvalidParameter, UnknownObject
from ledger.postgres.connections import Conn, fetch_one

SEARCH_POSITIONS_MAX = 100_000
"""So far from a position its neighbours are looked for. Postgres reads them in about 50 ms."""

_NEXT = """
SELECT notification_id FROM ledger.events
WHERE notification_id > %(position)s AND notification_id <= %(bound)s AND topic <> ALL (%(ignored)s::text[])
ORDER BY notification_id LIMIT 1
"""
_PREVIOUS = """
SELECT notification_id FROM ledger.events
WHERE notification_id < %(position)s AND notification_id >= %(bound)s AND topic <> ALL (%(ignored)s::text[])
ORDER BY notification_id DESC LIMIT 1
"""
_NEXT_OF_STREAM = """
SELECT notification_id FROM ledger.events
WHERE originator_id = %(stream)s AND notification_id > %(position)s AND topic <> ALL (%(ignored)s::text[])
ORDER BY originator_version LIMIT 1
"""
_PREVIOUS_OF_STREAM = """
SELECT notification_id FROM ledger.events
WHERE originator_id = %(stream)s AND notification_id < %(position)s AND topic <> ALL (%(ignored)s::text[])
ORDER BY originator_version DESC LIMIT 1
"""
_STREAM_EXISTS = "SELECT FROM ledger.events WHERE originator_id = %(stream)s AND originator_version = 1"
_HEAD = "SELECT position FROM ledger.head"


class StepQuery(NamedTuple):
    """Which event: the one at `position`, or the next one after or before a position; by default the last.
    `stream`: only events of this object."""

    position: int | None = None
    after: int | None = None
    before: int | None = None
    stream: str | None = None

    def check(self) -> None:
        """Raises InvalidParameter for two places at once."""
        given = [name for name in ("position", "after", "before") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InvalidParameter(f"Give {given[0]} or {given[1]}, not both.", param=given[1])


class Place(NamedTuple):
    """Where a step stands.

    position        None: there is none in the range that was searched
    next, previous  the neighbours that the projection follows; None: none in the range
    first, last     the range of positions that was searched for them
    """

    head: int
    position: int | None
    next: int | None
    previous: int | None
    first: int
    last: int


async def find_place(conn: Conn, query: StepQuery, ignored_topics: Sequence[str]) -> Place:
    """Where the step stands. Raises InvalidParameter, UnknownObject for a stream without events,
    psycopg.Error."""
    query.check()
    row = await fetch_one(conn, _HEAD)
    assert row is not None
    finder = _Finder(conn, ignored_topics, query.stream, int(row[0]))
    if query.stream is not None and await fetch_one(conn, _STREAM_EXISTS, {"stream": query.stream}) is None:
        raise UnknownObject("object", query.stream, param="stream")
    position: int | None
    if query.position is not None:
        if query.position > finder.head:
            raise InvalidParameter(
                f"Position {query.position} is in the future: the last one is {finder.head}.",
                param="position",
            )
        position, start = query.position, query.position
    elif query.after is not None:
        position, start = await finder.find_next(query.after), query.after
    else:
        start = finder.head + 1 if query.before is None else query.before
        position = await finder.find_previous(start)
    if position is not None:
        start = position
    has_no_next = position is None and query.after is not None
    following = None if has_no_next else await finder.find_next(start)
    has_no_previous = position is None and query.after is None
    preceding = None if has_no_previous else await finder.find_previous(start)
    return Place(finder.head, position, following, preceding, *finder.get_range(start))


class _Finder:
    """Finds neighbours in one log, or in one stream of it."""

    def __init__(self, conn: Conn, ignored_topics: Sequence[str], stream: str | None, head: int) -> None:
        self._conn = conn
        self._ignored_topics = list(ignored_topics)
        self._stream = stream
        self.head = head

    async def find_next(self, position: int) -> int | None:
        query = _NEXT if self._stream is None else _NEXT_OF_STREAM
        return await self._find(query, position, position + SEARCH_POSITIONS_MAX)

    async def find_previous(self, position: int) -> int | None:
        query = _PREVIOUS if self._stream is None else _PREVIOUS_OF_STREAM
        return await self._find(query, position, position - SEARCH_POSITIONS_MAX)

    def get_range(self, position: int) -> tuple[int, int]:
        """The first and the last position that neighbours of this one are looked for at."""
        reach = self.head if self._stream is not None else SEARCH_POSITIONS_MAX
        return max(1, position - reach), min(self.head, position + reach)

    async def _find(self, query: str, position: int, bound: int) -> int | None:
        parameters = {
            "position": position,
            "bound": bound,
            "stream": self._stream,
            "ignored": self._ignored_topics,
        }
        row = await fetch_one(self._conn, query, parameters)
        return None if row is None else int(row[0])
