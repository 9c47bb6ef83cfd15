"""Webhook endpoints: the URLs to which an account's Events are delivered (contract §5.1, §5.2).

A URL often contains a token, so it is a personal field, encrypted in the log. The secret that signs
deliveries is not stored: it is derived from the endpoint's id. The state of a deleted endpoint is kept.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from ledger.domain import merge_patch
from ledger.domain.aggregate import State, next_header
from ledger.domain.event import DomainEvent, domain_event
from ledger.errors import InvalidParameter, UnknownObject

EVENT_TYPE_WILDCARD = "*"
"""In `enabled_events`: Events of every type, whatever else is listed."""
URL_LENGTH_MAX = 2048
HOST_LENGTH_MAX = 253
PORT_MAX = 65_535

_UPDATABLE_FIELDS = ("url", "enabled_events", "description", "disabled")
_match_url_characters = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+").fullmatch  # RFC 3986
_match_authority = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::([0-9]{0,5}))?").fullmatch
_match_label = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_\-]{0,61}[A-Za-z0-9_])?").fullmatch


@domain_event
class WebhookEndpointCreated(DomainEvent):
    """The endpoint was created.

    connect      whether it receives the Events of connected accounts instead of the account's own
    api_version  version in which its Events are rendered; None: the account's default
    """

    TOPIC: ClassVar[str] = "webhook_endpoint.created"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"url", "description", "metadata"})

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
class WebhookEndpointUpdated(DomainEvent):
    """`changes` maps each changed field (url, enabled_events, description, disabled, metadata) to its
    complete new value."""

    TOPIC: ClassVar[str] = "webhook_endpoint.updated"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"changes"})

    changes: dict[str, Any] | None


@domain_event
class WebhookEndpointDeleted(DomainEvent):
    """The endpoint was deleted; nothing is delivered to it any more."""

    TOPIC: ClassVar[str] = "webhook_endpoint.deleted"


EVENTS: tuple[type[DomainEvent], ...] = (
    WebhookEndpointCreated,
    WebhookEndpointUpdated,
    WebhookEndpointDeleted,
)


class WebhookEndpoint(State, frozen=True, kw_only=True):
    """A webhook endpoint. `url` is '' after its erasure."""

    created: int
    url: str
    enabled_events: list[str]
    api_version: str | None
    connect: bool
    disabled: bool
    description: str | None
    metadata: dict[str, str]
    deleted: bool = False


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
        case WebhookEndpointUpdated():
            assert state is not None
            return msgspec.structs.replace(state, version=event.originator_version, **event.changes or {})
        case WebhookEndpointDeleted():
            assert state is not None
            return msgspec.structs.replace(state, version=event.originator_version, deleted=True)
    raise TypeError(f"{type(event).__name__} is not a webhook endpoint event")


def create(
    *, endpoint_id: str, account: str, livemode: bool, params: Mapping[str, Any], now: int
) -> list[DomainEvent]:
    """A new endpoint. `params` has at least `url` and `enabled_events` (known event types or `*`).

    Raises InvalidParameter for a URL that `check_url` refuses and for metadata beyond its limits.
    """
    check_url(params["url"], livemode=livemode)
    return [
        WebhookEndpointCreated(
            originator_id=endpoint_id,
            originator_version=1,
            at=now,
            account=account,
            livemode=livemode,
            url=params["url"],
            enabled_events=params["enabled_events"],
            api_version=params.get("api_version"),
            connect=params.get("connect", False),
            disabled=params.get("disabled", False),
            description=params.get("description"),
            metadata=merge_patch.merge_metadata({}, params.get("metadata", {})),
        )
    ]


def update(state: WebhookEndpoint, params: Mapping[str, Any], *, now: int) -> list[DomainEvent]:
    """Changes the fields named in `params`: absent ones keep their values, a description of None is unset.

    Returns [] if nothing changes. Raises UnknownObject for a deleted endpoint, and what `create` raises.
    """
    check_not_deleted(state)
    if "url" in params:
        check_url(params["url"], livemode=state.livemode)
    after = {name: params[name] for name in _UPDATABLE_FIELDS if name in params}
    if "metadata" in params:
        after["metadata"] = merge_patch.merge_metadata(state.metadata, params["metadata"])
    changes = merge_patch.find_changes(state, after)
    return [WebhookEndpointUpdated(**next_header(state, now), changes=changes)] if changes else []


def delete(state: WebhookEndpoint, *, now: int) -> list[DomainEvent]:
    """Deletes the endpoint. Raises UnknownObject if it is deleted already."""
    check_not_deleted(state)
    return [WebhookEndpointDeleted(**next_header(state, now))]


def check_not_deleted(state: WebhookEndpoint) -> None:
    """Raises UnknownObject for a deleted endpoint. It cannot be retrieved; a deleted customer can."""
    if state.deleted:
        raise UnknownObject("webhook endpoint", state.id, param="webhook_endpoint")


def check_url(url: str, *, livemode: bool) -> None:
    """Raises InvalidParameter, code `url_invalid`, for a URL that contract §5.2 refuses.

    The message never repeats the URL, which may contain a token. The host name is resolved at each delivery
    and not here: its address may change, and an error here would reveal names of our own network.
    """
    problem = _find_url_problem(url, livemode)
    if problem:
        raise InvalidParameter(f"Invalid URL: {problem}", code="url_invalid", param="url")


def _find_url_problem(url: str, livemode: bool) -> str | None:
    if len(url) > URL_LENGTH_MAX:
        return f"it must be at most {URL_LENGTH_MAX} characters; yours has {len(url)}."
    if _match_url_characters(url) is None:
        return "it contains characters that are not allowed in a URL; percent-encode them."
    scheme, separator, remainder = url.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return "an explicit scheme, http or https, must be provided."
    authority = re.split("[/?#]", remainder, maxsplit=1)[0]
    if "@" in authority:
        return "it must not contain a user name or password."
    match = _match_authority(authority)
    if match is None or not 1 <= int(match[3] or 1) <= PORT_MAX:
        return "it must have a host, optionally followed by a port."
    is_local = _is_local_address(match[1]) if match[1] else _is_local_host(match[2])
    if is_local is None:
        return "a valid host must be provided."
    if livemode and scheme.lower() != "https":
        return "an endpoint in live mode must use https."
    if livemode and is_local:
        return "an endpoint in live mode must not have a loopback address."
    return None


def _is_local_host(host: str) -> bool | None:
    """Whether a host name or IPv4 address is the local machine; None if it is neither."""
    labels = host.lower().removesuffix(".").split(".")
    if len(host) > HOST_LENGTH_MAX or not all(map(_match_label, labels)):
        return None
    if labels[-1].isdecimal():  # an address: the last label of a name is never numeric (RFC 3696, 2)
        return _is_local_address(host)
    return labels[-1] == "localhost"


def _is_local_address(host: str) -> bool | None:
    """Whether an IP address is a loopback address; None if it is no IP address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return None
