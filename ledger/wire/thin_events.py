"""Thin events: the public Events without their objects, as /v2 and thin webhooks show them.

A thin event is the twin of one snapshot Event of the feed and derived from it, its id and its type too: so it
needs no row of its own, and each of the two names the other (docs/thin-events.md).
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from ledger.wire.event_types import ORDERED_EVENT_TYPES
from ledger.wire.json_values import Json
from ledger.wire.object_urls import SINGLETONS, make_object_url
from ledger.wire.rfc3339 import format_time

SNAPSHOT_ID_PREFIX = "evt_"
THIN_ID_PREFIX = "evt_thin_"
TYPE_PREFIX = "v1."
OBJECT_TYPE = "v2.core.event"
_WITHOUT_PREFIX_MARK = "~"

ORDERED_THIN_TYPES: tuple[str, ...] = tuple(TYPE_PREFIX + name for name in ORDERED_EVENT_TYPES)
"""The types of thin events, in the order of those of snapshots."""


class _SnapshotEvent(Protocol):
    """What a thin event is made of: a row of the feed. `created` in unix seconds."""

    @property
    def id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def created(self) -> int: ...
    @property
    def livemode(self) -> bool: ...
    @property
    def request_id(self) -> str | None: ...
    @property
    def idempotency_key(self) -> str | None: ...


class _Subject(msgspec.Struct):
    """What of an Event's object its reference needs. Objects of other services may have anything here."""

    object: Any = None
    id: Any = None
    customer: Any = None
    account: Any = None
    fee: Any = None


class _SnapshotData(msgspec.Struct):
    object: _Subject = msgspec.field(default_factory=_Subject)


class _ChangedData(msgspec.Struct):
    object: Json
    previous_attributes: Json | None = None


_decode_subject = msgspec.json.Decoder(_SnapshotData).decode
_decode_changed = msgspec.json.Decoder(_ChangedData).decode


def to_thin_id(snapshot_id: str) -> str:
    """The id of the thin twin of the snapshot Event `snapshot_id`. An imported Event may have any id: one
    without the prefix gets a mark that no id contains."""
    if snapshot_id.startswith(SNAPSHOT_ID_PREFIX):
        return THIN_ID_PREFIX + snapshot_id.removeprefix(SNAPSHOT_ID_PREFIX)
    return THIN_ID_PREFIX + _WITHOUT_PREFIX_MARK + snapshot_id


def to_snapshot_id(thin_id: str) -> str | None:
    """The id of the snapshot twin of a thin event; None for an id that no thin event has."""
    rest = thin_id.removeprefix(THIN_ID_PREFIX)
    if rest in (thin_id, ""):
        return None
    if rest.startswith(_WITHOUT_PREFIX_MARK):
        return rest.removeprefix(_WITHOUT_PREFIX_MARK)
    return SNAPSHOT_ID_PREFIX + rest


def to_thin_type(snapshot_type: str) -> str:
    """`v1.charge.captured` for `charge.captured`."""
    return TYPE_PREFIX + snapshot_type


def to_snapshot_type(thin_type: str) -> str | None:
    """`charge.captured` for `v1.charge.captured`; None for the type of an event that has no snapshot."""
    return thin_type.removeprefix(TYPE_PREFIX) if thin_type.startswith(TYPE_PREFIX) else None


def render_notification(event: _SnapshotEvent, data: bytes | str, *, context: str | None) -> Json:
    """What is pushed of a thin event: no content, but where the event and its object are fetched.

    data     the JSON of the snapshot's `data`
    context  the connected account, for a receiver or reader that is its platform; else None
    """
    return {
        "id": to_thin_id(event.id),
        "object": OBJECT_TYPE,
        "context": context,
        "created": format_time(event.created),
        "livemode": event.livemode,
        "reason": _render_reason(event.request_id, event.idempotency_key),
        "related_object": _render_related_object(data),
        "type": to_thin_type(event.type),
    }


def render_thin_event(event: _SnapshotEvent, data: bytes | str, *, context: str | None) -> Json:
    """A thin event as it is retrieved and listed. Arguments as of `render_notification`."""
    return {
        **render_notification(event, data, context=context),
        "changes": _render_changes(data) if event.type.endswith(".updated") else None,
        "snapshot_event": event.id,
    }


def _render_reason(request_id: str | None, idempotency_key: str | None) -> Json | None:
    if request_id is None:
        return None
    return {"type": "request", "request": {"id": request_id, "idempotency_key": idempotency_key}}


def _render_related_object(data: bytes | str) -> Json | None:
    """The reference to the Event's object: where it is retrieved as it is now. None for an object that Stripe
    retrieves nowhere."""
    subject = _decode_subject(data).object
    object_type = subject.object
    if not isinstance(object_type, str):
        return None
    url = make_object_url(object_type, msgspec.structs.asdict(subject))
    if url is None:
        return None
    related = {"type": object_type, "url": url}
    return related if object_type in SINGLETONS else {"id": subject.id, **related}


def _render_changes(data: bytes | str) -> Json | None:
    """The values before and after an update, of what it changed."""
    changed = _decode_changed(data)
    before = changed.previous_attributes
    return None if before is None else {"before": before, "after": _pick_members(changed.object, before)}


def _pick_members(whole: Json, wanted: Json) -> Json:
    """The members of `whole` that `wanted` has, null where it lacks one."""
    picked: Json = {}
    for name, old_value in wanted.items():
        value = whole.get(name)
        if isinstance(value, dict) and isinstance(old_value, dict):
            value = _pick_members(value, old_value)
        picked[name] = value
    return picked
