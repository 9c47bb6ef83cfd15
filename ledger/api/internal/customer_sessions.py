"""Routes for support staff: revoke a customer session, list the sessions of a customer (internal API §1).

No response has a client secret: it is shown once, to the caller who created the session.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers, build_response, run_command
from ledger.api.openapi.answers import answers_with
from ledger.commands import customer_sessions
from ledger.commands.execution import Execution
from ledger.queries.context import QueryContext
from ledger.queries.customer_sessions import list_by_customer


class SessionListParams(BaseModel):
    """The query of the list."""

    model_config = ConfigDict(extra="forbid")

    customer: str = Field(max_length=255, examples=["cus_0352CZ3z1jWpJM7B8upbma"])
    limit: int = Field(10, ge=1, le=100)
    starting_after: str | None = Field(
        None, max_length=255, description="A session's id: return sessions older than this one."
    )


def customer_session_routes(callers: Callers, execution: Execution, queries: QueryContext) -> APIRouter:
    """The responses have sessions as `{id, customer, component, state, …}`."""
    router = APIRouter(prefix="/customer_sessions", tags=["customer sessions"])
    catalog_scope, audit_scope = callers.require_scopes("catalog"), callers.require_scopes("audit")

    @router.delete(
        "/{id}", summary="Revoke an unused customer session", responses=answers_with("session_record")
    )
    async def revoke_customer_session(
        session: Annotated[str, Path(alias="id", max_length=255)], exchange: Exchange = catalog_scope
    ) -> Response:
        """Its client secret can no longer be exchanged. A revoked or expired session stays as it is. A
        claimed one is refused: what it granted cannot be taken back."""
        result = await run_command(execution, exchange, customer_sessions.revoke, {}, target=session)
        return build_response(result, exchange)

    @router.get(
        "", summary="List a customer's sessions, newest first", responses=answers_with("session_record_list")
    )
    async def list_customer_sessions(
        params: Annotated[SessionListParams, Query()], exchange: Exchange = audit_scope
    ) -> Response:
        """Each with its state: open, claimed, expired or revoked. Also the sessions of a deleted customer."""
        cause = exchange.build_cause()
        page = await list_by_customer(
            queries,
            cause.account,
            cause.livemode,
            params.customer,
            limit=params.limit,
            starting_after=params.starting_after,
        )
        return JSONResponse(page)

    return router
