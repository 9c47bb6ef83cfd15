"""Webhook endpoints: where an account has its Events sent, and which of them (contract §5.1, §5.2).

An address often carries a token, so `url` is sealed inside events. The secret that deliveries are signed with
is nowhere here: it is derived elsewhere from the endpoint's id. A deleted endpoint keeps its last state.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from ledger.domain import merge_patch
from ledger.domain.event import DomainEvent
from ledger.errors import InvalidParameter, UnknownObject

EVENT_TYPE_WILDCARD = "*"
"""Among `enabled_events`: all there are, whatever stands beside it."""
URL_LENGTH_MAX = 2048
HOST_LENGTH_MAX = 253
PORT_MAX = 65_535

_UPDATABLE_FIELDS = ("url", "enabled_events", "description", "disabled")
_match_url_characters = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+").fullmatch  # RFC 3986
_match_authority = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::([0-9]{0,5}))?").fullmatch
_match_label = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_\-]{0,61}[A-Za-z0-9_])?").fullmatch


@dataclass(frozen=True, kw_only=True)
class WebhookEndpointCreated(DomainEvent):
    """connect      it gets the Events of connected accounts, in place of the account's own
    api_version  that its Events are rendered in; None: the account's default
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


@dataclass(frozen=True, kw_only=True)
class WebhookEndpointUpdated(DomainEvent):
    """`changes` maps a changed field (url, enabled_events, description, disabled, metadata) to its whole new
    value."""

    TOPIC: ClassVar[str] = "webhook_endpoint.updated"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"changes"})

    changes: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class WebhookEndpointDeleted(DomainEvent):
    TOPIC: ClassVar[str] = "webhook_endpoint.deleted"


EVENTS: tuple[type[DomainEvent], ...] = (
    WebhookEndpointCreated,
    WebhookEndpointUpdated,
    WebhookEndpointDeleted,
)


class WebhookEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook endpoint as of `version`. `url` is '' once it was erased."""

    id: str
    version: int
    account: str
    livemode: bool
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
    raise TypeError(f"{type(event).__name__} is no event of a webhook endpoint")


def create(
    *, endpoint_id: str, account: str, livemode: bool, params: Mapping[str, Any], now: int
) -> list[DomainEvent]:
    """A new endpoint; `params` has `url` and `enabled_events`, known types or `*`, at least.

    Raises InvalidParameter for a url that `check_url` refuses, or past the limits of metadata.
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
    """Changes the fields `params`, where absent is unchanged and a description of None unset.

    Raises UnknownObject if deleted, and what `create` raises.
    """
    check_not_deleted(state)
    if "url" in params:
        check_url(params["url"], livemode=state.livemode)
    after = {name: params[name] for name in _UPDATABLE_FIELDS if name in params}
    if "metadata" in params:
        after["metadata"] = merge_patch.merge_metadata(state.metadata, params["metadata"])
    changes = {name: value for name, value in after.items() if getattr(state, name) != value}
    if not changes:
        return []
    return [
        WebhookEndpointUpdated(
            originator_id=state.id, originator_version=state.version + 1, at=now, changes=changes
        )
    ]


def delete(state: WebhookEndpoint, *, now: int) -> list[DomainEvent]:
    """Raises UnknownObject if it is deleted already."""
    check_not_deleted(state)
    return [WebhookEndpointDeleted(originator_id=state.id, originator_version=state.version + 1, at=now)]


def check_not_deleted(state: WebhookEndpoint) -> None:
    """Raises UnknownObject for one that was deleted: unlike a customer, it leaves no stub to read."""
    if state.deleted:
        raise UnknownObject("webhook endpoint", state.id, param="webhook_endpoint")


def check_url(url: str, *, livemode: bool) -> None:
    """Raises InvalidParameter (`url_invalid`) for what contract §5.2 refuses. No message repeats the address.

    Where the name leads is looked at when it is sent to: that may change, and an answer here would tell of
    the network inside.
    """
    problem = _find_url_problem(url, livemode)
    if problem:
        raise InvalidParameter(f"Invalid URL: {problem}", code="url_invalid", param="url")


def _find_url_problem(url: str, livemode: bool) -> str | None:
    if len(url) > URL_LENGTH_MAX:
        return f"it must be at most {URL_LENGTH_MAX} characters; yours has {len(url)}."
    if _match_url_characters(url) is None:
        return "it holds characters that a URL cannot; percent-encode them."
    scheme, separator, remainder = url.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return "an explicit scheme, http or https, must be provided."
    authority = re.split("[/?#]", remainder, maxsplit=1)[0]
    if "@" in authority:
        return "it must not hold a user name or password."
    match = _match_authority(authority)
    if match is None or not 1 <= int(match[3] or 1) <= PORT_MAX:
        return "a host, and after it nothing but a port, must be provided."
    is_local = _is_local_address(match[1]) if match[1] else _is_local_host(match[2])
    if is_local is None:
        return "a valid host must be provided."
    if livemode and scheme.lower() != "https":
        return "an endpoint in live mode must use https."
    if livemode and is_local:
        return "an endpoint in live mode must be reachable from elsewhere."
    return None


def _is_local_host(host: str) -> bool | None:
    """Whether it says the same machine; None for what is no host name or IPv4 address."""
    labels = host.lower().removesuffix(".").split(".")
    if len(host) > HOST_LENGTH_MAX or not all(map(_match_label, labels)):
        return None
    if labels[-1].isdecimal():  # a name's last label never is (RFC 3696, 2)
        return _is_local_address(host)
    return labels[-1] == "localhost"


def _is_local_address(host: str) -> bool | None:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return None
