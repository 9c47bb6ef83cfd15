"""Moments of the past: what callers write, and the position of the log that it means.

A moment is a unix time, an ISO 8601 time or `position:N`. A time without a fraction of a second means the end
of that second, because public objects show whole seconds: the moment of an object's `created` has the object.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ledger.clock import Clock
from ledger.errors import InvalidParameter
from ledger.postgres.connections import Conn, fetch_one
from ledger.store.positions import find_last_position

TIME_MAX = 32_503_680_000  # the year 3000
POSITION_MAX = 2**63 - 1

_POSITION = re.compile(r"position:([0-9]{1,19})")
_UNIX_TIME = re.compile(r"[0-9]{1,11}(\.[0-9]{1,9})?")
# datetime.fromisoformat takes any character between date and time, and ignores what follows a NUL.
_ISO_TIME = re.compile(r"[-0-9W]+([T ][0-9:.,]+(Z|[-+ ][0-9:]+)?)?")
_SPACE_BEFORE_OFFSET = re.compile(r" (?=[0-9]{2}(:?[0-9]{2})?$)")

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

    def to_json(self) -> dict[str, Any]:
        """What every answer says about its moment: the position, and the time in ISO 8601."""
        return {"position": self.position, "time": format_time(self.time)}


class MomentQuery(NamedTuple):
    """What a caller wrote, before the log is read.

    position  the position that was asked for
    at        the time that was asked for, in unix seconds; now, if neither was
    until     the first instant after `at`; None for now and for a position
    """

    position: int | None
    at: float
    until: datetime | None

    def check(self, head: int, *, param: str) -> None:
        """Check that the position is not behind `head`, the last one. Raises InvalidParameter."""
        if self.position is not None and self.position > head:
            raise InvalidParameter(
                f"Position {self.position} is in the future: the last one is {head}.", param=param
            )


def parse_moment(clock: Clock, text: str | None, *, param: str = "at") -> MomentQuery:
    """The moment that `text` asks for; now for None. Raises InvalidParameter, which names `param`, for one
    that cannot be understood, and for a time in the future."""
    if text is None:
        return MomentQuery(None, clock.now(), None)
    if match := _POSITION.fullmatch(text):
        return MomentQuery(min(int(match[1]), POSITION_MAX), 0.0, None)
    try:
        at, until = _parse_time(text)
    except ValueError:
        raise InvalidParameter(
            f"Invalid moment: '{text[:80]}' is neither a unix time, nor an ISO 8601 time, nor position:N.",
            param=param,
        ) from None
    if at > clock.now():
        raise InvalidParameter(f"The time '{text}' is in the future.", param=param)
    return MomentQuery(None, at, until)


async def find_moment(conn: Conn, clock: Clock, text: str | None, *, param: str = "at") -> Moment:
    """The moment that `text` means; now for None. Raises InvalidParameter, which names `param`, for one that
    cannot be understood, and for one in the future."""
    query = parse_moment(clock, text, param=param)
    if query.until is not None:
        return Moment(await find_last_position(conn, query.until), query.at)
    head = await _fetch_head(conn)
    if query.position is None:
        return Moment(head, query.at)
    query.check(head, param=param)
    return Moment(query.position, await _fetch_recorded_at(conn, query.position))


def parse_time_span(text: str, *, param: str) -> tuple[datetime, datetime]:
    """The time that `text` means and the first instant after it, in UTC. Raises InvalidParameter."""
    try:
        at, until = _parse_time(text)
    except ValueError:
        raise InvalidParameter(
            f"Invalid time: '{text[:80]}' is neither a unix time nor an ISO 8601 time.", param=param
        ) from None
    return datetime.fromtimestamp(at, UTC), until


def format_time(at: float) -> str:
    """Unix seconds in ISO 8601, in UTC: `2026-11-27T21:35:58Z`, with a fraction if there is one."""
    return datetime.fromtimestamp(at, UTC).isoformat().removesuffix("+00:00") + "Z"


def _parse_time(text: str) -> tuple[float, datetime]:
    """A time in unix seconds, and the first instant after it. Raises ValueError."""
    if match := _UNIX_TIME.fullmatch(text):
        at, is_whole = float(text), match[1] is None
    else:
        parsed = _parse_iso(text)
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=UTC)
        at, is_whole = parsed.timestamp(), "." not in text and "," not in text
    if not 0 <= at <= TIME_MAX:
        raise ValueError(text)
    return at, datetime.fromtimestamp(at + (1 if is_whole else 0.000_001), UTC)


def _parse_iso(text: str) -> datetime:
    """An ISO 8601 time. In a query string that is not encoded, the plus sign of an offset arrives as a space.
    Raises ValueError."""
    if not _ISO_TIME.fullmatch(text):
        raise ValueError(text)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromisoformat(_SPACE_BEFORE_OFFSET.sub("+", text))


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
