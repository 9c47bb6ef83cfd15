"""The route of lists as of a moment."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from ledger.api.exchange import Exchange
from ledger.api.internal.audit.answers import respond
from ledger.api.internal.audit.auditors import get_auditor
from ledger.api.internal.audit.versions import ApiVersion, set_version
from ledger.api.internal.callers import Callers
from ledger.api.openapi.answers import answers_with
from ledger.audit.lists import list_objects_at
from ledger.queries.context import QueryContext
from ledger.wire.forms import decode


class PastListParams(BaseModel):
    """The query. It is parsed by the parameter table of the public list of the type, which refuses what the
    list does not have: this only describes what all have in common."""

    model_config = ConfigDict(extra="allow")

    type: str | None = Field(None, examples=["dispute"], description="The member `object` of what is listed.")
    at: str | None = Field(None, description="Unix time, ISO 8601 time, or `position:N`. Default: now.")
    status: str | None = Field(None, description="Of types whose objects have one.")
    limit: str | None = Field(None, description="1 to 100, default 10.")
    starting_after: str | None = Field(
        None, description="An object's id, or `position:N` with the `next_position` of the page before."
    )


def past_list_routes(callers: Callers, queries: QueryContext, public_url: str | None) -> APIRouter:
    """Besides the declared parameters it takes the filters of the public list and `expand[]`."""
    router = APIRouter(prefix="/objects")
    scope = callers.require_scopes("audit")

    @router.get("", summary="A list as it was", responses=answers_with("past_list"))
    async def list_past_objects(
        request: Request,
        params: Annotated[PastListParams, Query()],
        stripe_version: ApiVersion = None,
        exchange: Exchange = scope,
    ) -> Response:
        """`{as_of, object: "list", data, has_more, url}`: as the public API showed the list of the type then,
        newest first. A page examines at most 1,000 objects: it may have fewer than `limit` although there are
        more, and then has `next_position`. Filters by personal data need the scope `personal_data`."""
        set_version(exchange, stripe_version)
        form = decode(request.scope["query_string"])
        base_url = public_url or exchange.base_url
        page = await list_objects_at(queries, get_auditor(exchange), form, base_url=base_url)
        return respond(page, exchange)

    return router
