"""Webhook endpoints: the URLs to which an account's Events are delivered (contract §5.1, §5.2, §10.5).

API v2 calls them event destinations; one that it has made may get thin events instead of snapshots. A URL
often contains a token, so it is a personal field, encrypted in the log. The secret that signs deliveries is
not stored: it is derived from the endpoint's id and the number of its secret, which a rotation raises. The
state of a deleted endpoint is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent, domain_event
from ledger.domain.redaction.rules import Rule, keep, redact_members, redact_metadata, redact_text

EVENT_TYPE_WILDCARD = "*"
"""In `enabled_events`: Events of every type, whatever else is listed."""

FROM_SELF = "@self"
"""In `events_from`: Events of the endpoint's own account."""
FROM_ACCOUNTS = "@accounts"
"""In `events_from`: Events of the accounts connected to it."""

_REDACTION: dict[str, Rule] = {
    "url": redact_text,
    "description": redact_text,
    "metadata": redact_metadata,
}


@domain_event
class WebhookEndpointCreated(DomainEvent):
    """The endpoint was created.

    connect      whether it receives the Events of connected accounts instead of the account's own
    api_version  version in which its Events are rendered; None: the account's default
    """

    TOPIC: ClassVar[str] = "webhook_endpoint.created"
    REDACTION: ClassVar[Mapping[str, Rule]] = _REDACTION
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    account: str
    livemode: bool
    url: str | None
    enabled_events: list[str]
    api_version: str | None
    connect: bool
    disabled: bool
    description: str | None
    metadata: dict[str, str] | None


@domain_event
class EventDestinationCreated(DomainEvent):
    """The endpoint was created as an event destination of API v2.

    thin         whether it gets thin events; then `enabled_events` are types of them, and there is no version
    events_from  FROM_SELF, FROM_ACCOUNTS, or both
    api_version  as in WebhookEndpointCreated
    """

    TOPIC: ClassVar[str] = "webhook_endpoint.destination_created"
    REDACTION: ClassVar[Mapping[str, Rule]] = {**_REDACTION, "name": redact_text}
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    account: str
    livemode: bool
    name: str | None
    url: str | None
    thin: bool
    enabled_events: list[str]
    events_from: list[str]
    api_version: str | None
    disabled: bool
    description: str | None
    metadata: dict[str, str] | None


@domain_event
class WebhookEndpointUpdated(DomainEvent):
    """`changes` maps each changed field (name, url, enabled_events, description, disabled, metadata) to its
    complete new value."""

    TOPIC: ClassVar[str] = "webhook_endpoint.updated"
    REDACTION: ClassVar[Mapping[str, Rule]] = {
        "changes": redact_members(
            {**_REDACTION, "name": redact_text, "enabled_events": keep, "disabled": keep}
        )
    }
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    changes: dict[str, Any] | None


@domain_event
class WebhookEndpointConfigured(DomainEvent):
    """`changes` maps each changed option (`webhook_endpoint_decisions`) to its new value."""

    TOPIC: ClassVar[str] = "webhook_endpoint.configured"

    changes: dict[str, bool]


@domain_event
class WebhookEndpointSecretRotated(DomainEvent):
    """From now on deliveries are signed by the secret of this number.

    secret_version        number of the new secret; the first one of an endpoint is 1
    previous_valid_until  until when they are signed by the previous secret, too, in unix seconds
    """

    TOPIC: ClassVar[str] = "webhook_endpoint.secret_rotated"

    secret_version: int
    previous_valid_until: int


@domain_event
class WebhookEndpointDisabled(DomainEvent):
    """The ledger has disabled the endpoint because it did not accept anything for too long.

    failing_since    time of the first attempt that failed, in unix seconds
    failed_attempts  how many failed since then, none in between succeeded
    status           what it answered last; None: it did not answer
    error            why it did not; None: it answered
    """

    TOPIC: ClassVar[str] = "webhook_endpoint.disabled"

    failing_since: int
    failed_attempts: int
    status: int | None
    error: str | None


@domain_event
class WebhookEndpointDeleted(DomainEvent):
    """The endpoint was deleted; nothing is delivered to it any more."""

    TOPIC: ClassVar[str] = "webhook_endpoint.deleted"


EVENTS: tuple[type[DomainEvent], ...] = (
    WebhookEndpointCreated,
    EventDestinationCreated,
    WebhookEndpointUpdated,
    WebhookEndpointConfigured,
    WebhookEndpointSecretRotated,
    WebhookEndpointDisabled,
    WebhookEndpointDeleted,
)


class Dispatch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How Events are sent to an endpoint.

    ordered                      whether those of one object are sent one after another, in order
    standard_webhooks            whether the headers of Standard Webhooks are sent, too
    secret_version               number of the secret that signs
    previous_secret_valid_until  until when the secret before it signs, too, in unix seconds
    enabled_at                   when the endpoint was enabled again after the ledger had disabled it
    """

    ordered: bool = False
    standard_webhooks: bool = False
    secret_version: int = 1
    previous_secret_valid_until: int = 0
    enabled_at: int = 0


_DEFAULT_DISPATCH = Dispatch()


class Destination(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an endpoint has as an event destination: `name` ('' after its erasure), and the rest as in
    EventDestinationCreated."""

    name: str
    thin: bool
    events_from: list[str]


