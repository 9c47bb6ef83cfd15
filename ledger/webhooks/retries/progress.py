"""A retry of many as it is shown: its filters, how far it is, how fast, and when it may end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from psycopg.rows import TupleRow

from ledger.webhooks.history.filters import list_event_ids
from ledger.webhooks.replays.progress import ReplayState
from ledger.webhooks.retries.filters import RetryFilter, RetryRequest

Obstacle = Literal["endpoint_disabled", "endpoint_deleted"]
PartWait = Literal["endpoint_unreadable"]

FILTER_COLUMNS = """
r.account, r.livemode, r.endpoint, r.event, r.states, r.asked_types, r.types, r.created_bounds::text,
r.first_id, r.before_id, r.status, r.error
"""
FILTER_COLUMNS_COUNT = 12
# While it has not ended, its deliveries are counted: the few that are pending or were not accepted; the
# others of those that it made due were. Whether webhooks are off is known without a worker.
COLUMNS = f"""
{FILTER_COLUMNS}, r.id, r.who, r.reason, r.created, r.state, r.ended,
CASE WHEN r.state <> 'running' THEN '{{}}' ELSE array_remove(ARRAY[
    CASE WHEN NOT ledger.is_active_database() THEN 'copy' END,
    CASE WHEN NOT (SELECT a.sends_webhooks FROM ledger.activations a ORDER BY a.id DESC LIMIT 1)
         THEN 'paused' END], NULL) END,
CASE WHEN r.ended IS NULL THEN (SELECT count(*) FROM webhooks.deliveries d
    WHERE d.replay = r.id AND d.state = 'pending') ELSE 0 END,
coalesce(r.failed, (SELECT count(*) FROM webhooks.deliveries d
    WHERE d.replay = r.id AND d.state = 'failed')),
coalesce(r.dropped, (SELECT count(*) FROM webhooks.deliveries d
    WHERE d.replay = r.id AND d.state = 'dropped')),
r.delivered, coalesce(r.returned, 0),
(r.active_seconds + coalesce(extract(epoch FROM clock_timestamp() - r.active_since), 0))::float8,
(SELECT coalesce(json_agg(json_build_array(
            p.endpoint, p.counted_id >= r.before_id, p.taken_id >= r.before_id, p.matched, p.made_due,
            p.in_other_job, p.exhausted, p.unreachable, p.obstacle, p.waits_for) ORDER BY p.endpoint), '[]')
 FROM webhooks.retry_parts p WHERE p.retry = r.id)::text
