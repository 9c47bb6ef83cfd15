"""Bounds of the journal: what callers write as moments, times and positions, as positions of the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ledger.audit.moments import Moment, find_moment, parse_time_span
from ledger.clock import Clock
from ledger.errors import InvalidParameter
from ledger.postgres.connections import Conn
from ledger.store.positions import find_last_position

COMPARISONS = ("gt", "gte", "lt", "lte")
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


async def find_range(conn: Conn, clock: Clock, bounds: Bounds) -> Range:
    """The positions that the bounds allow. Raises InvalidParameter, which names the parameter."""
    as_of = await find_moment(conn, clock, bounds.at)
    after, upto = 0, as_of.position
    begin = Moment(0, 0.0)
    if bounds.begin is not None:
        begin = await find_moment(conn, clock, bounds.begin, param="from")
        is_position = _is_position(bounds.begin)
        after = begin.position - 1 if is_position else await _find_bound(conn, "from", "gte", bounds.begin)
    if bounds.end is not None:
        end = await find_moment(conn, clock, bounds.end, param="to")
        if bounds.begin is not None and _is_before(end, bounds.end, begin, bounds.begin, after):
            raise InvalidParameter("The moment `to` is before the moment `from`.", param="to")
        upto = min(upto, end.position)
    for comparison, text in bounds.time.items():
        position = await _find_bound(conn, f"time[{comparison}]", comparison, text)
        after, upto = _narrow(after, upto, comparison, position)
    for comparison, position in bounds.position.items():
        excludes = comparison in ("gte", "lt")
        after, upto = _narrow(after, upto, comparison, position - excludes)
    return Range(max(after, 0), upto, as_of)


def _is_position(text: str) -> bool:
    return text.startswith(_POSITION_PREFIX)


def _is_before(end: Moment, end_text: str, begin: Moment, begin_text: str, after: int) -> bool:
    """Whether the moment `end` is before the moment `begin`, which begins after the position `after`."""
    if not _is_position(end_text) and not _is_position(begin_text):
        return end.time < begin.time
    return end.position < (begin.position if _is_position(begin_text) else after)


async def _find_bound(conn: Conn, param: str, comparison: str, text: str) -> int:
    """The last position before the time `text`, or the last one in it, whichever the comparison asks for."""
    start, end = parse_time_span(text, param=param)
    return await find_last_position(conn, end if comparison in ("gt", "lte") else start)


def _narrow(after: int, upto: int, comparison: str, position: int) -> tuple[int, int]:
    """The range without what is up to `position`, or without what is after it."""
    if comparison.startswith("gt"):
        return max(after, position), upto
    return after, min(upto, position)
