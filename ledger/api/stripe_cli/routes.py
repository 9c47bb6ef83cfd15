"""The route by which the Stripe CLI opens a session, for `stripe listen` and `stripe logs tail`.

It is the CLI's own and in no SDK: so it is not in the OpenAPI document.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ledger.api.public.operations import Operation
from ledger.call import Call
from ledger.postgres.connections import Conn
from ledger.queries.context import QueryContext
from ledger.stripe_cli.secrets import ListenerSecrets, new_websocket_id
from ledger.stripe_cli.sessions import create_session, read_default_version
from ledger.wire import tables
from ledger.wire.versions import LATEST_VERSION

SESSIONS_PATH = "/v1/stripecli/sessions"
SOCKET_PATH = "/v1/stripecli/socket"


def make_operations(connection_seconds: int) -> tuple[Operation, ...]:
    """The CLI's operations. It is to connect anew after `connection_seconds`."""
    return (
        Operation(
            method="POST",
            path=SESSIONS_PATH,
            summary="Open a session of the Stripe CLI",
            table=tables.stripe_cli.CREATE_SESSION,
            act=partial(_open_session, connection_seconds),
            resource="event",
            expandable="event",
        ),
    )


async def _open_session(connection_seconds: int, call: Call, context: QueryContext) -> dict[str, Any]:
    """Raises RateLimited, Unavailable."""
    parameters = call.parameters
    device: str = parameters["device_name"]
    features = list(dict.fromkeys(parameters["websocket_features"]))
    websocket_id = new_websocket_id()
    actor = call.cause.actor
    assert actor is not None, "a request has a key"

    async def open_in(conn: Conn) -> str:
        await create_session(
            conn,
            websocket_id=websocket_id,
            account=call.account,
            livemode=call.livemode,
            key=actor,
            device=device,
            features=features,
            filters=parameters.get("filters", {}),
            now=context.store.clock.now(),
        )
        return await read_default_version(conn, call.account)

    default_version = await context.pool.run_idempotent(open_in)
    secret = ListenerSecrets(context.store.service_keys).derive(call.account, call.livemode, device)
    return {
        "websocket_url": "ws" + call.base_url.removeprefix("http") + SOCKET_PATH,
        "websocket_id": websocket_id,
        "websocket_authorized_feature": "request_logs" if "request_logs" in features else "webhooks",
        "secret": secret,
        "reconnect_delay": connection_seconds,
        "default_version": default_version,
        "latest_version": LATEST_VERSION,
        "display_connect_filter_warning": False,
    }
