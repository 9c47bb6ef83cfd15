"""What waits for a time to come: disputes for an answer, inquiries and authorizations for their end.

A row an object, null once nothing is waited for. Who acts on it is `ledger/deadlines.py`, which decides
again on the object itself: a row that lags behind costs a look, never a wrong event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.domain import charge, dispute
from ledger.domain.charge import Charge
from ledger.domain.charging import uncaptured
from ledger.domain.dispute import Dispute
from ledger.domain.disputing import waiting
from ledger.store.codec import State
from ledger.store.log import Recorded
from projections.projection import Change, Projection, Row

# A dispute told of after it was due (an import of history) is left this long for its outcome to be told.
TOLD_LATE_SECONDS = 3600

_WRITE = """
INSERT INTO projections.deadlines (generation, position, id, kind, moment)
SELECT %b::integer, * FROM unnest(%b::bigint[], %b::text[], %b::text[], %b::bigint[])
ON CONFLICT (generation, id) DO UPDATE SET kind = excluded.kind, moment = excluded.moment
"""


def _waiting(before: State | None, recorded: Recorded, after: State) -> Iterable[Row]:
    match after:
        case Dispute():
            if isinstance(before, Dispute) and before.status == after.status:
                return
            kind, moment = waiting(after) or ("response", None)
            told = recorded.event.at
            if kind == "response" and moment is not None and moment < told:
                moment = told + TOLD_LATE_SECONDS
            if before is not None or moment is not None:
                yield after.id, kind, moment
        case Charge():
            waited = isinstance(before, Charge) and uncaptured(before)
            if waited != uncaptured(after):
                yield after.id, "capture", None if waited else after.created


async def _write(conn: AsyncConnection[TupleRow], generation: int, changes: Sequence[Change]) -> None:
    positions, rows = zip(*changes, strict=True)
    await conn.execute(_WRITE, [generation, list(positions), *map(list, zip(*rows, strict=True))])


DEADLINES = Projection(name="deadlines", aggregates=(charge, dispute), apply=_waiting, write=_write)
