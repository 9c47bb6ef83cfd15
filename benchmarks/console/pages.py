"""How long a page of each list of the console takes: the first one, and one in the middle of the list."""

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
    middle  the order of its rows in SQL, perhaps after a condition; None: no page but the first is measured
    key     what a cursor names
    """

    table: str
    path: str
    middle: str | None = None
    key: str = "id"


BOARD, BOARD_PATH = "projections.dispute_board", "/internal/v1/disputes"
LISTS: dict[str, ListPage] = {
    "disputes by due date": ListPage(BOARD, f"{BOARD_PATH}?order=due_by", "ORDER BY due_by, position"),
    "disputes, newest": ListPage(BOARD, f"{BOARD_PATH}?order=created", "ORDER BY created DESC"),
    "disputes that were lost": ListPage(
        BOARD, f"{BOARD_PATH}?status=lost", "WHERE status = 'lost' ORDER BY due_by, position"
    ),
    "disputes of a status and reason": ListPage(
        BOARD,
        f"{BOARD_PATH}?status=lost&reason=duplicate",
        "WHERE status = 'lost' AND reason = 'duplicate' ORDER BY due_by, position",
    ),
    "counts of disputes": ListPage(BOARD, f"{BOARD_PATH}/summary"),
    "deliveries": ListPage("webhooks.deliveries", "/internal/v1/webhooks/deliveries?", "ORDER BY id DESC"),
    "failed deliveries": ListPage(
        "webhooks.deliveries",
        "/internal/v1/webhooks/deliveries?state=failed",
        "WHERE state = 'failed' ORDER BY id DESC",
    ),
    "requests": ListPage(
        "request_log.requests", "/internal/v1/requests?", "ORDER BY number DESC", key="request_id"
    ),
    "customers": ListPage("projections.customers", "/v1/customers?", "ORDER BY created DESC, position DESC"),
    "events": ListPage("projections.feed", "/v1/events?", "ORDER BY created DESC, position DESC"),
    "audit log": ListPage("ledger.events", "/internal/v1/audit/log?", "", key="notification_id"),
    "audit log, one kind": ListPage(
        "ledger.events", "/internal/v1/audit/log?type=dispute.opened", "", key="notification_id"
    ),
}


def measure(ground: Ground, effort: Effort) -> list[Figure]:
    """The slowest of a hundred answers (p99), one after the other on one connection."""
    requests: dict[str, Request] = {}
    notes: dict[str, str] = {}
    for name, listed in LISTS.items():
        for place, (path, rows) in _find_pages(ground, listed).items():
            requests[f"{name}{place}"] = Request(ground.service.port, "GET", path, ground.key)
            notes[f"{name}{place}"] = f"{rows:,} rows"
    outcomes: dict[str, list[Outcome]] = {}
    for _ in range(effort.rounds):
        for name, request in requests.items():
            seconds = max(SECONDS_MIN, effort.seconds)
            outcomes.setdefault(name, []).append(run_load(request, connections=1, seconds=seconds))
    return [_build_figure(name, each, notes[name]) for name, each in outcomes.items()]


def _find_pages(ground: Ground, listed: ListPage) -> dict[str, tuple[str, int]]:
    """The path of each page that is measured, and how many rows the list's table has."""
    table, middle = listed.table, listed.middle
    with ground.service.connect() as conn:
        found = conn.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchone()
        if found is None or not found[0]:
            return {}
        (rows,) = conn.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() or (0,)
        if "?" not in listed.path:
            return {"": (listed.path, rows)}
        first = f"{listed.path}{'' if listed.path.endswith('?') else '&'}limit={PAGE}"
        if middle is None:
            return {"": (first, rows)}
        condition = middle.partition("ORDER BY")[0]
        half = f"OFFSET (SELECT count(*) / 2 FROM {table} {condition})"
        row = conn.execute(f"SELECT {listed.key} FROM {table} {middle} {half} LIMIT 1".encode()).fetchone()
        if row is None:
            return {"": (first, rows)}
    return {"": (first, rows), ", deep": (f"{first}&starting_after={row[0]}", rows)}


def _build_figure(name: str, outcomes: Sequence[Outcome], rows: str) -> Figure:
    half = median(each.median_ms for each in outcomes)
    times = [each.p99_ms for each in outcomes]
    group = f"a page of {PAGE}, p99, one connection, load by {get_generator_name()}"
    return figure(group, name, times, "ms", goal=GOAL_MS, note=f"p50 {half:.1f} ms; {rows}")
