"""The list view of webhook endpoints, a row an object, as in `views`. A deleted one keeps its row: a cursor
may name it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.domain import webhook_endpoint
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.store.codec import State
from ledger.store.log import Recorded
from projections.projection import Change, Projection, Row

_WRITE = """
INSERT INTO projections.webhook_endpoints
    (generation, position, id, account, livemode, created, deleted, state)
SELECT %b::integer, * FROM unnest(
    %b::bigint[], %b::text[], %b::text[], %b::boolean[], %b::bigint[], %b::boolean[], %b::bytea[])
ON CONFLICT (generation, id) DO UPDATE SET deleted = excluded.deleted, state = excluded.state
"""


def _endpoint(before: State | None, recorded: Recorded, after: State) -> Iterable[Row]:
    assert isinstance(after, WebhookEndpoint)
    state = msgspec.json.encode(after)
    yield after.id, after.account, after.livemode, after.created, after.deleted, state


async def _write(conn: AsyncConnection[TupleRow], generation: int, changes: Sequence[Change]) -> None:
    positions, rows = zip(*changes, strict=True)
    await conn.execute(_WRITE, [generation, list(positions), *map(list, zip(*rows, strict=True))])


WEBHOOK_ENDPOINTS = Projection(
    name="webhook_endpoints", aggregates=(webhook_endpoint,), apply=_endpoint, write=_write
)
