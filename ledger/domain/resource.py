"""Resources that other services keep: what these published of them, for the public Event feed.

Each publication holds the resource whole, so what it makes public follows from it and the one before it.
Only the last state is known here, and nothing of what it means. A resource that was deleted may be published
again: it begins anew, under the same id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from ledger.domain.event import DomainEvent
from ledger.errors import InvalidParameter

ID_LENGTH_MAX = 255
UPDATED_SUFFIX = ".updated"
DELETED_SUFFIX = ".deleted"
LEDGER_TYPES = frozenset(
    {
        "balance_transaction", "charge", "customer", "customer_session", "dispute", "event", "file",
        "file_link", "refund", "webhook_endpoint",
    }
)  # fmt: skip
"""Types of the objects that this ledger keeps itself: nobody else can tell of them."""


@dataclass(frozen=True, kw_only=True)
class ResourcePublished(DomainEvent):
    """`object` is the whole resource, with its `id` and `object`; `event_type` the public Event's type."""

    TOPIC: ClassVar[str] = "resource.published"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"object"})

    account: str
    livemode: bool
    type: str
    event_type: str
    object: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class ResourceDeleted(DomainEvent):
    """There is no such resource any more."""

    TOPIC: ClassVar[str] = "resource.deleted"

    event_type: str


EVENTS: tuple[type[DomainEvent], ...] = (ResourcePublished, ResourceDeleted)


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """A resource as of `version`. `object` is the last one published, also when it was deleted since;
    `event_type` is that of the last Event it made."""

    id: str
    version: int
    account: str
    livemode: bool
    type: str
    event_type: str
    object: dict[str, Any]
    deleted: bool = False

    @property
    def customer(self) -> str | None:
        """The customer it names: the log is indexed by it."""
        return self._get_reference("customer")

    @property
    def charge(self) -> str | None:
        """The charge it names."""
        return self._get_reference("charge")

    @property
    def payment_intent(self) -> str | None:
        """The payment intent it names."""
        return self._get_reference("payment_intent")

    def _get_reference(self, member: str) -> str | None:
        reference = self.object.get(member)
        if isinstance(reference, dict):  # expanded
            reference = reference.get("id")
        # Anything can stand there: what is too long for an id, an index could not hold.
        return reference if isinstance(reference, str) and len(reference) <= ID_LENGTH_MAX else None


def evolve(state: Resource | None, event: DomainEvent) -> Resource:
    """A publication needs no `state` before it: it is whole."""
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
            )
        case ResourceDeleted():
            assert state is not None
            return msgspec.structs.replace(
                state, version=event.originator_version, event_type=event.event_type, deleted=True
            )
    raise TypeError(f"{type(event).__name__} is no event of a resource")


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
    """The resource as it is now. [] where that tells nothing new: the same object again, as an update or as
    what it was published as the last time.

    Raises InvalidParameter for an object that is another one, and for a deletion.
    """
    if type in LEDGER_TYPES:
        raise InvalidParameter(f"Invalid type: a {type} is kept by this ledger itself.", param="type")
    if event_type.endswith(DELETED_SUFFIX):
        text = "Invalid event_type: what is deleted is told by DELETE, without its object."
        raise InvalidParameter(text, param="event_type")
    check_mode(object, livemode)
    full_object = {"id": resource_id, "object": type} | object
    for member, expected in (("id", resource_id), ("object", type)):
        if full_object[member] != expected:
            text = f"Invalid object[{member}]: must be '{expected}', as in the path."
            raise InvalidParameter(text, param=f"object[{member}]")
    is_unchanged = state is not None and not state.deleted and is_same_json(state.object, full_object)
    last_event_type = None if state is None else state.event_type
    if is_unchanged and (event_type.endswith(UPDATED_SUFFIX) or event_type == last_event_type):
        return []
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
        )
    ]


def delete(state: Resource, event_type: str, *, now: int) -> list[DomainEvent]:
    """The end of a resource that is there. Raises InvalidParameter for a type that tells of none."""
    if not event_type.endswith(DELETED_SUFFIX):
        text = "Invalid event_type: must end in '.deleted'; anything else is told by PUT, with the object."
        raise InvalidParameter(text, param="event_type")
    return [
        ResourceDeleted(
            originator_id=state.id, originator_version=state.version + 1, at=now, event_type=event_type
        )
    ]


def check_mode(object: dict[str, Any], livemode: bool) -> None:
    """Raises InvalidParameter for an object of the other mode: the two never meet (contract §1.2)."""
    if object.get("livemode", livemode) is not livemode:
        mode = "live" if livemode else "test"
        text = f"Invalid object[livemode]: must be {str(livemode).lower()}, for the key is a {mode} mode key."
        raise InvalidParameter(text, param="object[livemode]")


def is_same_json(left: Any, right: Any) -> bool:
    """Whether two JSON values are the same: the order of members means nothing, 1 is 1.0 but not true."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(is_same_json(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(is_same_json, left, right))
    return isinstance(left, bool) is isinstance(right, bool) and bool(left == right)
