"""Webhook endpoints: the URLs to which an account's Events are delivered (contract §5.1, §5.2).

A URL often contains a token, so it is a personal field, encrypted in the log. The secret that signs
deliveries is not stored: it is derived from the endpoint's id and the number of its secret, which a rotation
raises. The state of a deleted endpoint is kept.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from ledger.domain import merge_patch
from ledger.domain.aggregate import State, next_header
from ledger.domain.event import DomainEvent, domain_event
from ledger.domain.money import DAY_SECONDS
from ledger.errors import InvalidParameter, InvalidWebhookState, UnknownObject

EVENT_TYPE_WILDCARD = "*"
"""In `enabled_events`: Events of every type, whatever else is listed."""
URL_LENGTH_MAX = 2048
HOST_LENGTH_MAX = 253
PORT_MAX = 65_535
OVERLAP_SECONDS_DEFAULT = DAY_SECONDS
OVERLAP_SECONDS_MAX = 7 * DAY_SECONDS
OPTIONS = ("ordered", "standard_webhooks")
"""What `configure` changes: options of this ledger that Stripe's endpoints do not have."""

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
class WebhookEndpointConfigured(DomainEvent):
    """`changes` maps each changed option (OPTIONS) to its new value."""

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
    # Absent from the JSON of an endpoint of which all is as by default: rows of earlier releases stay as they
    # are.
    own_dispatch: Dispatch | msgspec.UnsetType = msgspec.UNSET

    @property
    def dispatch(self) -> Dispatch:
        """How Events are sent to it."""
        return _DEFAULT_DISPATCH if self.own_dispatch is msgspec.UNSET else self.own_dispatch


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
            after = msgspec.structs.replace(state, version=event.originator_version, **event.changes or {})
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


def _replace_dispatch(state: WebhookEndpoint | None, event: DomainEvent, **changes: Any) -> WebhookEndpoint:
    assert state is not None
    dispatch = msgspec.structs.replace(state.dispatch, **changes)
    return msgspec.structs.replace(state, version=event.originator_version, own_dispatch=dispatch)


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


def configure(state: WebhookEndpoint, options: Mapping[str, bool], *, now: int) -> list[DomainEvent]:
    """Changes the options named (OPTIONS). Returns [] if nothing changes. Raises UnknownObject for a deleted
    endpoint."""
    check_not_deleted(state)
    changes = {
        name: options[name]
        for name in OPTIONS
        if name in options and options[name] != getattr(state.dispatch, name)
    }
    return [WebhookEndpointConfigured(**next_header(state, now), changes=changes)] if changes else []


def get_first_options(events: Sequence[DomainEvent]) -> dict[str, bool]:
    """The options that an endpoint with these events was created with: an import configures it at once."""
    configured = events[1] if len(events) > 1 else None
    changes = configured.changes if isinstance(configured, WebhookEndpointConfigured) else {}
    return {name: changes.get(name, False) for name in OPTIONS}


def rotate_secret(state: WebhookEndpoint, overlap_seconds: int, *, now: int) -> list[DomainEvent]:
    """Replaces the signing secret; the previous one signs, too, for `overlap_seconds`.

    At most two secrets are valid at a time. So while there are two, only a rotation without an overlap is
    accepted, which ends both: another one would end the older secret unasked, or keep a third one valid.
    Raises UnknownObject for a deleted endpoint, InvalidParameter, InvalidWebhookState.
    """
    check_not_deleted(state)
    if not 0 <= overlap_seconds <= OVERLAP_SECONDS_MAX:
        raise InvalidParameter(
            f"Invalid overlap_seconds: must be between 0 and {OVERLAP_SECONDS_MAX} (7 days).",
            param="overlap_seconds",
        )
    valid_until = state.dispatch.previous_secret_valid_until
    if overlap_seconds and now < valid_until:
        raise InvalidWebhookState(
            f"The previous secret of this endpoint is valid for another {valid_until - now} seconds. Wait "
            "until then, or pass an overlap_seconds of 0, which ends both secrets at once.",
            param="overlap_seconds",
        )
    return [
        WebhookEndpointSecretRotated(
            **next_header(state, now),
            secret_version=state.dispatch.secret_version + 1,
            previous_valid_until=now + overlap_seconds,
        )
    ]


def disable_failing(
    state: WebhookEndpoint,
    *,
    failing_since: int,
    failed_attempts: int,
    after_seconds: int,
    status: int | None,
    error: str | None,
    now: int,
) -> list[DomainEvent]:
    """Disables an endpoint that has accepted nothing since `failing_since`, or since it was enabled again, if
    that is `after_seconds` ago at the attempt `now`. Returns [] otherwise, and if nothing is sent to it."""
    began = max(failing_since, state.dispatch.enabled_at)
    if state.deleted or state.disabled or now - began < after_seconds:
        return []
    return [
        WebhookEndpointDisabled(
            **next_header(state, now),
            failing_since=began,
            failed_attempts=failed_attempts,
            status=status,
            error=error,
        )
    ]


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
