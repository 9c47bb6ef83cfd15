"""The deadlines of objects: when a dispute must be answered, when an inquiry or an authorization expires.

One row an object; its `moment` (unix seconds) is null once nothing is pending. `ledger/deadlines.py` acts on
rows that are due, and decides again on the object itself: a row that lags costs a read, never a wrong event.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.domain import charge, dispute
from ledger.domain.aggregate import State
from ledger.domain.charge import Charge
from ledger.domain.charge_decisions import is_awaiting_capture
from ledger.domain.dispute import Dispute
from ledger.domain.dispute_decisions import LATE_REPORT_GRACE_SECONDS, find_pending_timeout
from ledger.store.log import Recorded
from projections.projection import Column, Projection, Row


def _apply_deadline(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    match after:
        case Dispute():
            if isinstance(before, Dispute) and before.status == after.status:
                return ()
            kind, due_at = find_pending_timeout(after) or ("response", None)
            event_at = recorded.event.at
            if kind == "response" and due_at is not None and due_at < event_at:
                due_at = event_at + LATE_REPORT_GRACE_SECONDS
            if before is not None or due_at is not None:
                return [(after.id, kind, due_at)]
        case Charge():
            was_uncaptured = isinstance(before, Charge) and is_awaiting_capture(before)
            if was_uncaptured != is_awaiting_capture(after):
                return [(after.id, "capture", None if was_uncaptured else after.created)]
    return ()


DEADLINES = Projection(
    name="deadlines",
    aggregates=(charge, dispute),
    columns=(Column("id", "text"), Column("kind", "text"), Column("moment", "bigint")),
    apply=_apply_deadline,
    mutable_columns=("kind", "moment"),
)
