"""`POST /v1/events/{id}/retry`: the route that the Stripe CLI uses to send an Event again (contract §4.5).

It goes to an endpoint that is named, also to one that is not subscribed to its type or did not exist then:
somebody asked for it. Or to the listeners of the Stripe CLI. The id of its thin event names the same Event.
"""

from __future__ import annotations

from typing import Any

from ledger.call import Call
from ledger.commands.execution import MakeChange
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.errors import InvalidParameter, InvalidState, UnknownObject
from ledger.objects import other_mode_hint
from ledger.postgres.connections import Conn, fetch_one
from ledger.queries.context import QueryContext
from ledger.queries.events import COUNT_OWED, fetch_event, render_event
from ledger.stripe_cli.sessions import resend
from ledger.webhooks.history.retry import Request, send_event
from ledger.webhooks.subscriptions import FeedEvent
from ledger.wire.thin_events import to_snapshot_id

_SELECT_PLATFORM = "SELECT platform FROM ledger.accounts WHERE id = %(account)s"
_COUNT_OWED = f"SELECT {COUNT_OWED.format(event='%(event)s')}"


async def retry_event(call: Call, context: QueryContext) -> tuple[MakeChange, str | None]:
    """What sends the Event again, and answers with it; and whose personal data it has, None if nobody's.
    Raises RequestError."""
    params = call.parameters
    call = call.replace(target=to_snapshot_id(call.target) or call.target)
    endpoint_id, to_listeners = params.get("webhook_endpoint"), params.get("for_stripecli") or False
    asked = call
    call, platform = await context.pool.run_idempotent(lambda conn: _choose_account(conn, asked))
    shown, position, ordinal = await fetch_event(call, context)
    if endpoint_id is None and not to_listeners:
        raise InvalidParameter(
            "Pass `webhook_endpoint`, or `for_stripecli=true`: the Event is sent to whom you name.",
            param="webhook_endpoint",
        )
    event = FeedEvent(shown.id, call.account, shown.livemode, shown.type, shown.created, position, ordinal)
    endpoint = None
    if endpoint_id is not None:
        endpoint = await _get_endpoint(context, call, endpoint_id, platform)
    request = Request(call.cause.actor or "", context.store.clock.now())

    async def send(conn: Conn) -> dict[str, Any]:
        if endpoint is not None:
            await send_event(conn, endpoint, event, request)
        if to_listeners:
            await resend(conn, event.account, event.livemode, event.id)
        row = await fetch_one(conn, _COUNT_OWED, {"event": event.id})
        assert row is not None
        return render_event(shown._replace(pending_webhooks=row[0]), account=call.connected_account)

    return send, shown.subject


async def _choose_account(conn: Conn, call: Call) -> tuple[Call, str | None]:
    """The call on the account whose Event it is, and the platform that makes it. `account` means the same as
    the header Stripe-Account. Raises InvalidParameter, UnknownObject."""
    account = call.parameters.get("account") or call.account
    if account == call.account and not call.as_platform:
        return call, None
    row = await fetch_one(conn, _SELECT_PLATFORM, {"account": account})
    platform = None if row is None else row[0]
    if call.as_platform:
        if account != call.account:
            raise InvalidParameter("`account` differs from the Stripe-Account header.", param="account")
        return call, platform
    if platform != call.account:
        raise UnknownObject("account", account, param="account")
    return call.replace(cause=call.cause._replace(account=account), as_platform=True), platform


async def _get_endpoint(
    context: QueryContext, call: Call, endpoint_id: str, platform: str | None
) -> WebhookEndpoint:
    """The endpoint, which is that of the Event's account, or one for connected accounts of its platform."""
    endpoint = await context.get(endpoint_id)
    if not isinstance(endpoint, WebhookEndpoint) or endpoint.account not in (call.account, platform):
        raise UnknownObject("webhook endpoint", endpoint_id, param="webhook_endpoint")
    if endpoint.livemode != call.livemode or endpoint.deleted:
        hint = "" if endpoint.deleted else other_mode_hint(call)
        raise UnknownObject("webhook endpoint", endpoint_id, param="webhook_endpoint", hint=hint)
    if endpoint.disabled:
        raise InvalidState(
            f"The webhook endpoint '{endpoint_id}' is disabled: enable it before.", param="webhook_endpoint"
        )
    if not endpoint.gets_events_of(call.account):
        whose = "connected accounts" if endpoint.connect else "its own account"
        raise InvalidState(
            f"The webhook endpoint '{endpoint_id}' gets Events of {whose} only.", param="webhook_endpoint"
        )
    return endpoint
