"""Routes that search the log and show one recorded event."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import Field

from ledger.api.exchange import Exchange
from ledger.api.internal.audit.answers import respond
from ledger.api.internal.audit.auditors import get_auditor
from ledger.api.internal.audit.ranges import RangeParams
from ledger.api.internal.callers import Callers
from ledger.api.openapi.answers import answers_with
from ledger.audit.moments import POSITION_MAX
from ledger.audit.search.filters import LogFilters
from ledger.audit.search.pages import LIMIT_MAX, search_log
from ledger.audit.search.recorded_events import read_recorded_event
from ledger.queries.context import QueryContext

TEXT_LENGTH_MAX = 255
TYPES_MAX = 50


class LogFilterParams(RangeParams):
    """The filters in a query; each may be left out."""

    actor: str | None = Field(None, max_length=TEXT_LENGTH_MAX, description="Id of a key, or `cli`.")
    request: str | None = Field(None, max_length=TEXT_LENGTH_MAX, examples=["req_0352CZ3z1jWpJM7B8upbma"])
    idempotency_key: str | None = Field(None, max_length=TEXT_LENGTH_MAX)
    object: str | None = Field(None, max_length=TEXT_LENGTH_MAX, description="Id of the object changed.")
    customer: str | None = Field(
        None, max_length=TEXT_LENGTH_MAX, description="Events of the customer and events that name it."
    )
    charge: str | None = Field(None, max_length=TEXT_LENGTH_MAX)
    payment_intent: str | None = Field(None, max_length=TEXT_LENGTH_MAX)
    event: str | None = Field(
        None, max_length=TEXT_LENGTH_MAX, description="Id of a public Event, also past its 30 days."
    )
    type: list[str] = Field(
        [],
        max_length=TYPES_MAX,
        description="Type of recorded event; repeat it for several. `dispute.*` is all that begin so.",
        examples=[["dispute.opened", "charge.*"]],
    )

    def to_filters(self) -> LogFilters:
        """The filters of the search."""
        return LogFilters(
            actor=self.actor,
            request=self.request,
            idempotency_key=self.idempotency_key,
            object=self.object,
            customer=self.customer,
            charge=self.charge,
            payment_intent=self.payment_intent,
            event=self.event,
            types=self.type,
            time=self.get_times(),
            position=self.get_positions(),
        )


class LogParams(LogFilterParams):
    """The query of the search."""

    order: Literal["desc", "asc"] = Field("desc", description="Newest or oldest first.")
    limit: int = Field(10, ge=1, le=LIMIT_MAX)
    starting_after: int | None = Field(
        None, ge=0, le=POSITION_MAX, description="A position: `next_position` of the page before."
    )


def log_routes(callers: Callers, queries: QueryContext) -> APIRouter:
    """Answers hold whatever state the projections are in."""
    router = APIRouter(prefix="/log")
    audit_scope = callers.require_scopes("audit")

    @router.get("", summary="Search the recorded events", responses=answers_with("log_page"))
    async def search_audit_log(
        params: Annotated[LogParams, Query()], exchange: Exchange = audit_scope
    ) -> Response:
        """Any combination of filters. A page may have fewer entries than `limit`, even none, while `has_more`
        is true: it then has looked at as many events as a page may, and the search goes on with
        `starting_after` = `next_position`."""
        page = await search_log(
            queries,
            get_auditor(exchange),
            params.to_filters(),
            limit=params.limit,
            starting_after=params.starting_after,
            descending=params.order == "desc",
        )
        return respond(page.to_json(), exchange)

    @router.get("/{position}", summary="One recorded event", responses=answers_with("recorded_event"))
    async def read_recorded_event_at(
        position: Annotated[int, Path(ge=1, le=POSITION_MAX)], exchange: Exchange = audit_scope
    ) -> Response:
        """Whole: its metadata, its fields, the version of its class as it was stored, the public Events that
        it made, the hash of its leaf. Fields with personal data need the scope `personal_data`. A record that
        cannot be read is shown with the reason."""
        return respond(await read_recorded_event(queries, get_auditor(exchange), position), exchange)

    return router
