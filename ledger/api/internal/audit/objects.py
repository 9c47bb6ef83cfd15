"""Routes about one object of the past: how it was, what changed, and what differs between two moments."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from ledger.api.exchange import Exchange
from ledger.api.internal.audit.answers import respond
from ledger.api.internal.audit.auditors import get_auditor
from ledger.api.internal.audit.versions import ApiVersion, set_version
from ledger.api.internal.callers import Callers
from ledger.audit.history import Order, read_history
from ledger.audit.moments import POSITION_MAX
from ledger.audit.objects import compare_object, read_object
from ledger.queries.context import QueryContext

_MOMENT = "Unix time, ISO 8601 time, or `position:N`. A time without a fraction includes its whole second."

ObjectId = Annotated[str, Path(alias="id", examples=["du_0352CZ3z1jWpJM7B8upbma"])]
At = Annotated[
    str | None, Query(description=f"{_MOMENT} Default: now.", examples=["2026-11-27T12:00:00Z", "position:9"])
]
ExpandPaths = Annotated[list[str], Query(alias="expand[]", description="As on the public API.")]
From = Annotated[str, Query(alias="from", description=_MOMENT, examples=["position:9"])]
To = Annotated[str | None, Query(alias="to", description=f"{_MOMENT} Default: now.")]
StartingAfter = Annotated[
    int | None,
    Query(ge=1, le=POSITION_MAX, description="The position of a change: the page begins after it."),
]


def object_routes(callers: Callers, queries: QueryContext, public_url: str | None) -> APIRouter:
    """The answers to a key without the scope `personal_data` have no personal data: see docs/audit."""
    router = APIRouter(prefix="/objects")
    audit_scope = callers.require_scopes("audit")

    @router.get("/{id}", summary="An object as it was")
    async def read_object_then(
        object_id: ObjectId,
        at: At = None,
        expand_paths: ExpandPaths = [],  # noqa: B006  # FastAPI copies it
        stripe_version: ApiVersion = None,
        exchange: Exchange = audit_scope,
    ) -> Response:
        """`{as_of: {position, time, version}, object}`: as the public API showed the object then, with what
        `expand[]` names as of the same moment. 404 before its creation, saying when that was."""
        set_version(exchange, stripe_version)
        base_url = public_url or exchange.base_url
        auditor = get_auditor(exchange)
        answer = await read_object(
            queries, auditor, object_id, at, expand_paths=expand_paths, base_url=base_url
        )
        return respond(answer, exchange)

    @router.get("/{id}/history", summary="Every change of an object")
    async def read_object_history(
        object_id: ObjectId,
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        starting_after: StartingAfter = None,
        order: Order = "asc",
        exchange: Exchange = audit_scope,
    ) -> Response:
        """Each with its position, version and time, its domain event, who made it by which request and why,
        what it changed in the object, and the public Events that it made."""
        auditor = get_auditor(exchange)
        answer = await read_history(
            queries, auditor, object_id, limit=limit, starting_after=starting_after, order=order
        )
        return respond(answer, exchange)

    @router.get("/{id}/diff", summary="What differs between two moments of an object")
    async def compare_object_then(
        object_id: ObjectId,
        start: From,
        end: To = None,
        exchange: Exchange = audit_scope,
    ) -> Response:
        """`{as_of: {from, to}, changes: [{path, before, after}]}`. Before its creation the object has no
        members."""
        return respond(await compare_object(queries, get_auditor(exchange), object_id, start, end), exchange)

    return router
