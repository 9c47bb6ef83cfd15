"""The public Events of a recorded event as rows of the feed: derived from the log alone.

The feed's rows and whatever replaces one that the feed no longer has are made here, so both have the same
ids and the same bytes (README, invariant 4).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import msgspec

from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent
from ledger.wire.events import render_event_data
from ledger.wire.public_events import derive_event_id, derive_public_events
from ledger.wire.versions import LATEST_VERSION

_encode = msgspec.json.Encoder().encode


class _Recorded(Protocol):
    """What of a recorded event its public Events show, beside its aggregate."""

    @property
    def event(self) -> DomainEvent: ...
    @property
    def account(self) -> str: ...
    @property
    def livemode(self) -> bool: ...
    @property
    def request_id(self) -> str | None: ...
    @property
    def idempotency_key(self) -> str | None: ...
    @property
    def recorded_at(self) -> float: ...


class PublicEventRow(NamedTuple):
    """A row of the feed, in the order of its columns. `data` is the JSON that is served, not compressed;
    `object_id` is '' for an imported Event of an object that has no id, such as a balance."""

    id: str
    account: str
    livemode: bool
    created: int
    ordinal: int
    type: str
    object_id: str
    api_version: str
    request_id: str | None
    idempotency_key: str | None
    data: bytes


def derive_public_event_rows(before: State | None, recorded: _Recorded, after: State) -> list[PublicEventRow]:
    """The public Events of `recorded`, which changed its aggregate from `before` to `after`, in order."""
    event = recorded.event
    recorded_at = recorded.recorded_at
    return [
        PublicEventRow(
            derive_event_id(event, ordinal, recorded_at),
            recorded.account,
            recorded.livemode,
            int(recorded_at),
            ordinal,
            event_type,
            _get_object_id(payload),
            LATEST_VERSION,
            recorded.request_id,
            recorded.idempotency_key,
            _encode(render_event_data(payload, previous_attributes)),
        )
        for ordinal, (event_type, payload, previous_attributes) in enumerate(
            derive_public_events(before, event, after)
        )
    ]


def _get_object_id(payload: dict[str, Any]) -> str:
    object_id = payload.get("id")
    return object_id if isinstance(object_id, str) else ""
