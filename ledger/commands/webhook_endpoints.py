"""Commands on webhook endpoints (CONTRACT 5.1, 5.2).

Making and deleting one also writes to the roster of its account and mode, so the limit on their number holds
exactly. The answer to a create tells the secret; a reply that is kept has it cut out (README, invariant 7).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ledger.call import Call
from ledger.commands.execution import Decide, Decided, Reading, answering
from ledger.domain import webhook_endpoint, webhook_endpoint_quota
from ledger.domain.event import DomainEvent
from ledger.domain.money import Terms
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.domain.webhook_endpoint_quota import WebhookRoster
from ledger.objects import addressed, shown
from ledger.store.codec import evolve
from ledger.store.journal import Change

SecretOf = Callable[[str], str]


def create(secret_of: SecretOf, terms: Terms) -> Decide:
    """`POST /v1/webhook_endpoints`"""

    async def decide(call: Call, reading: Reading, now: int) -> Decided:
        endpoint_id = reading.new_id("we")
        changes = await made(call, reading, now, endpoint_id=endpoint_id, terms=terms)
        secret = secret_of(endpoint_id)
        answer = {**shown(changes[-1].state, now), "secret": secret}
        return Decided(changes, answer, secret=secret, secret_of=endpoint_id)

    return decide


async def update(call: Call, reading: Reading, now: int) -> Decided:
    """`POST /v1/webhook_endpoints/{id}`"""
    state = await addressed(call, WebhookEndpoint, reading.state)
    events = webhook_endpoint.update(state, call.parameters, now=now)
    return await answering(call, reading, now, state, events)


async def delete(call: Call, reading: Reading, now: int) -> Decided:
    """`DELETE /v1/webhook_endpoints/{id}`"""
    state = await addressed(call, WebhookEndpoint, reading.state)
    events = webhook_endpoint.delete(state, now=now)
    roster = await _roster(call, reading)
    assert roster is not None, "an endpoint is made together with its place in the roster"
    struck = webhook_endpoint_quota.strike(roster, endpoint_id=state.id, now=now)
    changes = [*_changes(roster, struck), *_changes(state, events)]
    return Decided(changes, shown(changes[-1].state, now))


async def made(call: Call, reading: Reading, now: int, *, endpoint_id: str, terms: Terms) -> list[Change]:
    """What makes the endpoint that the call asks for; its own change is the last. Raises what
    `webhook_endpoint.create` does, and StateForbids when the account has all it may have."""
    account, livemode = call.account, call.livemode
    events = webhook_endpoint.create(
        endpoint_id=endpoint_id, account=account, livemode=livemode, given=call.parameters, now=now
    )
    roster = await _roster(call, reading)
    enrolled = webhook_endpoint_quota.enroll(
        roster,
        account=account,
        livemode=livemode,
        endpoint_id=endpoint_id,
        endpoints_max=terms.webhook_endpoints_max,
        now=now,
    )
    return [*_changes(roster, enrolled), *_changes(None, events)]


async def _roster(call: Call, reading: Reading) -> WebhookRoster | None:
    roster = await reading.state(webhook_endpoint_quota.stream_of(call.account, call.livemode))
    assert roster is None or isinstance(roster, WebhookRoster)
    return roster


def _changes(state: WebhookEndpoint | WebhookRoster | None, events: Sequence[DomainEvent]) -> list[Change]:
    (event,) = events
    return [Change(event, evolve(state, event))]
