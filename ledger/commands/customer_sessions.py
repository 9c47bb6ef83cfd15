"""Commands on customer sessions (contract §2.1, §6)."""

from __future__ import annotations

import hmac
from functools import partial

from ledger.call import Call
from ledger.commands.context import DecisionContext
from ledger.commands.execution import Decision
from ledger.commands.usable_objects import get_usable_param
from ledger.domain import customer_session
from ledger.domain.customer import Customer
from ledger.domain.customer_session import CustomerSession
from ledger.errors import InvalidParameter
from ledger.objects import expand, get_readable, get_target
from ledger.store.journal import Change, fold_changes
from ledger.wire import elements
from ledger.wire.customer_sessions import render_customer_session


async def create(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/customer_sessions`"""
    params = call.parameters
    if "customer_account" in params:
        raise InvalidParameter("API v2 accounts are not supported.", param="customer_account")
    customer = await get_usable_param(call, Customer, "customer", params["customer"], context.get)
    (event,) = customer_session.create(
        session_id=context.new_id("cuss"),
        account=call.account,
        livemode=call.livemode,
        customer=customer.id,
        components=params["components"],
        terms=context.environment.terms,
        now=now,
    )
    state = customer_session.evolve(None, event)
    secret = context.environment.derive_secret(state)
    answer = render_customer_session(state, secret)
    if call.expand:
        await expand(state, answer, call.expand, now, partial(get_readable, context.get))
    return Decision([Change(event, state)], answer, secret=secret, secret_of=state.id)


async def exchange(call: Call, context: DecisionContext, now: int) -> Decision:
    """`GET /v1/elements/sessions`: a GET that writes. It exchanges a session's client secret for an ephemeral
    key. The claim is an event at the session's next version, so exactly one of several concurrent exchanges
    succeeds; the others are decided again and refused."""
    params = call.parameters
    secrets = context.environment.session_secrets
    answer = elements.render_elements_session(
        context.new_id("elements_session"), params["type"], livemode=call.livemode
    )
    secret = params.get(customer_session.CLIENT_SECRET_PARAM)
    if secret is None:
        return Decision([], answer)
    session_id = secrets.parse_client_secret(secret, call.account, call.livemode)
    if session_id is None:
        raise _unknown_secret_error()
    state = await context.get(session_id)
    if not isinstance(state, CustomerSession) or not hmac.compare_digest(
        secrets.derive_client_secret(state), secret
    ):
        raise _unknown_secret_error()
    (event,) = customer_session.claim(state, now=now)
    customer = await context.get(state.customer)
    if not isinstance(customer, Customer) or customer.deleted or customer.redaction:
        raise _unknown_secret_error()
    state = customer_session.evolve(state, event)
    answer["customer"] = elements.render_elements_customer(state, secrets.derive_ephemeral_key(state))
    return Decision([Change(event, state)], answer)


async def revoke(call: Call, context: DecisionContext, now: int) -> Decision:
    """`DELETE /internal/v1/customer_sessions/{id}`"""
    state = await get_target(call, CustomerSession, context.get)
    changes = fold_changes(customer_session.revoke(state, now=now), state)
    after = changes[-1].state if changes else state
    assert isinstance(after, CustomerSession)
    return Decision(changes, elements.render_session_record(after, now))


def _unknown_secret_error() -> InvalidParameter:
    return InvalidParameter(
        "No such customer session: the client secret does not belong to this account and mode, or the "
        "customer was deleted or redacted.",
        code="resource_missing",
        param=customer_session.CLIENT_SECRET_PARAM,
    )
