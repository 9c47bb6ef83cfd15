"""Routes of legal holds: objects that must not be erased (internal API §10)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse, Response
from pydantic import ConfigDict, Field

from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers, build_response, run_command
from ledger.api.openapi.answers import PROGRESS_HEADERS, answers_with
from ledger.call import Call
from ledger.commands import legal_holds
from ledger.commands.execution import Execution
from ledger.commands.models import Body, Id, StorableText
from ledger.queries import redaction_jobs
from ledger.queries.context import QueryContext

REASON_LENGTH_MAX = 500
_ID_LENGTH_MAX = 255
_Reason = Annotated[StorableText, Field(min_length=1, max_length=REASON_LENGTH_MAX)]


class HoldBody(Body):
    """What must not be erased, and why."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"object": "cus_NffrFeUfNV2Hib", "reason": "case 4711"}]}
    )

    object: Id = Field(description="A customer, or an object that belongs to none.")
    reason: _Reason = Field(description="Why; it is stored encrypted, and erased with the object.")


class ReleaseBody(Body):
    """Why the object may be erased again."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "case 4711 is closed"}]})

    reason: _Reason = Field(description="Why; it is stored encrypted, and erased with the object.")


def legal_hold_routes(callers: Callers, execution: Execution, queries: QueryContext) -> APIRouter:
    """The routes under /internal/v1/legal_holds."""
    router = APIRouter(prefix="/legal_holds", tags=["legal holds"])
    scope = callers.require_scopes("legal_holds")

    @router.post("", summary="Place a legal hold on an object", responses=answers_with("legal_hold"))
    async def place_legal_hold(body: HoldBody, exchange: Exchange = scope) -> Response:
        """No redaction job can run on a held object: it fails, or fails again when it is to run. The hold of
        what was released can be placed again; of what is held: 400."""
        result = await run_command(execution, exchange, legal_holds.place, body.to_params())
        return build_response(result, exchange)

    @router.get(
        "",
        summary="List legal holds, newest first",
        responses=answers_with("legal_hold_list", headers=PROGRESS_HEADERS),
    )
    async def list_legal_holds(
        active: Annotated[
            bool | None, Query(description="Only those that hold, or that were released.")
        ] = None,
        object_id: Annotated[
            StorableText | None,
            Query(alias="object", max_length=_ID_LENGTH_MAX, description="Only that of this object."),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        starting_after: Annotated[
            StorableText | None,
            Query(max_length=_ID_LENGTH_MAX, description="A hold's id: return holds older than it."),
        ] = None,
        exchange: Exchange = scope,
    ) -> Response:
        """By when they were first placed. Released ones stay in the list."""
        given = {"active": active, "object": object_id, "starting_after": starting_after}
        parameters = {name: value for name, value in given.items() if value is not None} | {"limit": limit}
        call = Call(exchange.build_cause(), "", parameters, as_platform=exchange.as_platform)
        result = await redaction_jobs.list_legal_holds(call, queries)
        headers = {"Ledger-Behind-Events": str(result.lag_events)} if result.lag_events else {}
        if result.incomplete:
            headers["Ledger-Incomplete"] = "true"
        return JSONResponse(result.body, headers=headers)

    @router.post("/{id}/release", summary="Release a legal hold", responses=answers_with("legal_hold"))
    async def release_legal_hold(
        body: ReleaseBody,
        hold: Annotated[StorableText, Path(alias="id", max_length=_ID_LENGTH_MAX)],
        exchange: Exchange = scope,
    ) -> Response:
        """The object may be erased from then on. Releasing it twice: 400."""
        result = await run_command(execution, exchange, legal_holds.release, body.to_params(), target=hold)
        return build_response(result, exchange)

    return router
