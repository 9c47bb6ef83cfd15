"""Times as /v2 shows and takes them (RFC 3339, in UTC): `2026-11-28T16:32:09.000Z`."""

from __future__ import annotations

import re
from calendar import monthrange, timegm
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ledger.errors import InvalidParameter
from ledger.wire.parameters import Hash
from ledger.wire.scalars import Parameter, Parser, abbreviate

_DAY_SECONDS = 86_400
_DAYS_BEFORE_EPOCH = 719_468  # from 1 March of the year 0, with which a cycle of 400 years begins
_CYCLE_DAYS = 146_097
_match_time = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(\.\d{1,9})?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
).fullmatch


def format_time(at: int) -> str:
    """The time `at` (unix seconds), with milliseconds, as Stripe has it."""
    days, seconds = divmod(at, _DAY_SECONDS)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{_format_day(days)}T{hour:02}:{minute:02}:{second:02}.000Z"


@lru_cache(maxsize=64)
def _format_day(days: int) -> str:
    """The date that is `days` after 1 January 1970, in the Gregorian calendar: years begin in March, so that
    the leap day is a year's last."""
    cycle, day_of_cycle = divmod(days + _DAYS_BEFORE_EPOCH, _CYCLE_DAYS)
    year_of_cycle = (
        day_of_cycle - day_of_cycle // 1460 + day_of_cycle // 36_524 - day_of_cycle // 146_096
    ) // 365
    day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle // 4 - year_of_cycle // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_from_march + 2) // 5 + 1
    month = month_from_march + 3 if month_from_march < 10 else month_from_march - 9
    return f"{cycle * 400 + year_of_cycle + (month <= 2):04}-{month:02}-{day:02}"


def parse_time(text: str) -> tuple[int, bool] | None:
    """The whole unix seconds of a time, and whether it has a fraction of a second beyond them; None for a
    text that is no time."""
    found = _match_time(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    fraction, sign, offset_hours, offset_minutes = found.groups()[6:]
    if not (year and 1 <= month <= 12 and 1 <= day <= monthrange(year, month)[1]):
        return None
    if hour > 23 or minute > 59 or second > 59:
        return None
    at = timegm((year, month, day, hour, minute, second))
    if sign is not None:
        if int(offset_hours) > 23 or int(offset_minutes) > 59:
            return None
        offset = int(offset_hours) * 3600 + int(offset_minutes) * 60
        at += -offset if sign == "+" else offset
    return at, fraction is not None and fraction.strip(".0") != ""


@dataclass(frozen=True, kw_only=True)
class Bound(Parameter):
    """A time as a bound on whole seconds. `round_up`: of a time within a second, the next one is meant."""

    round_up: bool

    def compile(self, name: str) -> Parser:
        round_up = self.round_up

        def parse(raw: Any) -> int:
            parsed = parse_time(raw) if type(raw) is str else None
            if parsed is None:
                raise InvalidParameter(
                    f"Invalid {name}: {abbreviate(raw)} is no time of RFC 3339, such as 2026-11-28T16:32:09Z",
                    param=name,
                )
            at, has_fraction = parsed
            return at + (round_up and has_fraction)

        return parse

    def value_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}


def make_time_filter(description: str) -> Hash:
    """A filter on times that are whole seconds, by bounds in RFC 3339: a dict of unix seconds by operator, as
    `TimestampFilter` makes it."""
    bounds = {"gt": False, "gte": True, "lt": True, "lte": False}
    members: dict[str, Parameter] = {
        operator: Bound(round_up=round_up) for operator, round_up in bounds.items()
    }
    return Hash(members, description=description)
