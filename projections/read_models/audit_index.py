"""The audit index: one row for each recorded event, by which the audit API searches the log.

It has only what the log itself has no index for: who caused the event, by which request, of which kind; and
of the first event of a stream, what was created and when. By object, customer, charge and payment intent the
log is searched directly. An event that is not indexed yet, or whose stream is parked, is found in the log.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.domain.aggregate import State
from ledger.domain.resource import Resource
from ledger.store.log import Recorded
from ledger.wire.aggregates import AGGREGATES
from projections.projection import Column, Projection, Row

_NAMES = {row.state: row.object_type or row.noun for row in AGGREGATES}


def apply_event(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    """The one row of the event."""
    event = recorded.event
    aggregate: str | None = None
    created: int | None = None
    if before is None:
        aggregate = after.type if isinstance(after, Resource) else _NAMES[type(after)]
        created = getattr(after, "created", event.at)
    return (
        (
            recorded.position,
            recorded.account,
            recorded.livemode,
            event.TOPIC,
            recorded.actor,
            recorded.request_id,
            recorded.idempotency_key,
            aggregate,
            created,
        ),
    )


AUDIT_INDEX = Projection(
    name="audit_index",
    aggregates=tuple(row.module for row in AGGREGATES),
    columns=(
        Column("id", "bigint"),  # the position: the key of a row must be one of its columns
        Column("account", "text"),
        Column("livemode", "boolean"),
        Column("topic", "text"),
        Column("actor", "text"),
        Column("request_id", "text"),
        Column("idempotency_key", "text"),
        # Of the first event of a stream: `customer`, `dispute` …, the type of a published resource; and the
        # object's `created` in unix seconds. Null of later events.
        Column("aggregate", "text"),
        Column("created", "bigint"),
    ),
    apply=apply_event,
    # Events of an aggregate that only a later release knows would otherwise be missing without a trace.
    parks_unknown=True,
)
