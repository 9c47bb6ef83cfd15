"""The public Event feed: the Events that each recorded event shows to integrators, kept for 30 days.

A row never changes. Its id derives from the log, so a rebuild gives the Event of a change the same id again
(README, invariant 4). `data` is the JSON that is served. Delivery state is not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ledger.domain import charge, customer, dispute, imported_event, payment_intent, refund, resource
from ledger.domain.aggregate import State
from ledger.store.log import Recorded
from ledger.wire.events import render_event_data
from ledger.wire.public_events import EVENT_RETENTION_DAYS, derive_event_id, derive_public_events
from ledger.wire.versions import LATEST_VERSION
from projections.projection import OBJECT_COLUMNS, Column, Projection, Row

_encode = msgspec.json.Encoder().encode


def _apply_public_events(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    event = recorded.event
    recorded_at = recorded.recorded_at
    rows: list[Row] = []
    for ordinal, (event_type, payload, previous_attributes) in enumerate(
        derive_public_events(before, event, after)
    ):
        rows.append(
            (
                derive_event_id(event, ordinal, recorded_at),
                recorded.account,
                recorded.livemode,
                int(recorded_at),
                ordinal,
                event_type,
                _get_object_id(payload),
                LATEST_VERSION,
                recorded.request_id,
                recorded.idempotency_key,
                _encode(render_event_data(payload, previous_attributes)),
            )
        )
    return rows


def _get_object_id(payload: dict[str, Any]) -> str:
    """The id of an Event's object; "" for an imported Event of an object that has none, such as a balance."""
    object_id = payload.get("id")
    return object_id if isinstance(object_id, str) else ""


FEED = Projection(
    name="feed",
    aggregates=(customer, charge, dispute, refund, payment_intent, resource, imported_event),
    columns=(
        *OBJECT_COLUMNS,
        Column("ordinal", "smallint"),
        Column("type", "text"),
        Column("object_id", "text"),
        Column("api_version", "text"),
        Column("request_id", "text"),
        Column("idempotency_key", "text"),
        Column("data", "document", compressed=True),
    ),
    apply=_apply_public_events,
    # Events of an aggregate that only a later release knows would otherwise never be shown nor delivered.
    parks_unknown=True,
    retention_days=EVENT_RETENTION_DAYS,
)
