"""A page of a search of the log: exact, whatever state the audit index is in, and bounded.

The index answers for the positions up to its checkpoint. The events after it, and those of parked streams,
are read in the log itself; without an index, all of them. Everything is read in one snapshot. Searches by
object, customer, charge or payment intent do not use the audit index: the log has indexes for them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from ledger.audit.auditor import Auditor
from ledger.audit.moments import Moment, format_time
from ledger.audit.search import scans
from ledger.audit.search.entries import LogEntry, fetch_entries
from ledger.audit.search.filters import LogFilters, PositionRange
from ledger.audit.search.scans import Found
from ledger.postgres.connections import Conn, fetch_one
from ledger.queries.context import QueryContext
from ledger.wire.json_values import Json, make_list_object

URL = "/internal/v1/audit/log"
LIMIT_MAX = 100
# Met in one scan. Of 5,000 whose pages Postgres had to read first, some took 19 ms; usually 3,000 take 2 ms.
EXAMINED_MAX = 3000
# Each parked stream costs a look-up. When there are more, the log is read from the first of them on.
PARKED_STREAMS_MAX = 100

_SET_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
# The index has no row 0, but looking for it locks the tables: none is dropped before the search has ended.
_SELECT_PROGRESS = """
SELECT h.position, coalesce(c.position, 0), parked.streams, parked.first,
       EXISTS (SELECT FROM projections.audit_keys i WHERE i.generation = l.generation AND i.id = 0)
FROM ledger.head h
LEFT JOIN (projections.live l JOIN projections.checkpoints c
           ON c.projection = l.projection AND c.generation = l.generation)
    ON l.projection = 'audit_keys'
LEFT JOIN LATERAL (SELECT count(*) AS streams, min(p.position) AS first FROM projections.parked p
                   WHERE p.projection = l.projection AND p.generation = l.generation) AS parked ON true
