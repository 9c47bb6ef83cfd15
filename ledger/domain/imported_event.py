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
from ledger.domain.resource import check_mode, find_related_customer, to_reference

_sorted_json_encoder = msgspec.json.Encoder(order="sorted")


@domain_event
class EventImported(DomainEvent):
    """`type`, `object` and `previous_attributes` (None if it has none) are those of the public Event.

    owner  the customer whom the object names elsewhere than in `customer`, or named before, if it is none
           and `customer` names nobody. It is stored for the reason that `ResourcePublished` has
    """

    TOPIC: ClassVar[str] = "past_event.imported"
    class_version: ClassVar[int] = 2
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
    owner: str | None

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Version 1 belonged to the customer in `customer`, or to its object."""
        state["owner"] = None


EVENTS: tuple[type[DomainEvent], ...] = (EventImported,)


class ImportedEvent(State, frozen=True, kw_only=True):
    """An imported Event. Instead of its data, which may be large, the state has a `digest`: the SHA-256 of
    type and data, hexadecimal. Two imports under one id are equal if their digests are.

    object_id                         the object that the Event is about; None if it has no id
    customer, charge, payment_intent  whom it belongs to: itself, what it names, or the event's `owner`
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
        customer = _find_named(event.object, "customer")
        return ImportedEvent(
            id=event.originator_id,
            version=event.originator_version,
            account=event.account,
            livemode=event.livemode,
            type=event.type,
            digest=_compute_digest(event),
            object_id=to_reference(event.object),
            customer=customer if customer or event.owner is None else event.owner,
            charge=_find_named(event.object, "charge"),
            payment_intent=_find_named(event.object, "payment_intent"),
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
            owner=_find_owner(object, previous_attributes or {}),
        )
    ]


def _find_owner(public_object: dict[str, Any], previous: dict[str, Any]) -> str | None:
    """The customer whom the object names elsewhere than in `customer`; else whom it named before: a payment
    method that was detached still has the customer's address."""
    if _find_named(public_object, "customer"):
        return None
    return (
        find_related_customer(public_object)
        or to_reference(previous.get("customer"))
        or find_related_customer(previous)
    )


def _find_named(public_object: dict[str, Any] | None, object_type: str) -> str | None:
    """The id of the object if it is of this type, else of the one of this type that it names."""
    if public_object is None:
        return None
    is_it = public_object.get("object") == object_type
    return to_reference(public_object if is_it else public_object.get(object_type))


def _compute_digest(event: EventImported) -> str:
    payload = _sorted_json_encoder.encode((event.type, event.object, event.previous_attributes))
    return hashlib.sha256(payload).hexdigest()
