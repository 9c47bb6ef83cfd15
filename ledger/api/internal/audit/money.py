"""Routes of the books: the trial balance and the journal at any moment (internal API, section 2)."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from ledger.api.exchange import Exchange
from ledger.api.internal.audit.auditors import get_auditor
from ledger.api.internal.audit.ranges import RangeParams
from ledger.api.internal.callers import Callers
from ledger.api.openapi.answers import answers_with
from ledger.audit.moments import POSITION_MAX
from ledger.audit.money.bounds import Bounds
from ledger.audit.money.journal import LIMIT_MAX, JournalQuery, list_postings
from ledger.audit.money.trial_balance import TrialBalances
from ledger.queries.context import QueryContext

_MOMENT = "A unix time, an ISO 8601 time or `position:N`."
_Text = Annotated[str | None, Field(max_length=255)]
_Moment = Annotated[str | None, Field(max_length=64, description=_MOMENT, examples=["position:1000"])]
_Position = Annotated[int | None, Field(ge=0, le=POSITION_MAX)]


class TrialBalanceParams(BaseModel):
    """The query of the trial balance."""

    model_config = ConfigDict(extra="forbid")

    at: _Moment = None
    currency: _Text = Field(None, examples=["usd"])


class JournalParams(RangeParams):
    """The query of the journal."""

    at: _Moment = None
    from_: _Moment = Field(None, alias="from")
    to: _Moment = None
    ledger_account: _Text = Field(None, examples=["network"])
    currency: _Text = Field(None, examples=["usd"])
    object: _Text = Field(None, description="A charge with its refunds and disputes, a refund, or a dispute.")
    transaction: _Text = Field(None, description="A balance transaction.")
    limit: int = Field(10, ge=1, le=LIMIT_MAX, description="Postings; a page ends with a whole entry.")
    starting_after: _Position = Field(None, description="`next_position` of the page before.")
    order: Literal["desc", "asc"] = Field("desc", description="`asc`: oldest first.")

    def to_query(self) -> JournalQuery:
        """What to list."""
        bounds = Bounds(self.at, self.from_, self.to, self.get_times(), self.get_positions())
        return JournalQuery(
            bounds,
            ledger_account=self.ledger_account,
            currency=self.currency,
            object=self.object,
            transaction=self.transaction,
            limit=self.limit,
            starting_after=self.starting_after,
            order=self.order,
        )


def money_routes(callers: Callers, queries: QueryContext) -> APIRouter:
    """Amounts are in minor units of their currency."""
    router = APIRouter()
    audit_scope = callers.require_scopes("audit")
    trial_balances = TrialBalances(queries)

    @router.get(
        "/trial_balance",
        summary="Compute the trial balance at a moment",
        responses=answers_with("trial_balance"),
    )
    async def compute_trial_balance(
        params: Annotated[TrialBalanceParams, Query()], exchange: Exchange = audit_scope
    ) -> Response:
        """Debits, credits and balance of each ledger account, by currency; the totals, whose balance is zero.
        Exact whatever state the projections are in. `unreadable` names records that are left out because they
        cannot be read."""
        trial_balance = await trial_balances.compute(get_auditor(exchange), params.at, params.currency)
        return JSONResponse(trial_balance.to_json())

    @router.get(
        "/journal",
        summary="List postings with the event that made each",
        responses=answers_with("journal_page"),
    )
    async def list_journal(
        params: Annotated[JournalParams, Query()], exchange: Exchange = audit_scope
    ) -> Response:
        """All postings of one event are on one page. While `has_more` is true, even if the page has fewer
        postings than `limit`, `next_position` is the `starting_after` of the next page."""
        return JSONResponse(await list_postings(queries, get_auditor(exchange), params.to_query()))

    return router
