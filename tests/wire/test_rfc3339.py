"""Times of /v2, compared with Python's own calendar (contract §10.3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidParameter
from ledger.wire.rfc3339 import format_time, make_time_filter, parse_time

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.integers(-62_135_000_000, 253_402_000_000), st.integers(-1439, 1439))
def test_times_are_formatted_and_parsed_as_the_calendar_has_them(at: int, minutes: int) -> None:
    time = EPOCH + timedelta(seconds=at)
    assert format_time(at) == time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert parse_time(format_time(at)) == (at, False)
    sign = "-" if minutes < 0 else "+"
    offset = f"{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    local = time.isoformat().replace("T", "t").removesuffix("+00:00")
    assert parse_time(f"{local}.5{offset}") == (at - minutes * 60, True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1795000000",
        "2026-11-28",
        "2026-11-28T16:32:09",
        "2026-11-28 16:32:09Z",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-11-28T24:00:00Z",
        "2026-11-28T16:60:00Z",
        "2026-11-28T16:32:60Z",
        "2026-11-28T16:32:09.Z",
        "2026-11-28T16:32:09+24:00",
        "2026-11-28T16:32:09+01:60",
        "2026-11-28T16:32:09+0100",
        "\uff12026-11-28T16:32:09Z",
        " 2026-11-28T16:32:09Z",
    ],
)
def test_what_is_no_time_of_rfc_3339_is_refused_by_its_name(text: str) -> None:
    assert parse_time(text) is None
    with pytest.raises(InvalidParameter, match="no time of RFC 3339") as refused:
        make_time_filter("").compile("created")({"gte": text})
    assert refused.value.param == "created[gte]"


def test_bounds_within_a_second_select_the_same_whole_seconds() -> None:
    parse = make_time_filter("").compile("created")
    exact, within = "2026-11-28T16:32:09Z", "2026-11-28T16:32:09.001Z"
    at = 1795883529
    assert parse(dict.fromkeys(("gt", "gte", "lt", "lte"), exact)) == dict.fromkeys(
        ("gt", "gte", "lt", "lte"), at
    )
    assert parse(dict.fromkeys(("gt", "gte", "lt", "lte"), within)) == {
        "gt": at, "gte": at + 1, "lt": at + 1, "lte": at
    }  # fmt: skip
