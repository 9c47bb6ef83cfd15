"""The quota of webhook endpoints: which ones an account has in one mode, to limit their number (contract
§5.2).

Each endpoint has a stream of its own, so the versions of two concurrent creations do not conflict. Creating
and deleting an endpoint therefore also writes to the quota, one stream per account and mode: the append
accepts one of two concurrent commands, and the limit holds exactly in any number of processes.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from ledger.domain.aggregate import State, next_header
from ledger.domain.event import DomainEvent, domain_event
from ledger.errors import InvalidState


@domain_event
class EndpointQuotaReserved(DomainEvent):
    """The webhook endpoint with the id `endpoint` was created."""

    TOPIC: ClassVar[str] = "webhook_roster.enrolled"

    account: str
    livemode: bool
    endpoint: str


@domain_event
class EndpointQuotaReleased(DomainEvent):
    """The webhook endpoint with the id `endpoint` was deleted."""

    TOPIC: ClassVar[str] = "webhook_roster.struck"

    endpoint: str


EVENTS: tuple[type[DomainEvent], ...] = (EndpointQuotaReserved, EndpointQuotaReleased)


class WebhookEndpointQuota(State, frozen=True, kw_only=True):
    """A quota. `endpoints`: ids of the endpoints that are not deleted, oldest first."""

    created: int
    endpoints: list[str]


def get_stream_id(account: str, livemode: bool) -> str:
    """The stream of the quota. It contains a colon, so no id of an object can be equal to it."""
    return f"{account}:webhook_roster:{'live' if livemode else 'test'}"


def evolve(state: WebhookEndpointQuota | None, event: DomainEvent) -> WebhookEndpointQuota:
    """The quota after `event`. Raises TypeError for an event of another aggregate."""
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
    raise TypeError(f"{type(event).__name__} is not a webhook endpoint quota event")


def reserve(
    state: WebhookEndpointQuota | None,
    *,
    account: str,
    livemode: bool,
    endpoint_id: str,
    endpoints_max: int,
    now: int,
) -> list[DomainEvent]:
    """Reserves a place for a new endpoint, to be appended together with its creation.

    Raises InvalidState if the account already has `endpoints_max` endpoints in this mode (contract §5.2).
    """
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
    """Frees the place of an endpoint, to be appended together with its deletion."""
    return [EndpointQuotaReleased(**next_header(state, now), endpoint=endpoint_id)]
