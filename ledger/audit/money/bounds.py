"""Bounds of the journal: what callers write as moments, times and positions, as positions of the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ledger.audit.moments import Moment, find_moment, parse_time_span
from ledger.audit.search.filters import LogFilters
from ledger.clock import Clock
from ledger.errors import InvalidParameter
from ledger.postgres.connections import Conn
from ledger.store.codec import Codec

_POSITION_PREFIX = "position:"
_NO_BOUNDS: Mapping[str, str] = {}
_NO_POSITIONS: Mapping[str, int] = {}


class Bounds(NamedTuple):
    """What a caller asks for; all of it has to hold.

    at              the journal as it was at this moment
    begin, end      moments, both included; callers write them as `from` and `to`
    time, position  by comparison, such as `gte`
    """

    at: str | None = None
    begin: str | None = None
    end: str | None = None
    time: Mapping[str, str] = _NO_BOUNDS
    position: Mapping[str, int] = _NO_POSITIONS


class Range(NamedTuple):
    """The positions after `after` up to `upto`. `as_of`: the moment `at`."""

    after: int
    upto: int
    as_of: Moment


async def find_range(conn: Conn, clock: Clock, codec: Codec, bounds: Bounds) -> Range:
    """The positions that the bounds allow. Raises InvalidParameter, which names the parameter."""
    as_of = await find_moment(conn, clock, bounds.at)
    begin, end = Moment(0, 0.0), as_of
    if bounds.begin is not None:
        begin = await find_moment(conn, clock, bounds.begin, param="from")
    if bounds.end is not None:
        end = await find_moment(conn, clock, bounds.end, param="to")
    limits = LogFilters(time=bounds.time, position=bounds.position)
    after, upto = await limits.find_range(conn, codec, as_of.position, clock.now())
    if bounds.begin is not None:
        first = LogFilters(time={"gte": bounds.begin})
        if _is_position(bounds.begin):
            first = LogFilters(position={"gte": begin.position})
        since, _ = await first.find_range(conn, codec, as_of.position, clock.now())
        if bounds.end is not None and _is_before(end, bounds.end, begin, bounds.begin, since):
            raise InvalidParameter("The moment `to` is before the moment `from`.", param="to")
        after = max(after, since)
    return Range(max(after, 0), min(upto, end.position), as_of)


def _is_position(text: str) -> bool:
    return text.startswith(_POSITION_PREFIX)


def _is_before(end: Moment, end_text: str, begin: Moment, begin_text: str, since: int) -> bool:
    """Whether the moment `end` is before the moment `begin`, which begins after the position `since`."""
    if not _is_position(end_text) and not _is_position(begin_text):
        return parse_time_span(end_text, param="to")[1].timestamp() <= begin.time
    return end.position < (begin.position if _is_position(begin_text) else since)
