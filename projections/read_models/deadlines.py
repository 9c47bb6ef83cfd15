"""What waits for a time to come: disputes for an answer, inquiries and authorizations for their end.

A row an object, null once nothing is waited for. Who acts on it is `ledger/deadlines.py`, which decides
again on the object itself: a row that lags behind costs a look, never a wrong event.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.domain import charge, dispute
from ledger.domain.charge import Charge
from ledger.domain.charge_decisions import uncaptured
from ledger.domain.dispute import Dispute
from ledger.domain.dispute_decisions import waiting
from ledger.store.codec import State
from ledger.store.log import Recorded
from projections.projection import Column, Projection, Row

# A dispute told of after it was due (an import of history) is left this long for its outcome to be told.
TOLD_LATE_SECONDS = 3600


def _waiting(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    match after:
        case Dispute():
            if isinstance(before, Dispute) and before.status == after.status:
                return ()
            kind, moment = waiting(after) or ("response", None)
            told = recorded.event.at
            if kind == "response" and moment is not None and moment < told:
                moment = told + TOLD_LATE_SECONDS
            if before is not None or moment is not None:
                return [(after.id, kind, moment)]
        case Charge():
            waited = isinstance(before, Charge) and uncaptured(before)
            if waited != uncaptured(after):
                return [(after.id, "capture", None if waited else after.created)]
    return ()


DEADLINES = Projection(
    name="deadlines",
    aggregates=(charge, dispute),
    columns=(Column("id", "text"), Column("kind", "text"), Column("moment", "bigint")),
    apply=_waiting,
    changing=("kind", "moment"),
)
