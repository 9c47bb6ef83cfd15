"""Commands on event destinations (contract §10.5): the webhook endpoints of API v2.

The signing secret is shown once, in the answer to the creation, to who asks for it; a stored reply does not
have it (README, invariant 7).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ledger.call import Call
from ledger.commands.context import DecisionContext
from ledger.commands.execution import Decision
from ledger.commands.webhook_endpoints import decide_deletion, decide_endpoint
from ledger.domain import webhook_endpoint_decisions
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.errors import InvalidParameter
from ledger.objects import get_destination
from ledger.store.journal import Change, fold_changes
from ledger.wire.event_destinations import (
    INCLUDE_SECRET,
    check_enabled_events,
    render_deletion,
    render_destination,
)


async def create(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v2/core/event_destinations`"""
    params = call.parameters
    thin = params["event_payload"] == "thin"
    check_enabled_events(params["enabled_events"], thin=thin)
    asked = _to_endpoint(params) | {"thin": thin}
    destination_id = context.new_id("ed" if thin else "we")
    with _name_member_of_url():
        changes = await decide_endpoint(call.replace(parameters=asked), context, now, destination_id)
    state = _get_state(changes)
    events = [change.event for change in changes if change.event.originator_id == destination_id]
    include = params.get("include", ())
    if INCLUDE_SECRET not in include:
        return Decision(changes, render_destination(state, events, include=include))
    secret = context.environment.derive_endpoint_secret(destination_id, 1)
    answer = render_destination(state, events, include=include, secret=secret)
    return Decision(changes, answer, secret=secret, secret_of=destination_id)


async def update(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v2/core/event_destinations/{id}`"""
    return await _update(call, context, now, _to_endpoint(call.parameters))


async def enable(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v2/core/event_destinations/{id}/enable`"""
    return await _update(call, context, now, {"disabled": False})


async def disable(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v2/core/event_destinations/{id}/disable`"""
    return await _update(call, context, now, {"disabled": True})


async def delete(call: Call, context: DecisionContext, now: int) -> Decision:
    """`DELETE /v2/core/event_destinations/{id}`"""
    state = await get_destination(call, context.get)
    return Decision(await decide_deletion(call, context, now, state), render_deletion(state.id))


async def _update(call: Call, context: DecisionContext, now: int, asked: Mapping[str, Any]) -> Decision:
    state = await get_destination(call, context.get)
    if "enabled_events" in asked:
        check_enabled_events(asked["enabled_events"], thin=state.is_thin)
    with _name_member_of_url():
        changes = fold_changes(webhook_endpoint_decisions.update(state, asked, now=now), state)
    events = [*await context.get_events(state.id), *(change.event for change in changes)]
    after = _get_state(changes) if changes else state
    answer = render_destination(after, events, include=call.parameters.get("include", ()))
    return Decision(changes, answer)


def _to_endpoint(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of an endpoint that those of a destination mean."""
    kept = ("name", "enabled_events", "events_from", "metadata")
    asked = {name: params[name] for name in kept if name in params}
    if "description" in params:
        asked["description"] = params["description"] or None
    if "snapshot_api_version" in params:
        asked["api_version"] = params["snapshot_api_version"]
    if "webhook_endpoint" in params:
        asked["url"] = params["webhook_endpoint"]["url"]
    return asked


def _get_state(changes: list[Change]) -> WebhookEndpoint:
    state = changes[-1].state
    assert isinstance(state, WebhookEndpoint)
    return state


@contextmanager
def _name_member_of_url() -> Iterator[None]:
    """Has the error for a URL name the member where it is."""
    try:
        yield
    except InvalidParameter as error:
        if error.param != "url":
            raise
        raise InvalidParameter(error.message, code=error.code, param="webhook_endpoint[url]") from None
