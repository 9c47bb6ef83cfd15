"""The JSON of public Events (contract §4.1)."""

from __future__ import annotations

from typing import Any

import msgspec

from ledger.wire.json_values import Json

EXPANDABLE_FIELDS: dict[str, Any] = {"data": {}, "request": {}}
"""An Event's `data` is a record of the past: nothing in it can be expanded."""


def render_event_data(resource: Json | msgspec.Raw, previous_attributes: Json | None) -> Json:
    """The `data` of an Event: the object right after the change, and for an update the old values."""
    if previous_attributes is None:
        return {"object": resource}
    return {"object": resource, "previous_attributes": previous_attributes}


def render_event(
    *,
    event_id: str,
    event_type: str,
    created: int,
    livemode: bool,
    api_version: str | None,
    data: Json | msgspec.Raw,
    request_id: str | None,
    idempotency_key: str | None,
    pending_webhooks: int,
    account: str | None = None,
) -> Json:
    """An Event. `data` is the result of `render_event_data`, or its JSON. `created` is in unix seconds.

    `account` is the account of the Event if the reader is its platform, else None (contract §4.1).
    """
    rendered: Json = {
        "id": event_id,
        "object": "event",
        "api_version": api_version,
        "created": created,
        "data": data,
        "livemode": livemode,
        "pending_webhooks": pending_webhooks,
        "request": {"id": request_id, "idempotency_key": idempotency_key},
        "type": event_type,
    }
    if account is not None:
        rendered["account"] = account
    return rendered
