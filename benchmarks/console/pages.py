"""How long a page of each list takes that the console shows: the first one, and one in the middle of the list."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from benchmarks.console.ground import Ground
from benchmarks.load import Outcome, Request, get_generator_name, run_load
from benchmarks.measurement import Effort
from benchmarks.report import Figure, Goal, figure

PAGE = 100
SECONDS_MIN = 1.0
GOAL_MS = Goal(20, is_maximum=True)


class ListPage(NamedTuple):
    """A list of the API.

    table   that has its rows; without it the list is not measured
    path    up to the cursor
    middle  selects the cursor of a page in the middle, and how many rows there are; None: no such page
    """

    table: str
    path: str
    middle: str | None


_OF_BOARD = """
SELECT id, (SELECT count(*) FROM projections.dispute_board) FROM projections.dispute_board
WHERE {condition} ORDER BY {order} OFFSET (
    SELECT count(*) / 2 FROM projections.dispute_board WHERE {condition}) LIMIT 1
"""


def _find_dispute(condition: str = "true", order: str = "due_by") -> str:
    return _OF_BOARD.format(condition=condition, order=order)


LISTS: dict[str, ListPage] = {
    "disputes by due date": ListPage(
        "projections.dispute_board", "/internal/v1/disputes?order=due_by", _find_dispute()
    ),
    "disputes, newest": ListPage(
        "projections.dispute_board", "/internal/v1/disputes?order=created", _find_dispute(order="created")
    ),
    "disputes of one status": ListPage(
        "projections.dispute_board",
        "/internal/v1/disputes?status=lost",
        _find_dispute("status = 'lost'"),
    ),
    "disputes of one status and reason": ListPage(
        "projections.dispute_board",
        "/internal/v1/disputes?status=needs_response&reason=duplicate",
        _find_dispute("status = 'needs_response' AND reason = 'duplicate'"),
    ),
    "counts of disputes": ListPage("projections.dispute_board", "/internal/v1/disputes/summary?", None),
    "deliveries": ListPage(
        "webhooks.deliveries",
        "/internal/v1/webhooks/deliveries?",
        "SELECT id, (SELECT count(*) FROM webhooks.deliveries) FROM webhooks.deliveries "
        "ORDER BY id DESC OFFSET (SELECT count(*) / 2 FROM webhooks.deliveries) LIMIT 1",
    ),
    "failed deliveries": ListPage(
        "webhooks.deliveries", "/internal/v1/webhooks/deliveries?state=failed", None
    ),
    "requests": ListPage("request_log.requests", "/internal/v1/requests?", None),
    "customers": ListPage(
        "projections.customers",
        "/v1/customers?",
        "SELECT id, (SELECT count(*) FROM projections.customers) FROM projections.customers "
        "ORDER BY created DESC, position DESC OFFSET (SELECT count(*) / 2 FROM projections.customers) LIMIT 1",
    ),
    "events": ListPage(
        "projections.feed",
        "/v1/events?",
        "SELECT id, (SELECT count(*) FROM projections.feed) FROM projections.feed "
        "ORDER BY created DESC, position DESC OFFSET (SELECT count(*) / 2 FROM projections.feed) LIMIT 1",
    ),
    "audit log": ListPage(
        "ledger.events", "/internal/v1/audit/log?", "SELECT position / 2, position FROM ledger.head"
    ),
    "audit log, one kind": ListPage(
        "ledger.events",
        "/internal/v1/audit/log?type=dispute.opened",
        "SELECT position / 2, position FROM ledger.head",
    ),
}


def measure(ground: Ground, effort: Effort) -> list[Figure]:
    """The slowest of a hundred answers (p99), one after the other on one connection."""
    requests: dict[str, Request] = {}
    notes: dict[str, str] = {}
    for name, listed in LISTS.items():
        cursors = _find_cursors(ground, listed)
        for place, (cursor, rows) in cursors.items():
            path = f"{listed.path}{'' if listed.path.endswith(('?', 'summary?')) else '&'}"
            limit = "" if "summary" in path else f"limit={PAGE}"
            requests[f"{name}{place}"] = Request(
                ground.service.port, "GET", path + limit + cursor, ground.key
            )
            notes[f"{name}{place}"] = f"{rows:,} rows"
    outcomes: dict[str, list[Outcome]] = {}
    for _ in range(effort.rounds):
        for name, request in requests.items():
            seconds = max(SECONDS_MIN, effort.seconds)
            outcomes.setdefault(name, []).append(run_load(request, connections=1, seconds=seconds))
    return [_build_figure(name, each, notes[name]) for name, each in outcomes.items()]


def _find_cursors(ground: Ground, listed: ListPage) -> dict[str, tuple[str, int]]:
    """The cursor of each page that is measured, and how many rows the list's table has."""
    with ground.service.connect() as conn:
        found = conn.execute("SELECT to_regclass(%s) IS NOT NULL", (listed.table,)).fetchone()
        if found is None or not found[0]:
            return {}
        counted = conn.execute(f"SELECT count(*) FROM {listed.table}".encode()).fetchone() or (0,)
        pages = {"": ("", int(counted[0]))}
        if listed.middle is not None:
            row = conn.execute(listed.middle.encode()).fetchone()
            if row is not None:
                pages[", deep"] = (f"&starting_after={row[0]}", int(row[1]))
    return pages


def _build_figure(name: str, outcomes: Sequence[Outcome], rows: str) -> Figure:
    half = median(each.median_ms for each in outcomes)
    times = [each.p99_ms for each in outcomes]
    group = f"a page of {PAGE}, p99, one connection, load by {get_generator_name()}"
    return figure(group, name, times, "ms", goal=GOAL_MS, note=f"p50 {half:.1f} ms; {rows}")
