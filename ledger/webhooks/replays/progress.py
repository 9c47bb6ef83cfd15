"""A replay as it is shown: its filters, how far it is, how fast, and when it may end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from psycopg.rows import TupleRow

ReplayState = Literal["running", "paused", "completed", "cancelled"]
WaitReason = Literal["copy", "paused", "endpoint_disabled", "endpoint_unreadable", "fan_out"]

# While it has not ended, its deliveries are counted. Whether webhooks are off is known without a worker.
COLUMNS = """
r.id, r.endpoint, r.account, r.livemode, r.window_from, r.window_to, r.asked_types, r.only_failed, r.object,
r.who, r.reason, r.created, r.state, r.ended,
CASE WHEN r.state <> 'running' THEN '{}' ELSE array_remove(ARRAY[
    CASE WHEN NOT ledger.is_active_database() THEN 'copy' END,
    CASE WHEN NOT (SELECT a.sends_webhooks FROM ledger.activations a ORDER BY a.id DESC LIMIT 1)
         THEN 'paused' END,
    r.waits_for], NULL) END,
CASE WHEN r.counted_position >= r.upto THEN r.total END, r.queued, r.left_alone, r.unreadable,
CASE WHEN r.ended IS NULL THEN (SELECT count(*) FROM webhooks.deliveries d
    WHERE d.replay = r.id AND d.state = 'pending') ELSE 0 END,
coalesce(r.delivered, (SELECT count(*) FROM webhooks.deliveries d
    WHERE d.replay = r.id AND d.state = 'delivered')),
coalesce(r.failed, (SELECT count(*) FROM webhooks.deliveries d
    WHERE d.replay = r.id AND d.state = 'failed')),
coalesce(r.dropped, (SELECT count(*) FROM webhooks.deliveries d
    WHERE d.replay = r.id AND d.state = 'dropped')),
(r.active_seconds + coalesce(extract(epoch FROM clock_timestamp() - r.active_since), 0))::float8
"""


class Replay(NamedTuple):
    """A replay. Times are unix seconds.

    types        as the caller gave them; [] for all that the endpoint is subscribed to
    waits_for    why a running one does not go on; [] if it does
    total        how many Events it found; None until they are counted
    queued       Events that became deliveries; each is pending, delivered, failed or dropped
    left_alone   Events that were pending to the endpoint already: their deliveries were not touched
    unreadable   Events that cannot be made from the log, or not yet
    """

    id: str
    endpoint: str
    account: str
    livemode: bool
    window_from: int
    window_to: int
    types: Sequence[str]
    only_failed: bool
    object: str | None
    who: str
    reason: str
    created: int
    state: ReplayState
    ended: int | None
    waits_for: list[WaitReason]
    total: int | None
    queued: int
    left_alone: int
    unreadable: int
    pending: int
    delivered: int
    failed: int
    dropped: int
    active_seconds: float

    @classmethod
    def from_row(cls, row: TupleRow) -> Replay:
        """The replay of a row of COLUMNS."""
        return cls(*row)

    @property
    def is_ended(self) -> bool:
        """Whether nothing of it will be sent any more."""
        return self.ended is not None

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
        rate = self.rate
        if self.state != "running" or self.waits_for or self.total is None or not rate:
            return None
        return max(0, self.total - self.settled - self.left_alone - self.unreadable) / rate

    def to_json(self) -> dict[str, Any]:
        """As the API and `--json` show it."""
        rate, eta_seconds = self.rate, self.eta_seconds
        return {
            "id": self.id,
            "object": "webhook_replay",
            "endpoint": self.endpoint,
            "account": self.account,
            "livemode": self.livemode,
            "from": self.window_from,
            "to": self.window_to,
            "types": list(self.types),
            "only_failed": self.only_failed,
            "object_id": self.object,
            "created": self.created,
            "created_by": self.who,
            "reason": self.reason,
            "state": self.state,
            "waits_for": self.waits_for,
            "ended": self.ended,
            "total": self.total,
            "queued": self.queued,
            "left_alone": self.left_alone,
            "unreadable": self.unreadable,
            "pending": self.pending,
            "delivered": self.delivered,
            "failed": self.failed,
            "dropped": self.dropped,
            "rate": None if rate is None else round(rate, 1),
            "eta_seconds": None if eta_seconds is None else round(eta_seconds),
        }
