"""Resources of other services, published by them for the public Event feed (contract §2.13, §4.2).

Each publication contains the whole resource, so its public Event follows from it and the previous one. The
ledger stores the last publication and does not interpret it. A deleted resource may be published again
under the same id, as a new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from ledger.domain.aggregate import State, check_not_redacted, next_header
from ledger.domain.event import DomainEvent, domain_event
from ledger.domain.redaction.documents import redact_document
from ledger.domain.redaction.rules import Rule
from ledger.errors import InvalidParameter

ID_LENGTH_MAX = 255
CREATED_MAX = 2**53
"""The latest `created` that is taken for a time: every JSON reader has it as an exact number."""
UPDATED_SUFFIX = ".updated"
DELETED_SUFFIX = ".deleted"
_WITH_CUSTOMER = ("account_holder", "customer_details", "owner")
"""Members with a member `customer`: of `financial_connections`, payment records and tax ids."""


def redact_publication(object: dict[str, Any] | None) -> dict[str, Any] | None:
    """What stays of a publication once its personal data is erased: also its id and type, whatever their
    form."""
    if object is None:
        return None
    redacted: dict[str, Any] = redact_document(object)
    return redacted | {name: object[name] for name in ("id", "object") if name in object}


@domain_event
class ResourcePublished(DomainEvent):
    """The owner published the resource.

    type        its object type, such as `invoice`
    event_type  type of the public Event, such as `invoice.paid`
    object      the whole resource, including its members `id` and `object`
    owner       the customer whom the object names elsewhere than in `customer`, if in `customer` it names
                nobody. It is stored, and not found again in the object: what an event is sealed for must
                not change with the places where a release looks
    """

    TOPIC: ClassVar[str] = "resource.published"
    class_version: ClassVar[int] = 2
    REDACTION: ClassVar[Mapping[str, Rule]] = {"object": redact_publication}
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    account: str
    livemode: bool
    type: str
    event_type: str
    object: dict[str, Any] | None
    owner: str | None

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Version 1 belonged to the customer in `customer`, or to itself."""
        state["owner"] = None


@domain_event
class ResourceDeleted(DomainEvent):
    """The owner deleted the resource; `event_type` is the type of the public Event."""

    TOPIC: ClassVar[str] = "resource.deleted"

    event_type: str


EVENTS: tuple[type[DomainEvent], ...] = (ResourcePublished, ResourceDeleted)


class Resource(State, frozen=True, kw_only=True):
    """A resource. `object` is the last publication, also after a deletion; `event_type` that of its Event.
    `published_at` is the time of the first publication, in unix seconds; `owner` is that of the last one,
    absent from the JSON of most: rows of earlier releases stay as they are."""

    type: str
    event_type: str
    object: dict[str, Any]
    published_at: int
    deleted: bool = False
    owner: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def created(self) -> int:
        """Unix seconds: the resource's own member `created`, or else the time of the first publication."""
        created = self.object.get("created")
        if type(created) is int and 0 <= created <= CREATED_MAX:
            return created
        return self.published_at

    @property
    def customer(self) -> str | None:
        """Id of the customer to whom the resource belongs: the one in `customer`, else its `owner`."""
        named = self._get_reference("customer")
        return named if named or self.owner is msgspec.UNSET else self.owner

    @property
    def charge(self) -> str | None:
        """Id of the charge that the resource names."""
        return self._get_reference("charge")

    @property
    def payment_intent(self) -> str | None:
        """Id of the payment intent that the resource names."""
        return self._get_reference("payment_intent")

    @property
    def subscription(self) -> str | None:
        """Id of the subscription that the resource names, an invoice for example in its `parent`."""
        details = self.object.get("parent")
        for member in ("subscription_details", "subscription"):
            details = details.get(member) if isinstance(details, dict) else None
        return self._get_reference("subscription") or to_reference(details)

    @property
    def status(self) -> str | None:
        """The member `status`."""
        return to_reference(self.object.get("status"))

    def _get_reference(self, member: str) -> str | None:
        return to_reference(self.object.get(member))


def to_reference(reference: Any) -> str | None:
    """The id in a member of a publication, which may contain any value; None for other values.

    A text that is too long for an id may not fit into an index either.
    """
    if isinstance(reference, dict):  # an expanded object
        reference = reference.get("id")
    return reference if isinstance(reference, str) and len(reference) <= ID_LENGTH_MAX else None


