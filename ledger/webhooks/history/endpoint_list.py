"""All endpoints of an account and mode, each with its health and breaker, for operators: a page of them.

What waits is counted up to WAITING_MAX of each, so that a page takes no longer when much does; the report of
one endpoint counts on (`endpoint_report`). No URL is shown.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from psycopg.rows import TupleRow

from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.errors import UnknownReference
from ledger.postgres.connections import Conn, fetch_all
from ledger.store.codec import Codec
from ledger.store.log import read_states_at
from ledger.webhooks.history.owners import bind_owner, has_endpoint
from ledger.webhooks.schedule.breaker import READ_COLUMNS, Breaker, build_breaker
from ledger.webhooks.subscriptions import Owner
from ledger.webhooks.switch import read_switch

WAITING_MAX = 1000
_POSITION_MAX = 2**63 - 1

# Rows are compared as in `history.deliveries`.
_PAGE = f"""
SELECT w.id, w.created, h.failing, extract(epoch FROM h.since)::float8, h.attempts,
       extract(epoch FROM h.last_attempt_at)::float8, h.status, h.error,
       pending.pending, pending.due, pending.next_due_at, given_up.given_up, {READ_COLUMNS}
FROM (SELECT w.id, w.created FROM projections.webhook_endpoints w
      WHERE w.generation = (SELECT generation FROM projections.live WHERE projection = 'webhook_endpoints')
      AND w.account = %(account)s AND w.livemode = %(livemode)s AND NOT w.deleted
      AND (%(after)s::text IS NULL OR w.id > %(after)s)
      ORDER BY w.id LIMIT %(limit)s) AS w
LEFT JOIN webhooks.endpoint_health h ON h.endpoint = w.id COLLATE "C"
CROSS JOIN LATERAL (
    SELECT count(*) AS pending, count(*) FILTER (WHERE due_at <= to_timestamp(%(now)s)) AS due,
           extract(epoch FROM nullif(min(due_at), 'infinity'))::float8 AS next_due_at
    FROM (SELECT d.due_at FROM webhooks.deliveries d WHERE d.endpoint = w.id AND d.state = 'pending'
          ORDER BY d.due_at LIMIT %(rows)s) AS d) AS pending
CROSS JOIN LATERAL (
    SELECT count(*) AS given_up
    FROM (SELECT FROM webhooks.deliveries d
          WHERE (d.endpoint, d.state, d.id) > (w.id COLLATE "default", 'failed', '')
          AND (d.endpoint, d.state, d.id) < (w.id COLLATE "default", 'failed', 'dlw')
          ORDER BY d.endpoint, d.state, d.id LIMIT %(rows)s) AS d) AS given_up
ORDER BY w.id
"""  # noqa: S608 (a constant)
_COLUMNS = 12


class EndpointSummary(NamedTuple):
    """One endpoint. `state` is None while it cannot be read; `failing_since` and `failed_attempts` are those
    of the failure that lasts, `failure_at`, `status` and `error` those of the last failed attempt. `pending`,
    `due` and `given_up` deliveries: WAITING_MAX stands for that many or more."""

    id: str
    state: WebhookEndpoint | None
    created: int
    failing: bool
    since: float | None
    failed_attempts: int
    failure_at: float | None
    status: int | None
    error: str | None
    pending: int
    due: int
    next_due_at: float | None
    given_up: int
    breaker: Breaker
    off: list[str]

    @property
    def obstacles(self) -> list[str]:
        """Codes of why nothing is sent to it now, as `find_endpoint_obstacles` has them."""
        obstacles = list(self.off)
        if self.state is None:
            obstacles.append("endpoint_unreadable")
        elif self.state.disabled:
            obstacles.append("endpoint_disabled")
        obstacles += ["breaker_open"] if self.breaker.state == "open" else []
        return obstacles + (["retry_after"] if self.breaker.asked_until is not None else [])

    def to_json(self, owner: Owner) -> dict[str, Any]:
        """As the internal API shows it, to its owner."""
        state = self.state
        last_failure = {"at": self.failure_at, "status": self.status, "error": self.error}
        return {
            "id": self.id,
            "object": "webhook_endpoint_summary",
            "account": owner[0],
            "breaker": self.breaker._asdict(),
            "created": self.created,
            "due": self.due,
            "event_payload": None if state is None else "thin" if state.is_thin else "snapshot",
            "failed_attempts": self.failed_attempts,
            "failing": self.failing,
            "failing_since": self.since,
            "given_up": self.given_up,
            "last_failure": None if self.failure_at is None else last_failure,
            "livemode": owner[1],
            "next_attempt_at": self.next_due_at,
            "ordered": None if state is None else state.dispatch.ordered,
            "pending": self.pending,
            "status": None if state is None else "disabled" if state.disabled else "enabled",
            "waits_for": self.obstacles,
        }


async def list_endpoints(
    conn: Conn, codec: Codec, owner: Owner, *, limit: int, starting_after: str | None, now: float
) -> tuple[list[EndpointSummary], bool]:
    """A page at `now` (unix seconds), by id, and whether there are more. Raises UnknownReference for a cursor
    that is none of the owner's endpoints."""
    if starting_after is not None and not await has_endpoint(conn, starting_after, owner):
        raise UnknownReference("webhook endpoint", starting_after, param="starting_after")
    parameters = {
        **bind_owner(owner), "after": starting_after, "limit": limit + 1, "rows": WAITING_MAX, "now": now,
    }  # fmt: skip
    rows = await fetch_all(conn, _PAGE.encode(), parameters)
    page = rows[:limit]
    states, _ = await read_states_at(conn, codec, [row[0] for row in page], _POSITION_MAX)
    off = [reason.value for reason in (await read_switch(conn)).list_off_reasons("on")]
    summaries = []
    for row in page:
        state = states.get(row[0])
        endpoint = state if isinstance(state, WebhookEndpoint) else None
        if endpoint is None or not endpoint.deleted:
            summaries.append(_to_summary(row, endpoint, off, now))
    return summaries, len(rows) > limit


def _to_summary(
    row: TupleRow, endpoint: WebhookEndpoint | None, off: list[str], now: float
) -> EndpointSummary:
    (
        endpoint_id, created, failing, since, attempts, failure_at, status, error, pending, due, next_due_at,
        given_up,
    ) = row[:_COLUMNS]  # fmt: skip
    return EndpointSummary(
        id=endpoint_id,
        state=endpoint,
        created=created,
        failing=bool(failing),
        since=since if failing else None,
        failed_attempts=attempts if failing else 0,
        failure_at=failure_at,
        status=status,
        error=error,
        pending=pending,
        due=due,
        next_due_at=next_due_at,
        given_up=given_up,
        breaker=build_breaker(row[_COLUMNS:], now),
        off=off,
    )
