"""Commands on webhook endpoints (contract §5.1, §5.2), and on what the internal API has of them besides.

Creating and deleting one also writes to the quota of its account and mode, so the limit on their number holds
exactly. The response to a creation, and to a rotation of the signing secret, shows that secret; a stored
reply does not (README, invariant 7).
"""

from __future__ import annotations

from ledger.call import Call
from ledger.commands.context import DecisionContext
from ledger.commands.execution import Decision, apply_and_render
from ledger.domain import webhook_endpoint, webhook_endpoint_decisions, webhook_endpoint_quota
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.domain.webhook_endpoint_quota import WebhookEndpointQuota
from ledger.objects import get_target, render_object
from ledger.store.journal import Change, fold_changes
from ledger.wire.webhook_endpoints import render_settings


async def create(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/webhook_endpoints`"""
    endpoint_id = context.new_id("we")
    changes = await decide_endpoint(call, context, now, endpoint_id)
    secret = context.environment.derive_endpoint_secret(endpoint_id, 1)
    answer = {**render_object(changes[-1].state, now), "secret": secret}
    return Decision(changes, answer, secret=secret, secret_of=endpoint_id)


async def update(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/webhook_endpoints/{id}`"""
    state = await get_target(call, WebhookEndpoint, context.get)
    webhook_endpoint_decisions.check_gets_snapshots(state)
    events = webhook_endpoint_decisions.update(state, call.parameters, now=now)
    return await apply_and_render(call, context, now, state, events)


async def delete(call: Call, context: DecisionContext, now: int) -> Decision:
    """`DELETE /v1/webhook_endpoints/{id}`"""
    state = await get_target(call, WebhookEndpoint, context.get)
    webhook_endpoint_decisions.check_gets_snapshots(state)
    changes = await decide_deletion(call, context, now, state)
    return Decision(changes, render_object(changes[-1].state, now))


async def decide_deletion(
    call: Call, context: DecisionContext, now: int, state: WebhookEndpoint
) -> list[Change]:
    """The changes that delete the endpoint; its own is the last. Raises UnknownObject."""
    events = webhook_endpoint_decisions.delete(state, now=now)
    quota = await _get_quota(call, context)
    assert quota is not None, "an endpoint is created together with its entry in the quota"
    release_events = webhook_endpoint_quota.release(quota, endpoint_id=state.id, now=now)
    return fold_changes([*release_events, *events], quota, state)


async def rotate_secret(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /internal/v1/webhooks/endpoints/{id}/rotate_secret`"""
    state = await get_target(call, WebhookEndpoint, context.get)
    overlap_seconds = call.parameters.get(
        "overlap_seconds", webhook_endpoint_decisions.OVERLAP_SECONDS_DEFAULT
    )
    changes = fold_changes(webhook_endpoint_decisions.rotate_secret(state, overlap_seconds, now=now), state)
    after = changes[-1].state
    assert isinstance(after, WebhookEndpoint)
    version = after.dispatch.secret_version
    secret = context.environment.derive_endpoint_secret(state.id, version)
    answer = {**render_settings(after, now), "secret": secret}
    return Decision(changes, answer, secret=secret, secret_of=f"{state.id}:{version}")


async def configure(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /internal/v1/webhooks/endpoints/{id}`"""
    state = await get_target(call, WebhookEndpoint, context.get)
    changes = fold_changes(webhook_endpoint_decisions.configure(state, call.parameters, now=now), state)
    after = changes[-1].state if changes else state
    assert isinstance(after, WebhookEndpoint)
    return Decision(changes, render_settings(after, now))


async def decide_endpoint(call: Call, context: DecisionContext, now: int, endpoint_id: str) -> list[Change]:
    """The changes that create the endpoint the call describes, which is an event destination if it has a
    name; the endpoint's own are the last. Raises what `webhook_endpoint_decisions.create_destination` raises,
    and InvalidState if the account has reached the limit."""
    account, livemode = call.account, call.livemode
    events = webhook_endpoint_decisions.create_any(
        endpoint_id=endpoint_id, account=account, livemode=livemode, params=call.parameters, now=now
    )
    created = webhook_endpoint.evolve(None, events[0])
    events += webhook_endpoint_decisions.configure(created, call.parameters, now=now)
    quota = await _get_quota(call, context)
    reserve_events = webhook_endpoint_quota.reserve(
        quota,
        account=account,
        livemode=livemode,
        endpoint_id=endpoint_id,
        endpoints_max=context.environment.terms.webhook_endpoints_max,
        now=now,
    )
    return fold_changes([*reserve_events, *events], quota)


async def _get_quota(call: Call, context: DecisionContext) -> WebhookEndpointQuota | None:
    quota = await context.get(webhook_endpoint_quota.get_stream_id(call.account, call.livemode))
    assert quota is None or isinstance(quota, WebhookEndpointQuota)
    return quota
