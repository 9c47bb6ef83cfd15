"""The route that finds whatever a text names: an id, a request, an idempotency key, an e-mail address."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response

from ledger.api.exchange import Exchange
from ledger.api.internal.audit.auditors import get_auditor
from ledger.api.internal.callers import Callers
from ledger.api.openapi.answers import answers_with
from ledger.audit.search.lookups import EMAIL_SCOPE, Hit, look_up
from ledger.commands.models import StorableText
from ledger.postgres.connections import Conn
from ledger.queries.context import QueryContext
from ledger.webhooks.history.deliveries import find_delivery
from ledger.webhooks.history.owners import has_replay
from ledger.wire.json_values import make_list_object

URL = "/internal/v1/audit/find"
TEXT_LENGTH_MAX = 512
SCOPES = {"delivery": "webhooks", "email": EMAIL_SCOPE, "replay": "webhooks"}
"""By kind, the scope that it needs besides `audit`."""

SearchedText = Annotated[
    StorableText,
    Query(
        alias="q",
        min_length=1,
        max_length=TEXT_LENGTH_MAX,
        description="An id, a request id, an idempotency key, a position of the log, or an e-mail address.",
        examples=["ch_0352I2S0wXTRNVkqM8D9w9"],
    ),
]


def lookup_routes(callers: Callers, queries: QueryContext) -> APIRouter:
    """Answers hold whatever state the projections are in, except that of e-mail addresses and cards."""
    router = APIRouter()
    audit_scope = callers.require_scopes("audit")

    @router.get("/find", summary="Find what a text names", responses=answers_with("audit_hit_list"))
    async def find_anything(text: SearchedText, exchange: Exchange = audit_scope) -> Response:
        """The whole text has to match. At most 20 of each kind, the newest first. `not_searched` has the
        kinds for which the key lacks a scope. `behind_events`: so many events are not applied yet to the
        lists in which e-mail addresses and cards are found."""
        scopes = exchange.key.scopes
        found = await look_up(queries, get_auditor(exchange), text)
        hits = found.hits
        if "webhooks" in scopes:
            hits += await queries.pool.run_idempotent(lambda conn: _find_deliveries(conn, exchange, text))
        lacking = [{"kind": kind, "scope": scope} for kind, scope in SCOPES.items() if scope not in scopes]
        page = make_list_object([hit.to_json() for hit in hits], URL, has_more=found.has_more)
        return JSONResponse({**page, "not_searched": lacking, "behind_events": found.behind_events})

    return router


async def _find_deliveries(conn: Conn, exchange: Exchange, text: str) -> list[Hit]:
    """The delivery, or the replay, with this id."""
    owner = exchange.account, exchange.key.livemode
    hits = []
    if (delivery := await find_delivery(conn, text, owner)) is not None:
        title = f"{delivery.type} to {delivery.endpoint}, {delivery.state}"
        hits.append(Hit("delivery", text, "delivery", title, delivery.endpoint, time=delivery.created))
    if await has_replay(conn, text, owner):
        title = "retry of many deliveries" if text.startswith("wrt_") else "replay of Events"
        hits.append(Hit("replay", text, "replay", title))
    return hits
