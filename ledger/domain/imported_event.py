"""Public Events of another system from before this ledger, imported with their ids and rendered as received.

Each is a stream of its own under the Event's id, so importing one again changes nothing. Its place in the
feed is that of the import, because the feed is in the order of the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent, domain_event
from ledger.domain.redaction.documents import redact_document
from ledger.domain.redaction.rules import Rule
from ledger.domain.resource import check_mode, to_reference

_sorted_json_encoder = msgspec.json.Encoder(order="sorted")


@domain_event
class EventImported(DomainEvent):
    """`type`, `object` and `previous_attributes` (None if it has none) are those of the public Event."""

    TOPIC: ClassVar[str] = "past_event.imported"
    REDACTION: ClassVar[Mapping[str, Rule]] = {
        "object": redact_document,
        "previous_attributes": redact_document,
    }
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    account: str
    livemode: bool
    type: str
    object: dict[str, Any] | None
    previous_attributes: dict[str, Any] | None


EVENTS: tuple[type[DomainEvent], ...] = (EventImported,)


class ImportedEvent(State, frozen=True, kw_only=True):
    """An imported Event. Instead of its data, which may be large, the state has a `digest`: the SHA-256 of
    type and data, hexadecimal. Two imports under one id are equal if their digests are.

    object_id                         the object that the Event is about; None if it has no id
    customer, charge, payment_intent  whom it belongs to: itself, or what it names
    """

    type: str
    digest: str
    object_id: str | None = None
    customer: str | None = None
    charge: str | None = None
    payment_intent: str | None = None


def evolve(state: ImportedEvent | None, event: DomainEvent) -> ImportedEvent:
    """The state after `event`. Raises TypeError for an event of another aggregate."""
    if isinstance(event, EventImported):
        return ImportedEvent(
            id=event.originator_id,
            version=event.originator_version,
            account=event.account,
            livemode=event.livemode,
            type=event.type,
            digest=_compute_digest(event),
            object_id=to_reference(event.object),
            customer=_find_owner(event.object, "customer"),
            charge=_find_owner(event.object, "charge"),
            payment_intent=_find_owner(event.object, "payment_intent"),
        )
    raise TypeError(f"{type(event).__name__} is not an imported-event domain event")


def create(
    *,
    event_id: str,
    account: str,
    livemode: bool,
    type: str,
    object: dict[str, Any],
    previous_attributes: dict[str, Any] | None,
    now: int,
) -> list[DomainEvent]:
    """Imports an Event. Raises InvalidParameter for an object of the other mode."""
    check_mode(object, livemode)
    return [
        EventImported(
            originator_id=event_id,
            originator_version=1,
            at=now,
            account=account,
            livemode=livemode,
            type=type,
            object=object,
            previous_attributes=previous_attributes,
        )
    ]


def _find_owner(public_object: dict[str, Any] | None, object_type: str) -> str | None:
    """The id of the object if it is of this type, else of the one of this type that it names."""
    if public_object is None:
        return None
    is_owner = public_object.get("object") == object_type
    return to_reference(public_object if is_owner else public_object.get(object_type))


def _compute_digest(event: EventImported) -> str:
    payload = _sorted_json_encoder.encode((event.type, event.object, event.previous_attributes))
    return hashlib.sha256(payload).hexdigest()
