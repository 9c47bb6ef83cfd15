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
UPDATED = ".updated"
DELETED = ".deleted"
KEPT_HERE = frozenset(
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
        return self._named("customer")

    @property
    def charge(self) -> str | None:
        """The charge it names."""
        return self._named("charge")

    @property
    def payment_intent(self) -> str | None:
        """The payment intent it names."""
        return self._named("payment_intent")

    def _named(self, member: str) -> str | None:
        named = self.object.get(member)
        if isinstance(named, dict):  # expanded
            named = named.get("id")
        # Anything can stand there: what is too long for an id, an index could not hold.
        return named if isinstance(named, str) and len(named) <= ID_LENGTH_MAX else None


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
    if type in KEPT_HERE:
        raise InvalidParameter(f"Invalid type: a {type} is kept by this ledger itself.", param="type")
    if event_type.endswith(DELETED):
        text = "Invalid event_type: what is deleted is told by DELETE, without its object."
        raise InvalidParameter(text, param="event_type")
    check_mode(object, livemode)
    whole = {"id": resource_id, "object": type} | object
    for member, expected in (("id", resource_id), ("object", type)):
        if whole[member] != expected:
            text = f"Invalid object[{member}]: must be '{expected}', as in the path."
            raise InvalidParameter(text, param=f"object[{member}]")
    known = state is not None and not state.deleted and same(state.object, whole)
    last = None if state is None else state.event_type
    if known and (event_type.endswith(UPDATED) or event_type == last):
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
            object=whole,
        )
    ]


def delete(state: Resource, event_type: str, *, now: int) -> list[DomainEvent]:
    """The end of a resource that is there. Raises InvalidParameter for a type that tells of none."""
    if not event_type.endswith(DELETED):
        text = "Invalid event_type: must end in '.deleted'; anything else is told by PUT, with the object."
        raise InvalidParameter(text, param="event_type")
    return [
        ResourceDeleted(
            originator_id=state.id, originator_version=state.version + 1, at=now, event_type=event_type
        )
    ]


def check_mode(object: dict[str, Any], livemode: bool) -> None:
    """Raises InvalidParameter for an object of the other mode: the two never meet (CONTRACT 1.2)."""
    if object.get("livemode", livemode) is not livemode:
        mode = "live" if livemode else "test"
        text = f"Invalid object[livemode]: must be {str(livemode).lower()}, for the key is a {mode} mode key."
        raise InvalidParameter(text, param="object[livemode]")


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same: the order of members means nothing, 1 is 1.0 but not true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)
