"""The public Event feed: the Events that each recorded event shows to integrators, kept for 30 days.

A row never changes. Its id derives from the log, so a rebuild gives the Event of a change the same id again
(README, invariant 4). `data` is the JSON that is served. Delivery state is not here.
"""

from __future__ import annotations

from ledger.domain import (
    charge,
    customer,
    dispute,
    imported_event,
    payment_intent,
    redaction_job,
    refund,
    resource,
)
from ledger.wire.public_event_rows import derive_public_event_rows
from ledger.wire.public_events import EVENT_RETENTION_DAYS
from projections.projection import OBJECT_COLUMNS, Column, Projection

FEED = Projection(
    name="feed",
    aggregates=(customer, charge, dispute, refund, payment_intent, resource, imported_event, redaction_job),
    columns=(
        *OBJECT_COLUMNS,
        Column("ordinal", "smallint"),
        Column("type", "text"),
        Column("object_id", "text", is_personal=True),  # of an imported Event it is in its object
        Column("api_version", "text"),
        Column("request_id", "text"),
        Column("idempotency_key", "text"),
        Column("data", "document", compressed=True, sealed=True),
    ),
    apply=derive_public_event_rows,
    # Events of an aggregate that only a later release knows would otherwise never be shown nor delivered.
    parks_unknown=True,
    retention_days=EVENT_RETENTION_DAYS,
)
