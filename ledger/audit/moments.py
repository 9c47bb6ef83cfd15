"""Moments of the past: what callers write, and the position of the log that it means.

A moment is a unix time, an ISO 8601 time or `position:N`. A time without a fraction of a second means the end
of that second, because public objects show whole seconds: the moment of an object's `created` has the object.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from ledger.clock import Clock
from ledger.errors import InvalidParameter
from ledger.postgres.connections import Conn, fetch_one

TIME_MAX = 32_503_680_000  # the year 3000
POSITION_MAX = 2**63 - 1

_POSITION = re.compile(r"position:([0-9]{1,19})")
_UNIX_TIME = re.compile(r"[0-9]{1,11}(\.[0-9]{1,9})?")

# Positions have no holes and recorded_at never decreases with them: the search halves a range of positions
# until one is left, and reads one row of the log in each step.
_LAST_POSITION_BEFORE = """
WITH RECURSIVE search (low, high) AS (
    SELECT 0::bigint, h.position FROM ledger.head h
    UNION ALL
    SELECT CASE WHEN e.recorded_at < %(until)s THEN middle.position ELSE low END,
           CASE WHEN e.recorded_at < %(until)s THEN high ELSE middle.position - 1 END
    FROM search
    CROSS JOIN LATERAL (SELECT (low + high + 1) / 2 AS position) middle
    CROSS JOIN LATERAL (SELECT recorded_at FROM ledger.events WHERE notification_id = middle.position) e
    WHERE low < high
)
SELECT low FROM search WHERE low = high
"""
_HEAD = "SELECT position FROM ledger.head"
_RECORDED_AT = """
SELECT extract(epoch FROM recorded_at)::float8 FROM ledger.events WHERE notification_id = %(position)s
"""


class Moment(NamedTuple):
    """A moment as the log knows it: the state after the event at `position`, and its time.

    position  0: before the first event
    time      unix seconds: the time that was asked for, or when the event at `position` was recorded
    """

    position: int
    time: float


async def find_moment(conn: Conn, clock: Clock, text: str | None, *, param: str = "at") -> Moment:
    """The moment that `text` means; now for None. Raises InvalidParameter, which names `param`, for one that
    cannot be understood, and for one in the future."""
    if text is None:
        position = await _fetch_head(conn)
        return Moment(position, clock.now())
    if match := _POSITION.fullmatch(text):
        position, head = int(match[1]), await _fetch_head(conn)
        if position > head:
            raise InvalidParameter(
                f"Position {position} is in the future: the last one is {head}.", param=param
            )
        return Moment(position, await _fetch_recorded_at(conn, position))
    at, until = _parse_time(text, param)
    if at > clock.now():
        raise InvalidParameter(f"The time '{text}' is in the future.", param=param)
    return Moment(await find_last_position(conn, until), at)


async def find_last_position(conn: Conn, until: datetime) -> int:
    """The last position recorded before `until`; 0 when there is none."""
    row = await fetch_one(conn, _LAST_POSITION_BEFORE, {"until": until})
    assert row is not None, "positions have no holes"
    return int(row[0])


def format_time(at: float) -> str:
    """Unix seconds in ISO 8601, in UTC: `2026-11-27T21:35:58Z`, with a fraction if there is one."""
    return datetime.fromtimestamp(at, UTC).isoformat().removesuffix("+00:00") + "Z"


def parse_time_span(text: str, *, param: str) -> tuple[datetime, datetime]:
    """The time that `text` means and the first instant after it, in UTC. Raises InvalidParameter."""
    at, until = _parse_time(text, param)
    return datetime.fromtimestamp(at, UTC), until


def parse_time(text: str, *, param: str) -> datetime:
    """The first instant after the time that `text` means, in UTC. Raises InvalidParameter."""
    return _parse_time(text, param)[1]


def _parse_time(text: str, param: str) -> tuple[float, datetime]:
    """A time in unix seconds, and the first instant after it. Raises InvalidParameter."""
    if match := _UNIX_TIME.fullmatch(text):
        at, is_whole = float(text), match[1] is None
    else:
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError:
            raise _malformed_error(text, param) from None
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=UTC)
        at, is_whole = parsed.timestamp(), parsed.microsecond == 0 and "." not in text
    if not 0 <= at <= TIME_MAX:
        raise _malformed_error(text, param)
    return at, datetime.fromtimestamp(at + (1 if is_whole else 0.000_001), UTC)


def _malformed_error(text: str, param: str) -> InvalidParameter:
    return InvalidParameter(
        f"Invalid moment: '{text}' is neither a unix time, nor an ISO 8601 time, nor position:N.", param=param
    )


async def _fetch_head(conn: Conn) -> int:
    row = await fetch_one(conn, _HEAD)
    assert row is not None
    return int(row[0])


async def _fetch_recorded_at(conn: Conn, position: int) -> float:
    if not position:
        return 0.0
    row = await fetch_one(conn, _RECORDED_AT, {"position": position})
    assert row is not None, "positions have no holes"
    return float(row[0])
