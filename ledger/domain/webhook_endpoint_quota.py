"""The roster: which webhook endpoints an account has in one mode, so that their number has a limit.

Each endpoint has a stream of its own, and two that are made at once would not meet. Making and deleting one
also writes to the roster, one stream for account and mode, so the append lets one of them win: the limit
holds exactly, in any number of processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import msgspec

from ledger.domain.event import DomainEvent
from ledger.errors import InvalidState


@dataclass(frozen=True, kw_only=True)
class EndpointQuotaReserved(DomainEvent):
    """The webhook endpoint `endpoint` was made."""

    TOPIC: ClassVar[str] = "webhook_roster.enrolled"

    account: str
    livemode: bool
    endpoint: str


@dataclass(frozen=True, kw_only=True)
class EndpointQuotaReleased(DomainEvent):
    """The webhook endpoint `endpoint` was deleted."""

    TOPIC: ClassVar[str] = "webhook_roster.struck"

    endpoint: str


EVENTS: tuple[type[DomainEvent], ...] = (EndpointQuotaReserved, EndpointQuotaReleased)


class WebhookEndpointQuota(msgspec.Struct, frozen=True, kw_only=True):
    """A roster as of `version`. `endpoints`: ids of those not deleted, oldest first."""

    id: str
    version: int
    account: str
    livemode: bool
    created: int
    endpoints: list[str]


def get_stream_id(account: str, livemode: bool) -> str:
    """The roster's id. No object that a caller names can have it: their ids hold no colon."""
    return f"{account}:webhook_roster:{'live' if livemode else 'test'}"


def evolve(state: WebhookEndpointQuota | None, event: DomainEvent) -> WebhookEndpointQuota:
    match event:
        case EndpointQuotaReserved():
            return WebhookEndpointQuota(
                id=event.originator_id,
                version=event.originator_version,
                account=event.account,
                livemode=event.livemode,
                created=event.at if state is None else state.created,
                endpoints=[*(state.endpoints if state else ()), event.endpoint],
            )
        case EndpointQuotaReleased():
            assert state is not None
            endpoints = [endpoint_id for endpoint_id in state.endpoints if endpoint_id != event.endpoint]
            return msgspec.structs.replace(state, version=event.originator_version, endpoints=endpoints)
    raise TypeError(f"{type(event).__name__} is no event of a roster")


def reserve(
    state: WebhookEndpointQuota | None,
    *,
    account: str,
    livemode: bool,
    endpoint_id: str,
    endpoints_max: int,
    now: int,
) -> list[DomainEvent]:
    """To be appended together with the making of the endpoint. Raises InvalidState when the roster is full
    (contract §5.2)."""
    if state is not None and len(state.endpoints) >= endpoints_max:
        mode = "live" if livemode else "test"
        raise InvalidState(
            f"You have reached the maximum of {endpoints_max} {mode} webhook endpoints. "
            "Delete one that you no longer need before you create another."
        )
    return [
        EndpointQuotaReserved(
            originator_id=get_stream_id(account, livemode),
            originator_version=1 if state is None else state.version + 1,
            at=now,
            account=account,
            livemode=livemode,
            endpoint=endpoint_id,
        )
    ]


def release(state: WebhookEndpointQuota, *, endpoint_id: str, now: int) -> list[DomainEvent]:
    """To be appended together with the deletion of the endpoint."""
    return [
        EndpointQuotaReleased(
            originator_id=state.id, originator_version=state.version + 1, at=now, endpoint=endpoint_id
        )
    ]
