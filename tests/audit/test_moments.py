"""Moments of the past: what callers may write, and which position of the log it means."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.audit.moments import (
    POSITION_MAX,
    Moment,
    find_moment,
    format_time,
    parse_moment,
    parse_time_span,
)
from ledger.clock import Clock
from ledger.errors import InvalidParameter
from ledger.postgres.connections import open_connection
from ledger.store.positions import find_last_position

START = datetime(2026, 11, 27, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)
_INSERT = """
INSERT INTO ledger.events (notification_id, originator_id, originator_version, topic, state, account,
    livemode, recorded_at)
VALUES (%s, %s, 1, 'x', '', 'acct_1', false, %s)
"""
CLOCK = Clock(movable=False)


def fill_log(dsn: str, times: list[datetime]) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute("TRUNCATE ledger.events")
        rows = [(number, f"cus_{number}", at) for number, at in enumerate(times, 1)]
        conn.cursor().executemany(_INSERT, rows)


steps = st.lists(st.integers(0, 3), max_size=40)


@given(steps=steps, asked=st.integers(-2, 60))
@settings(max_examples=60)
def test_the_search_finds_the_last_position_before_a_time(dsn: str, steps: list[int], asked: int) -> None:
    times = [START + each * SECOND for each in itertools.accumulate(steps)]
    fill_log(dsn, times)
    until = START + asked * SECOND

    async def find() -> int:
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            return await find_last_position(conn, until)

    assert asyncio.run(find()) == sum(at < until for at in times)


def test_a_whole_second_includes_what_was_recorded_in_it(dsn: str) -> None:
    fill_log(dsn, [START, START + 0.25 * SECOND, START + SECOND - MICROSECOND, START + SECOND])
    seconds = int(START.timestamp())
    expected = {
        "2026-11-27T12:00:00Z": 3,
        "2026-11-27T12:00:00": 3,
        "2026-11-27 12:00": 3,
        "20261127T120000Z": 3,
        "2026-11-27T13:00:00+01:00": 3,
        "2026-11-27T13:00:00 01:00": 3,  # a plus sign that a query string made a space
        "2026-11-27T13:00:00 0100": 3,
        "2026-11-27T06:00:00-06:00": 3,
        "2026-11-27T12:00:00.0Z": 1,
        "2026-11-27T12:00:00.25Z": 2,
        "2026-11-27T12:00:00.249999": 1,
        "2026-11-27T11:59:59Z": 0,
        "2026-11-27": 0,
        str(seconds): 3,
        f"{seconds}.0": 1,
        f"{seconds}.25": 2,
        f"{seconds + 1}": 4,
        "0": 0,
        "position:0": 0,
        "position:2": 2,
        "position:0002": 2,
    }

    async def find() -> dict[str, Moment]:
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            clock = Clock(movable=False)
            return {text: await find_moment(conn, clock, text) for text in expected}

    found = asyncio.run(find())
    assert {text: moment.position for text, moment in found.items()} == expected
    assert found["position:2"].to_json() == {"position": 2, "time": "2026-11-27T12:00:00.250000Z"}
    assert found["position:0"].to_json() == {"position": 0, "time": "1970-01-01T00:00:00Z"}
    assert found["2026-11-27T13:00:00+01:00"].to_json()["time"] == "2026-11-27T12:00:00Z"


def test_now_and_positions_behind_the_head(dsn: str) -> None:
    fill_log(dsn, [START])

    async def ask(text: str | None) -> Moment:
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            return await find_moment(conn, CLOCK, text, param="to")

    assert asyncio.run(ask(None)).position == 1
    for text in ("position:2", f"position:{POSITION_MAX}", "position:" + "9" * 19):
        with pytest.raises(InvalidParameter, match="in the future: the last one is 1") as refusal:
            asyncio.run(ask(text))
        assert refusal.value.param == "to"


NO_MOMENTS = (
    "", " ", "now", "-1", "+5", "1e9", "0x10", "1.", ".5", "nan", "inf", "9" * 12, "32503680001",
    "1.0000000001", "position", "position:", "position:-1", "position:1.5", "position:" + "9" * 20,
    "position: 1", "Position:1", "2026-13-01", "2026-11-27T25:00:00", "2026-11-27T12:00:00+99:99",
    "1969-12-31T23:59:59Z", "3001-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00",
    "\u0661\u0662", "2026-11-27T12:00:00\0", "2026-11-27x12:00:00", "\ud800", "x" * 10_000,
)  # fmt: skip


@pytest.mark.parametrize("text", NO_MOMENTS)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="is neither a unix time, nor an ISO 8601 time") as refusal:
        parse_moment(CLOCK, text, param="from")
    assert refusal.value.param == "from"
    assert len(refusal.value.message) < 250


def test_a_time_in_the_future_is_refused() -> None:
    for text in (f"{CLOCK.now() + 2:.0f}", "2999-01-01T00:00:00Z"):
        with pytest.raises(InvalidParameter, match="in the future"):
            parse_moment(CLOCK, text)
    assert parse_moment(CLOCK, f"{CLOCK.now() - 0.01:.6f}").until is not None


@given(
    at=st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2999, 1, 1)),  # noqa: DTZ001
    offset=st.integers(-14 * 60, 14 * 60),
)
def test_a_time_means_the_same_in_every_form(at: datetime, offset: int) -> None:
    moment = at.replace(tzinfo=UTC, microsecond=0)
    local = moment.astimezone(timezone(timedelta(minutes=offset))).isoformat()
    texts = [local, local.replace("+", " "), str(int(moment.timestamp())), format_time(moment.timestamp())]
    for text in texts:
        assert parse_time_span(text, param="at")[1] == moment + SECOND, text
