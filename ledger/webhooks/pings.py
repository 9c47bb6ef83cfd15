"""Pings of event destinations: a thin event of no change, sent as any other, to see whether one gets it.

A ping is a delivery that has no Event in the feed: it follows from its row. It can be retrieved as long as
the row is kept, which is as long as Events are; no list has it.
"""

from __future__ import annotations

from typing import Any

from ledger.call import Call
from ledger.commands.execution import MakeChange
from ledger.errors import InvalidState
from ledger.ids import new_id
from ledger.objects import get_destination
from ledger.postgres.connections import Conn
from ledger.queries.context import QueryContext
from ledger.webhooks.schedule.breaker import probe_now
from ledger.wire.event_destinations import PING_TYPE, render_ping, render_retrieved_ping

_INSERT = """
WITH inserted AS (
    INSERT INTO webhooks.deliveries
        (id, event, endpoint, account, livemode, created, position, ordinal, type, due_at)
    SELECT %(id)s, %(event)s, %(endpoint)s, %(account)s, %(livemode)s, %(created)s, h.position, 0, %(type)s,
           to_timestamp(%(now)s)
    FROM ledger.head h
    RETURNING id, event, endpoint, livemode
)
INSERT INTO ledger.operations (who, action, account, details)
SELECT %(who)s, 'event_destination_pinged', %(account)s, jsonb_build_object(
    'delivery', id, 'event_id', event, 'endpoint', endpoint,
    'mode', CASE WHEN livemode THEN 'live' ELSE 'test' END)
FROM inserted
"""


async def ping(call: Call, context: QueryContext) -> tuple[MakeChange, None]:
    """`POST /v2/core/event_destinations/{id}/ping`: what sends the ping, and answers with it, which has no
    personal data. Raises UnknownObject, and InvalidState for a destination to which nothing is sent."""
    state = await get_destination(call, context.get)
    if state.disabled:
        raise InvalidState(
            f"The event destination '{state.id}' is disabled: nothing is sent to it until it is enabled."
        )

    async def send(conn: Conn) -> dict[str, Any]:
        now = context.store.clock.now()
        ping_id = new_id("evt_thin", now)
        parameters = {
            "id": new_id("dlv", now), "event": ping_id, "endpoint": state.id, "account": state.account,
            "livemode": state.livemode, "created": int(now), "type": PING_TYPE, "now": now,
            "who": call.cause.actor or "",
        }  # fmt: skip
        await conn.execute(_INSERT, parameters)
        await probe_now(conn, state.id, now)
        sent = render_ping(ping_id, int(now), state.id, livemode=state.livemode)
        return render_retrieved_ping(sent, context=call.connected_account)

    return send, None