def find_related_customer(object: dict[str, Any]) -> str | None:
    """The id of the customer whom an object names elsewhere than in `customer`; None if it names one there,
    or nobody."""
    if to_reference(object.get("customer")):
        return None
    holders = [holder for name in _WITH_CUSTOMER if isinstance(holder := object.get(name), dict)]
    named = [object.get("related_customer"), *[holder.get("customer") for holder in holders]]
    return next((customer for each in named if (customer := to_reference(each))), None)


def evolve(state: Resource | None, event: DomainEvent) -> Resource:
    """The resource after `event`. A publication replaces any earlier state. Raises TypeError for an event of
    another aggregate."""
    match event:
        case ResourcePublished():
            return Resource(
                id=event.originator_id,
                version=event.originator_version,
                account=event.account,
                livemode=event.livemode,
                type=event.type,
                event_type=event.event_type,
                object=event.object or {"id": event.originator_id, "object": event.type},
                published_at=event.at if state is None else state.published_at,
                owner=msgspec.UNSET if event.owner is None else event.owner,
            )
        case ResourceDeleted():
            assert state is not None
            return msgspec.structs.replace(
                state, version=event.originator_version, event_type=event.event_type, deleted=True
            )
    raise TypeError(f"{type(event).__name__} is not a resource event")


def publish(
    state: Resource | None,
    *,
    resource_id: str,
    account: str,
    livemode: bool,
    type: str,
    event_type: str,
    object: dict[str, Any],
    now: int,
) -> list[DomainEvent]:
    """Publishes the resource's current `object`, whose Event is of the type `event_type`.

    Returns [] if nothing is new: the object is unchanged and the Event would be an update, or of the same
    type as the last one. Of a redacted resource only that is compared which stayed. Raises InvalidParameter
    for a type of deletion, an object of the other mode, and an object with another id or type than that of
    the path; ObjectRedacted for a redacted resource that would change.
    """
    if event_type.endswith(DELETED_SUFFIX):
        text = "Invalid event_type: to publish a deletion, use DELETE without an object."
        raise InvalidParameter(text, param="event_type")
    check_mode(object, livemode)
    full_object = {"id": resource_id, "object": type} | object
    for member, expected in (("id", resource_id), ("object", type)):
        if full_object[member] != expected:
            text = f"Invalid object[{member}]: must be '{expected}', as in the path."
            raise InvalidParameter(text, param=f"object[{member}]")
    shown = redact_publication(full_object) if state is not None and state.redaction else full_object
    is_unchanged = state is not None and not state.deleted and is_same_json(state.object, shown)
    last_event_type = None if state is None else state.event_type
    if is_unchanged and (event_type.endswith(UPDATED_SUFFIX) or event_type == last_event_type):
        return []
    if state is not None:
        check_not_redacted(state, "object")
    return [
        ResourcePublished(
            originator_id=resource_id,
            originator_version=1 if state is None else state.version + 1,
            at=now,
            account=account,
            livemode=livemode,
            type=type,
            event_type=event_type,
            object=full_object,
            owner=find_related_customer(full_object),
        )
    ]


def delete(state: Resource, event_type: str, *, now: int) -> list[DomainEvent]:
    """Records the deletion of a resource. Raises InvalidParameter unless `event_type` ends in `.deleted`."""
    if not event_type.endswith(DELETED_SUFFIX):
        text = "Invalid event_type: must end in '.deleted'; use PUT with the object for other Events."
        raise InvalidParameter(text, param="event_type")
    return [ResourceDeleted(**next_header(state, now), event_type=event_type)]


def check_mode(object: dict[str, Any], livemode: bool) -> None:
    """Raises InvalidParameter for an object of the other mode: the modes never mix (contract §1.2)."""
    if object.get("livemode", livemode) is not livemode:
        mode, expected = ("live", "true") if livemode else ("test", "false")
        text = f"Invalid object[livemode]: must be {expected}, because the API key is a {mode} mode key."
        raise InvalidParameter(text, param="object[livemode]")


def is_same_json(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal, in any order of members. 1 equals 1.0, but not true."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(is_same_json(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(is_same_json, left, right))
    return isinstance(left, bool) is isinstance(right, bool) and bool(left == right)
