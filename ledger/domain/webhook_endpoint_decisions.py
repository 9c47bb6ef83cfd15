"""Decisions on webhook endpoints: create, update, configure, rotate the secret, disable, delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ledger.domain import merge_patch
from ledger.domain.aggregate import next_header
from ledger.domain.event import DomainEvent
from ledger.domain.money import DAY_SECONDS
from ledger.domain.webhook_endpoint import (
    FROM_ACCOUNTS,
    FROM_SELF,
    EventDestinationCreated,
    WebhookEndpoint,
    WebhookEndpointConfigured,
    WebhookEndpointCreated,
    WebhookEndpointDeleted,
    WebhookEndpointDisabled,
    WebhookEndpointSecretRotated,
    WebhookEndpointUpdated,
    evolve,
)
from ledger.domain.webhook_urls import check_url
from ledger.errors import InvalidParameter, InvalidWebhookState, UnknownObject

OVERLAP_SECONDS_DEFAULT = DAY_SECONDS
OVERLAP_SECONDS_MAX = 7 * DAY_SECONDS
OPTIONS = ("ordered", "standard_webhooks")
"""What `configure` changes: options of this ledger that Stripe's endpoints do not have."""

DisabledReason = Literal["user", "delivery_failures"]

_UPDATABLE_FIELDS = ("name", "url", "enabled_events", "description", "disabled")


def create_any(
    *, endpoint_id: str, account: str, livemode: bool, params: Mapping[str, Any], now: int
) -> list[DomainEvent]:
    """A new endpoint, which is an event destination if `params` has a name. Raises what the two raise."""
    decide = create_destination if "name" in params else create
    return decide(endpoint_id=endpoint_id, account=account, livemode=livemode, params=params, now=now)


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


def create_destination(
    *, endpoint_id: str, account: str, livemode: bool, params: Mapping[str, Any], now: int
) -> list[DomainEvent]:
    """A new event destination. `params` has at least `name`, `url`, `thin` and `enabled_events` (known types
    of thin events, or of snapshots, or `*`); `events_from` is that of its own account by default.

    Raises what `create` raises, and InvalidParameter for one that does not apply to its payload.
    """
    check_url(params["url"], livemode=livemode)
    events_from = params.get("events_from", [FROM_SELF])
    if params["thin"] and params.get("api_version") is not None:
        raise InvalidParameter(
            "Invalid snapshot_api_version: thin events have no version; leave it out, or pass an "
            "event_payload of snapshot.",
            param="snapshot_api_version",
        )
    if not params["thin"] and len(events_from) > 1:
        raise InvalidParameter(
            f"Invalid events_from: with an event_payload of snapshot it must be either {FROM_SELF} or "
            f"{FROM_ACCOUNTS}; create a destination for each.",
            param="events_from",
        )
    return [
        EventDestinationCreated(
            originator_id=endpoint_id,
            originator_version=1,
            at=now,
            account=account,
            livemode=livemode,
            name=params["name"],
            url=params["url"],
            thin=params["thin"],
            enabled_events=params["enabled_events"],
            events_from=events_from,
            api_version=params.get("api_version"),
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


def find_disabled_reason(events: Sequence[DomainEvent]) -> DisabledReason | None:
    """Why an endpoint with these events is disabled: somebody has done it, or the ledger has after too many
    failures; None if it is enabled."""
    reason: DisabledReason | None = None
    state: WebhookEndpoint | None = None
    for event in events:
        before, state = state, evolve(state, event)
        if not state.disabled:
            reason = None
        elif before is None or not before.disabled:
            reason = "delivery_failures" if isinstance(event, WebhookEndpointDisabled) else "user"
    return reason


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


def check_gets_snapshots(state: WebhookEndpoint) -> None:
    """Raises UnknownObject for a destination of thin events: API v1 cannot show it."""
    if state.is_thin:
        hint = ". It is an event destination of thin events: use /v2/core/event_destinations."
        raise UnknownObject("webhook endpoint", state.id, param="webhook_endpoint", hint=hint)


def check_not_deleted(state: WebhookEndpoint) -> None:
    """Raises UnknownObject for a deleted endpoint. It cannot be retrieved; a deleted customer can."""
    if state.deleted:
        raise UnknownObject("webhook endpoint", state.id, param="webhook_endpoint")
