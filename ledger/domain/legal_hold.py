"""Legal holds: an object that must not be erased, for as long as somebody says so.

One stream for each held object, so that whoever erases the object can expect its version: a hold that is
placed meanwhile is seen. A hold is placed on an object that has a data key of its own: a customer, or what
belongs to none. It can be placed again after it was released.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from ledger.domain.aggregate import State, next_header
from ledger.domain.event import DomainEvent, domain_event
from ledger.domain.redaction.rules import Rule, redact_text
from ledger.errors import InvalidState

_PREFIX = "hold_"


@domain_event
class LegalHoldPlaced(DomainEvent):
    """`object_id`, an object of the type `object_type`, must not be erased.

    reason  why; it is sealed, for it may name people
    by      who says so
    """

    TOPIC: ClassVar[str] = "legal_hold.placed"
    REDACTION: ClassVar[Mapping[str, Rule]] = {"reason": redact_text}
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    account: str
    livemode: bool
    object_id: str
    object_type: str
    reason: str | None
    by: str


@domain_event
class LegalHoldReleased(DomainEvent):
    """The object may be erased again; `reason` and `by` as above."""

    TOPIC: ClassVar[str] = "legal_hold.released"
    REDACTION: ClassVar[Mapping[str, Rule]] = {"reason": redact_text}
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    reason: str | None
    by: str


EVENTS: tuple[type[DomainEvent], ...] = (LegalHoldPlaced, LegalHoldReleased)


class LegalHold(State, frozen=True, kw_only=True):
    """The hold of one object. The times are in unix seconds: `created` is when it was first placed,
    `placed_at` and `released_at` are of the last time; `released_at` is None while the object is held."""

    created: int
    object_id: str
    object_type: str
    reason: str | None
    placed_by: str
    placed_at: int
    released_by: str | None = None
    released_at: int | None = None
    release_reason: str | None = None

    @property
    def active(self) -> bool:
        """Whether the object must not be erased."""
        return self.released_at is None

    @property
    def customer(self) -> str | None:
        """Id of the held customer: by it the log finds the hold, and what it says is sealed."""
        return self.object_id if self.object_type == "customer" else None

    @property
    def charge(self) -> str | None:
        """Id of the held charge."""
        return self.object_id if self.object_type == "charge" else None

    @property
    def payment_intent(self) -> str | None:
        """Id of the held payment intent."""
        return self.object_id if self.object_type == "payment_intent" else None


def evolve(state: LegalHold | None, event: DomainEvent) -> LegalHold:
    """The hold after `event`. Raises TypeError for an event of another aggregate."""
    match event:
        case LegalHoldPlaced():
            return LegalHold(
                id=event.originator_id,
                version=event.originator_version,
                account=event.account,
                livemode=event.livemode,
                created=state.created if state is not None else event.at,
                object_id=event.object_id,
                object_type=event.object_type,
                reason=event.reason,
                placed_by=event.by,
                placed_at=event.at,
            )
        case LegalHoldReleased():
            assert state is not None
            return msgspec.structs.replace(
                state,
                version=event.originator_version,
                released_by=event.by,
                released_at=event.at,
                release_reason=event.reason,
            )
    raise TypeError(f"{type(event).__name__} is not an event of a legal hold")


def find_hold_id(object_id: str) -> str:
    """The stream of an object's hold."""
    return _PREFIX + object_id


def place(
    state: LegalHold | None,
    *,
    account: str,
    livemode: bool,
    object_id: str,
    object_type: str,
    reason: str,
    by: str,
    now: int,
) -> list[DomainEvent]:
    """Holds the object. Raises InvalidState if it is held."""
    if state is not None and state.active:
        raise InvalidState(f"{object_id} is under a legal hold already.", param="object")
    return [
        LegalHoldPlaced(
            originator_id=find_hold_id(object_id),
            originator_version=(state.version if state is not None else 0) + 1,
            at=now,
            account=account,
            livemode=livemode,
            object_id=object_id,
            object_type=object_type,
            reason=reason,
            by=by,
        )
    ]


def release(state: LegalHold, *, reason: str, by: str, now: int) -> list[DomainEvent]:
    """Ends the hold. Raises InvalidState if it has ended."""
    if not state.active:
        raise InvalidState(f"The legal hold of {state.object_id} has been released already.")
    return [LegalHoldReleased(**next_header(state, now), reason=reason, by=by)]