"""


class IndexProgress(NamedTuple):
    """How far the audit index can be used.

    head        the last position of the log
    checkpoint  the last position that it answers for; 0 without an index
    has_parked  whether events of parked streams are missing from it
    """

    head: int
    checkpoint: int
    has_parked: bool


@dataclass(frozen=True)
class LogPage:
    """The entries of a page, and after which position the next page begins; None after the last one."""

    entries: list[LogEntry]
    next_position: int | None
    as_of: Moment

    def to_json(self) -> Json:
        """The page as a list object. `next_position` is null on the last page."""
        return {
            **make_list_object(
                [entry.to_json() for entry in self.entries], URL, has_more=self.next_position is not None
            ),
            "next_position": self.next_position,
            "as_of": {"position": self.as_of.position, "time": format_time(self.as_of.time)},
        }


async def search_log(
    context: QueryContext,
    auditor: Auditor,
    filters: LogFilters,
    *,
    limit: int = 10,
    starting_after: int | None = None,
    descending: bool = True,
    examined_max: int = EXAMINED_MAX,
) -> LogPage:
    """A page of the auditor's events that satisfy `filters`, in the order of the log or `descending`.

    starting_after  a position: the page begins after it

    Raises InvalidParameter, Unavailable.
    """
    filters.to_parameters()  # refuses unknown types before anything is read

    async def run(conn: Conn) -> LogPage:
        async with open_snapshot(conn) as progress:
            now = context.store.clock.now()
            searched = await filters.find_range(conn, context.store.codec, progress.head, now)
            if starting_after is not None and descending:
                searched = searched._replace(upto=min(searched.upto, starting_after - 1))
            elif starting_after is not None:
                searched = searched._replace(after=max(searched.after, starting_after))
            search = _Search(conn, auditor, filters, progress, limit, examined_max, descending)
            positions, next_position = await search.run(searched)
            entries = await fetch_entries(conn, context.store.codec, positions)
            return LogPage(entries, next_position, Moment(progress.head, now))

    return await context.reads.run_idempotent(run)


async def find_positions(
    context: QueryContext,
    auditor: Auditor,
    filters: LogFilters,
    searched: PositionRange,
    *,
    limit: int,
    examined_max: int = EXAMINED_MAX,
) -> Found:
    """The next positions of the auditor's events in a range that satisfy the filters, oldest first, and after
    which position to go on; None after the last one. `time`, `position` and `event` are in the range already.

    Raises InvalidParameter, Unavailable.
    """

    async def run(conn: Conn) -> Found:
        async with open_snapshot(conn) as progress:
            search = _Search(conn, auditor, filters, progress, limit, examined_max, descending=False)
            return await search.run(searched)

    return await context.reads.run_idempotent(run)


@asynccontextmanager
async def open_snapshot(conn: Conn) -> AsyncIterator[IndexProgress]:
    """A read-only transaction in which all statements see the same log and the same index."""
    async with conn.transaction():
        await conn.execute(_SET_SNAPSHOT)
        row = await fetch_one(conn, _SELECT_PROGRESS)
        assert row is not None
        head, checkpoint, parked_streams, first_parked, _ = row
        if parked_streams > PARKED_STREAMS_MAX:
            checkpoint, parked_streams = first_parked - 1, 0
        yield IndexProgress(head, checkpoint, parked_streams > 0)


class _Search:
    """One search within one snapshot."""

    def __init__(
        self,
        conn: Conn,
        auditor: Auditor,
        filters: LogFilters,
        progress: IndexProgress,
        limit: int,
        examined_max: int,
        descending: bool,
    ) -> None:
        self._conn = conn
        self._progress = progress
        self._limit = limit
        self._descending = descending
        parameters = filters.to_parameters()
        self._names = frozenset(parameters)
        self._parameters = parameters | {
            "account": auditor.account,
            "livemode": auditor.livemode,
            "limit": limit + 1,
            "examined": examined_max,
        }
        self._parameters |= scans.derive_keys(self._parameters)

    async def run(self, searched: PositionRange) -> Found:
        """The positions of the page, and after which one the next page begins."""
        if searched.is_empty:
            return Found([], None)
        queries = scans.build_log_scans(self._names, descending=self._descending)
        if queries:
            found = [await self._scan(query, searched) for query in queries]
        else:
            found = await self._scan_index_and_tail(searched)
        return self._end_at(searched, scans.merge(found, self._limit, descending=self._descending))

    async def _scan_index_and_tail(self, searched: PositionRange) -> list[Found]:
        """Whichever comes first in the order asked for; the other only if the page needs it."""
        checkpoint = self._progress.checkpoint
        indexed = searched._replace(upto=min(searched.upto, checkpoint))
        tail = searched._replace(after=max(searched.after, checkpoint))
        found: list[Found] = []
        for part in (tail, indexed) if self._descending else (indexed, tail):
            if part.is_empty:
                continue
            found += await (self._scan_tail(part) if part is tail else self._scan_index(part))
            if any(each.end is not None for each in found):
                break
        return found

    async def _scan_tail(self, searched: PositionRange) -> list[Found]:
        query = scans.build_tail_scan(self._names, descending=self._descending)
        return [await self._scan(query, searched)]

    async def _scan_index(self, searched: PositionRange) -> list[Found]:
        queries = [scans.build_index_scan(self._names, descending=self._descending)]
        if self._progress.has_parked:
            queries.append(scans.build_parked_scan(self._names, descending=self._descending))
        return [await self._scan(query, searched) for query in queries]

    async def _scan(self, query: str, searched: PositionRange) -> Found:
        parameters: dict[str, Any] = self._parameters | searched._asdict()
        return await scans.scan(self._conn, query, parameters)

    def _end_at(self, searched: PositionRange, found: Found) -> Found:
        """The same; nothing follows the last position of the range."""
        last = searched.after + 1 if self._descending else searched.upto
        return found._replace(end=None) if found.end == last else found
