"""The public Event feed: what each recorded event looked like to integrators, kept for 30 days.

A row never changes once it is there. Its id derives from the log, so no rebuild makes a second Event of
one change (README, invariant 4). `data` is JSON text as it will be served. Delivery state is not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ledger.domain import charge, customer, dispute, imported_event, refund, resource
from ledger.store.codec import State
from ledger.store.log import Recorded
from ledger.wire import render
from ledger.wire.public_events import event_id, public_events
from ledger.wire.versions import LATEST
from projections.projection import Column, Projection, Row

DAYS_KEPT = 30

_encode = msgspec.json.Encoder().encode


def _events(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    event = recorded.event
    at = recorded.recorded_at
    rows: list[Row] = []
    for ordinal, (name, told, previous) in enumerate(public_events(before, event, after)):
        rows.append(
            (
                event_id(event, ordinal, at),
                recorded.account,
                recorded.livemode,
                int(at),
                ordinal,
                name,
                _object_id(told),
                LATEST,
                recorded.request_id,
                recorded.idempotency_key,
                _encode(render.event_data(told, previous)),
            )
        )
    return rows


def _object_id(told: dict[str, Any]) -> str:
    """An imported Event may be of an object without an id, such as a balance."""
    named = told.get("id")
    return named if isinstance(named, str) else ""


FEED = Projection(
    name="feed",
    aggregates=(customer, charge, dispute, refund, resource, imported_event),
    columns=(
        Column("id", "text"),
        Column("account", "text"),
        Column("livemode", "boolean"),
        Column("created", "bigint"),
        Column("ordinal", "smallint"),
        Column("type", "text"),
        Column("object_id", "text"),
        Column("api_version", "text"),
        Column("request_id", "text"),
        Column("idempotency_key", "text"),
        Column("data", "document"),
    ),
    apply=_events,
    days_kept=DAYS_KEPT,
)