"""  # noqa: S608 (a constant)


class RetryPart(NamedTuple):
    """The deliveries to one endpoint. `matched` are found so far, all once `is_counted`; each of them was
    made due or left out once it `is_done`. `obstacle`: why those that are `unreachable` were left out."""

    endpoint: str
    is_counted: bool
    is_done: bool
    matched: int
    made_due: int
    in_other_job: int
    exhausted: int
    unreachable: int
    obstacle: Obstacle | None
    waits_for: PartWait | None

    @property
    def left_out(self) -> dict[str, int]:
        """How many were not made due, by why."""
        left_out = show_left_out(self.in_other_job, self.exhausted)
        return left_out if self.obstacle is None else {self.obstacle: self.unreachable, **left_out}

    def to_json(self) -> dict[str, Any]:
        """As the API and `--json` show it."""
        return {
            "endpoint": self.endpoint,
            "matched": self.matched if self.is_counted else None,
            "made_due": self.made_due,
            "left_out": self.left_out,
            "waits_for": [] if self.waits_for is None else [self.waits_for],
        }


class Retry(NamedTuple):
    """A retry of many. Times are unix seconds.

    chosen      which deliveries it takes
    waits_for   why a running one does not go on; [] if it does
    pending     of those that it made due, those to be sent; the others were accepted (`delivered`), given up
                again (`failed`), are owed no more (`dropped`), or were `returned` to their former state
    """

    id: str
    chosen: RetryFilter
    who: str
    reason: str
    created: int
    state: ReplayState
    ended: int | None
    waits_for: list[str]
    pending: int
    failed: int
    dropped: int
    delivered: int
    returned: int
    active_seconds: float
    parts: Sequence[RetryPart]

    @classmethod
    def from_row(cls, row: TupleRow) -> Retry:
        """The retry of a row of COLUMNS."""
        (
            retry_id, who, reason, created, state, ended, waits_for, pending, failed, dropped, delivered,
            returned, active_seconds, parts_text,
        ) = row[FILTER_COLUMNS_COUNT:]  # fmt: skip
        parts = [RetryPart(*part) for part in msgspec.json.decode(parts_text)]
        chosen = read_filter(row, [part.endpoint for part in parts])
        if delivered is None:
            delivered = sum(part.made_due for part in parts) - pending - failed - dropped
        return cls(
            retry_id, chosen, who, reason, created, state, ended, waits_for, pending, failed, dropped,
            delivered, returned, active_seconds, parts,
        )  # fmt: skip

    @property
    def is_ended(self) -> bool:
        """Whether it makes nothing due any more, and nothing of it is pending."""
        return self.ended is not None

    @property
    def matched(self) -> int | None:
        """How many deliveries match; None until they are counted."""
        return (
            sum(part.matched for part in self.parts) if all(part.is_counted for part in self.parts) else None
        )

    @property
    def made_due(self) -> int:
        """How many became due so far."""
        return sum(part.made_due for part in self.parts)

    @property
    def left_out(self) -> dict[str, int]:
        """How many were not made due, by why."""
        left_out: Counter[str] = Counter()
        for part in self.parts:
            left_out.update(part.left_out)
        return dict(left_out)

    @property
    def settled(self) -> int:
        """How many of its deliveries are not pending any more."""
        return self.delivered + self.failed + self.dropped

    @property
    def rate(self) -> float | None:
        """Deliveries settled in a second, on average while it ran; None before the first."""
        return self.settled / self.active_seconds if self.settled and self.active_seconds > 0 else None

    @property
    def eta_seconds(self) -> float | None:
        """In how many seconds it ends at that rate; None unless it runs and the rate is known."""
        rate, matched = self.rate, self.matched
        if self.state != "running" or self.waits_for or matched is None or not rate:
            return None
        return max(0, matched - sum(self.left_out.values()) - self.settled) / rate

    def to_json(self) -> dict[str, Any]:
        """As the API and `--json` show it."""
        rate, eta_seconds = self.rate, self.eta_seconds
        return {
            "id": self.id,
            "object": "webhook_retry",
            "account": self.chosen.account,
            "livemode": self.chosen.livemode,
            "filters": show_filters(self.chosen.request, self.chosen.states),
            "created": self.created,
            "created_by": self.who,
            "reason": self.reason,
            "state": self.state,
            "waits_for": self.waits_for,
            "ended": self.ended,
            "matched": self.matched,
            "made_due": self.made_due,
            "left_out": self.left_out,
            "pending": self.pending,
            "delivered": self.delivered,
            "failed": self.failed,
            "dropped": self.dropped,
            "returned": self.returned,
            "rate": None if rate is None else round(rate, 1),
            "eta_seconds": None if eta_seconds is None else round(eta_seconds),
            "endpoints": [part.to_json() for part in self.parts if part.matched or not part.is_counted],
        }


def read_filter(row: TupleRow, endpoints: Sequence[str]) -> RetryFilter:
    """The filter of a row that begins with FILTER_COLUMNS, for these endpoints."""
    (
        account, livemode, endpoint, event, states, asked_types, types, bounds, first_id, before_id, status,
        error,
    ) = row[:FILTER_COLUMNS_COUNT]  # fmt: skip
    created = msgspec.json.decode(bounds)
    request = RetryRequest(endpoint, event, states, asked_types, created, status, error)
    events = None if event is None else list_event_ids([event])
    return RetryFilter(request, account, livemode, endpoints, events, states, types, first_id, before_id)


def show_filters(request: RetryRequest, states: Sequence[str]) -> dict[str, Any]:
    """The filters as a caller gave them, with the states that they mean."""
    return {
        "endpoint": request.endpoint,
        "event": request.event,
        "state": list(states),
        "types": list(request.types),
        "created": dict(sorted(request.created.items())),
        "status": request.status,
        "error": request.error,
    }


def show_left_out(in_other_job: int, exhausted: int) -> dict[str, int]:
    """What an endpoint's deliveries are left out for, by the code that is shown."""
    counts = {"in_other_job": in_other_job, "attempts_exhausted": exhausted}
    return {name: count for name, count in counts.items() if count}
