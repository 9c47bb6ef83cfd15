"""Customer sessions for those who look after them: revoke one, see what became of a customer's.

No answer holds a client secret: it was shown once, to whoever made the session.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from ledger.api.internal.callers import Caller, Callers, build_response, run_command
from ledger.commands import customer_sessions
from ledger.commands.execution import Execution
from ledger.queries.context import QueryContext
from ledger.queries.customer_sessions import list_by_customer


class SessionListParams(BaseModel):
    """Which sessions, newest first."""

    model_config = ConfigDict(extra="forbid")

    customer: str = Field(max_length=255, examples=["cus_0352CZ3z1jWpJM7B8upbma"])
    limit: int = Field(10, ge=1, le=100)
    starting_after: str | None = Field(
        None, max_length=255, description="a session's id: the page begins after it, towards older ones"
    )


def customer_session_routes(callers: Callers, execution: Execution, queries: QueryContext) -> APIRouter:
    """Each answers with sessions as `{id, customer, component, state, …}`."""
    router = APIRouter(prefix="/customer_sessions", tags=["customer sessions"])
    catalog_caller, audit_caller = callers.require_scopes("catalog"), callers.require_scopes("audit")

    @router.delete("/{id}", summary="Revoke an unused customer session")
    async def revoke(
        request: Request,
        session: Annotated[str, Path(alias="id", max_length=255)],
        caller: Caller = catalog_caller,
    ) -> Response:
        """Its client secret can be exchanged no more. One that is revoked or has expired stays so; one that
        has been used is refused, for what it gave cannot be taken back."""
        result = await run_command(execution, caller, request, customer_sessions.revoke, {}, target=session)
        return build_response(result, caller, request)

    @router.get("", summary="A customer's sessions, newest first")
    async def of_customer(
        params: Annotated[SessionListParams, Query()], caller: Caller = audit_caller
    ) -> Response:
        """The state of each: open, claimed, expired or revoked. A deleted customer's are told too."""
        page = await list_by_customer(
            queries,
            caller.account,
            caller.key.livemode,
            params.customer,
            limit=params.limit,
            starting_after=params.starting_after,
        )
        return JSONResponse(page, headers={"request-id": caller.request_id})

    return router
