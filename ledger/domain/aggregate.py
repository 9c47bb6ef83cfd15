"""What every aggregate has in common: the fields each state begins with, and the header of its next event.

Each aggregate has a module of its own with its domain events (`EVENTS`), its state (a subclass of `State`)
and `evolve(state, event) -> state`. `ledger/wire/aggregates.py` lists them.
"""

from __future__ import annotations

from typing import TypedDict, TypeVar

import msgspec

from ledger.domain.event import DomainEvent
from ledger.errors import ObjectRedacted

Kind = TypeVar("Kind", bound="State")


class State(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An aggregate after its first `version` domain events. The garbage collector need not look at it: it is
    never part of a cycle.

    id         the stream: the object's public id
    account    id of the account it belongs to
    livemode   True in live mode, False in test mode; the two never mix (contract §1.2)
    redaction  how far the erasure of its personal data is: `processing` or `redacted`. Absent from the JSON
               of any other: rows of earlier releases stay as they are
    """

    id: str
    version: int
    account: str
    livemode: bool
    redaction: str | msgspec.UnsetType = msgspec.UNSET


class EventHeader(TypedDict):
    """The fields that every domain event has; see `DomainEvent`."""

    originator_id: str
    originator_version: int
    at: int


def next_header(state: State, now: int) -> EventHeader:
    """The header of the event that follows `state`, decided at `now` (unix seconds)."""
    return EventHeader(originator_id=state.id, originator_version=state.version + 1, at=now)


def mark_redacted(state: Kind, event: DomainEvent) -> Kind:
    """The aggregate after `event`, whose personal data was erased: it says so."""
    return msgspec.structs.replace(state, redaction=event.redaction)


def check_not_redacted(state: State, param: str | None = None) -> None:
    """Raises ObjectRedacted, param `param`, for an object whose personal data was erased, or is being
    erased."""
    if state.redaction:
        raise ObjectRedacted(state.id, param=param)