class WebhookEndpoint(State, frozen=True, kw_only=True):
    """A webhook endpoint. `url` is '' after its erasure; `connect` as in WebhookEndpointCreated, and true for
    one that gets both kinds of Events."""

    created: int
    url: str
    enabled_events: list[str]
    api_version: str | None
    connect: bool
    disabled: bool
    description: str | None
    metadata: dict[str, str]
    deleted: bool = False
    # Absent from the JSON of an endpoint of which all is as by default: rows of earlier releases stay as they
    # are.
    own_dispatch: Dispatch | msgspec.UnsetType = msgspec.UNSET
    own_destination: Destination | msgspec.UnsetType = msgspec.UNSET

    @property
    def dispatch(self) -> Dispatch:
        """How Events are sent to it."""
        return _DEFAULT_DISPATCH if self.own_dispatch is msgspec.UNSET else self.own_dispatch

    @property
    def destination(self) -> Destination:
        """What it has as an event destination; one that API v1 has made, and v2 has not named, has its id as
        its name."""
        if self.own_destination is not msgspec.UNSET:
            return self.own_destination
        events_from = [FROM_ACCOUNTS if self.connect else FROM_SELF]
        return Destination(name=self.id, thin=False, events_from=events_from)

    @property
    def name(self) -> str:
        """The name of the event destination."""
        return self.destination.name

    @property
    def is_thin(self) -> bool:
        """Whether it gets thin events: then API v1 does not know it."""
        return self.own_destination is not msgspec.UNSET and self.own_destination.thin

    @property
    def thin(self) -> bool | None:
        """The same for its row of the projection, where false is None, as in rows of earlier releases."""
        return self.is_thin or None

    def gets_events_of(self, account: str) -> bool:
        """Whether it gets Events of `account`: its own, or one connected to it."""
        if self.own_destination is msgspec.UNSET:
            return self.connect == (account != self.account)
        return (FROM_SELF if account == self.account else FROM_ACCOUNTS) in self.own_destination.events_from


def evolve(state: WebhookEndpoint | None, event: DomainEvent) -> WebhookEndpoint:
    """The endpoint after `event`. Raises TypeError for an event of another aggregate."""
    match event:
        case WebhookEndpointCreated():
            return WebhookEndpoint(
                id=event.originator_id,
                version=event.originator_version,
                account=event.account,
                livemode=event.livemode,
                created=event.at,
                url=event.url or "",
                enabled_events=event.enabled_events,
                api_version=event.api_version,
                connect=event.connect,
                disabled=event.disabled,
                description=event.description,
                metadata=event.metadata or {},
            )
        case EventDestinationCreated():
            return WebhookEndpoint(
                id=event.originator_id,
                version=event.originator_version,
                account=event.account,
                livemode=event.livemode,
                created=event.at,
                url=event.url or "",
                enabled_events=event.enabled_events,
                api_version=event.api_version,
                connect=FROM_ACCOUNTS in event.events_from,
                disabled=event.disabled,
                description=event.description,
                metadata=event.metadata or {},
                own_destination=Destination(
                    name=event.name or "", thin=event.thin, events_from=event.events_from
                ),
            )
        case WebhookEndpointUpdated():
            assert state is not None
            after = _apply_changes(state, event)
            is_enabled_again = state.disabled and not after.disabled
            if is_enabled_again and after.own_dispatch is not msgspec.UNSET:
                return _replace_dispatch(after, event, enabled_at=event.at)
            return after
        case WebhookEndpointConfigured():
            return _replace_dispatch(state, event, **event.changes)
        case WebhookEndpointSecretRotated():
            return _replace_dispatch(
                state,
                event,
                secret_version=event.secret_version,
                previous_secret_valid_until=event.previous_valid_until,
            )
        case WebhookEndpointDisabled():
            return msgspec.structs.replace(_replace_dispatch(state, event), disabled=True)
        case WebhookEndpointDeleted():
            assert state is not None
            return msgspec.structs.replace(state, version=event.originator_version, deleted=True)
    raise TypeError(f"{type(event).__name__} is not a webhook endpoint event")


def _apply_changes(state: WebhookEndpoint, event: WebhookEndpointUpdated) -> WebhookEndpoint:
    changes = dict(event.changes or {})
    if "name" in changes:
        changes["own_destination"] = msgspec.structs.replace(state.destination, name=changes.pop("name"))
    return msgspec.structs.replace(state, version=event.originator_version, **changes)


def _replace_dispatch(state: WebhookEndpoint | None, event: DomainEvent, **changes: Any) -> WebhookEndpoint:
    assert state is not None
    dispatch = msgspec.structs.replace(state.dispatch, **changes)
    return msgspec.structs.replace(state, version=event.originator_version, own_dispatch=dispatch)
