"""Routes of the board of disputes: pages by due date, and how many have each status (internal API §9)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers
from ledger.api.openapi.answers import PROGRESS_HEADERS, answers_with
from ledger.call import Call
from ledger.commands.models import StorableText
from ledger.domain.dispute_states import STATUSES
from ledger.queries.context import QueryContext
from ledger.queries.dispute_board import BoardFilters, list_board, summarize_board
from ledger.queries.pages import QueryResult

ID_LENGTH_MAX = 255
SECONDS_MAX = 2**53

_Text = Annotated[StorableText, Field(max_length=ID_LENGTH_MAX)]
_Seconds = Annotated[int | None, Field(ge=0, le=SECONDS_MAX, description="Unix seconds, included.")]
_Reason = Annotated[_Text | None, Field(description="Only disputes of this reason.", examples=["fraudulent"])]


class BoardParams(BaseModel):
    """The query of the list."""

    model_config = ConfigDict(extra="forbid")

    status: list[_Text] = Field(
        [],
        max_length=len(STATUSES),
        description="A status; repeat it for several.",
        examples=[["needs_response"]],
    )
    reason: _Reason = None
    due_by_gte: _Seconds = Field(None, alias="due_by[gte]")
    due_by_lte: _Seconds = Field(None, alias="due_by[lte]")
    order: _Text = Field(
        "due_by", description="`due_by`: those that are due first come first. `created`: the newest do."
    )
    limit: int = Field(10, ge=1, le=100)
    starting_after: _Text | None = Field(
        None, description="A dispute's id: return the disputes behind it in the order that is asked for."
    )

    def to_filters(self) -> BoardFilters:
        """The filters of the list. Raises InvalidParameter."""
        return BoardFilters(
            statuses=self.status,
            reason=self.reason,
            order=self.order,
            due_from=self.due_by_gte,
            due_to=self.due_by_lte,
        )


class SummaryParams(BaseModel):
    """The query of the summary."""

    model_config = ConfigDict(extra="forbid")

    reason: _Reason = None


def dispute_board_routes(callers: Callers, queries: QueryContext) -> APIRouter:
    """The routes under `/disputes` that read. They need the scope of the public list, which every secret key
    has."""
    router = APIRouter(prefix="/disputes", tags=["dispute board"])
    scope = callers.require_scopes("rak_dispute_read")

    @router.get(
        "",
        summary="List disputes by due date",
        responses=answers_with("dispute_overview_list", headers=PROGRESS_HEADERS),
    )
    async def list_dispute_board(
        params: Annotated[BoardParams, Query()], exchange: Exchange = scope
    ) -> Response:
        """What an overview shows of each, without its evidence. Those without a due date come last."""
        result = await list_board(
            queries.pages,
            _make_call(exchange),
            params.to_filters(),
            limit=params.limit,
            starting_after=params.starting_after,
        )
        return _respond(result)

    @router.get(
        "/summary",
        summary="Count disputes by status",
        responses=answers_with("dispute_summary", headers=PROGRESS_HEADERS),
    )
    async def summarize_disputes(
        params: Annotated[SummaryParams, Query()], exchange: Exchange = scope
    ) -> Response:
        """Of each status: how many, over how much, and of those that await a response how many are past due
        or due within 24 or 72 hours. Counted up to 2,000."""
        result = await summarize_board(
            queries.pages, _make_call(exchange), reason=params.reason, now=queries.now()
        )
        return _respond(result)

    return router


def _make_call(exchange: Exchange) -> Call:
    return Call(exchange.build_cause(), "", {}, as_platform=exchange.as_platform)


def _respond(result: QueryResult) -> Response:
    """The answer, which says when the projection lacks events: as lists of the public API do."""
    headers = {}
    if result.lag_events:
        headers["Ledger-Behind-Events"] = str(result.lag_events)
    if result.incomplete:
        headers["Ledger-Incomplete"] = "true"
    return JSONResponse(result.body, headers=headers)
