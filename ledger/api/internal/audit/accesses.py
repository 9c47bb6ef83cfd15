"""Records every request to the audit API before it is answered, and the route that lists these records.

The record is written while the answer is being made, and the answer waits for it: so a look costs little more
time, and there is none without a record. A request that a key was not allowed to make is recorded too; one
without a valid key, or over its rate limit, is not.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from ledger.api.errors import STATUS_REFUSED_MIN
from ledger.api.exchange import Exchange
from ledger.api.internal.audit.auditors import get_auditor
from ledger.api.internal.audit.ranges import TimeRangeParams
from ledger.api.internal.callers import Callers
from ledger.api.internal.middleware import get_route_template
from ledger.api.openapi.answers import answers_with
from ledger.audit.accesses import Access, Accesses, AccessFilters
from ledger.errors import AccessNotRecorded


class AccessParams(TimeRangeParams):
    """The query of the list."""

    actor: str | None = Field(None, max_length=255, examples=["key_1", "cli"])
    object: str | None = Field(None, max_length=255)
    limit: int = Field(10, ge=1, le=100)
    starting_after: int | None = Field(None, ge=1, le=2**63 - 1, description="An access's id.")


def record_accesses(accesses: Accesses) -> Any:
    """A FastAPI dependency for a whole router: every request to one of its routes is recorded."""

    async def begin(request: Request) -> None:
        record_access(accesses, request)

    return Depends(begin)


def record_access(accesses: Accesses, request: Request) -> None:
    """Record this request once its key is known. It is not answered before that."""
    exchange: Exchange = request.state.exchange
    recording = _Recording(accesses, request)
    exchange.on_authorized = recording.start
    exchange.before_answer = recording.finish


class _Recording:
    """The record of one request, which begins when its key is known."""

    def __init__(self, accesses: Accesses, request: Request) -> None:
        self._accesses = accesses
        self._request = request
        self._task: asyncio.Task[None] | None = None

    def start(self, allowed: bool) -> None:
        exchange: Exchange = self._request.state.exchange
        path_parameters = self._request.path_params
        access = Access(
            account=exchange.account,
            livemode=exchange.key.livemode,
            actor=exchange.key.id,
            action=f"{exchange.method} {get_route_template(exchange.path, path_parameters)}",
            parameters=[
                *((name, str(value)) for name, value in path_parameters.items()),
                *self._request.query_params.multi_items(),
            ],
            allowed=allowed,
            request_id=exchange.request_id,
        )
        self._task = asyncio.create_task(self._accesses.record(access), name="record access")
        # `finish` is not called for a request that has reached its limit. The failure is logged in any case.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def finish(self, status: int) -> None:
        """Wait for the record. Raises AccessNotRecorded if there is none, unless the answer with this status
        is a refusal that shows nothing, because the key is not valid."""
        if self._task is not None:
            await asyncio.shield(self._task)  # a client that leaves does not end the record
        elif status < STATUS_REFUSED_MIN:
            raise AccessNotRecorded("This route does not record its accesses, so it is not answered.")


def access_routes(callers: Callers, accesses: Accesses) -> APIRouter:
    """Who looked at what."""
    router = APIRouter()
    scope = callers.require_scopes("audit")

    @router.get(
        "/accesses",
        summary="List what auditors looked at, newest first",
        responses=answers_with("audit_access_list"),
    )
    async def list_accesses(params: Annotated[AccessParams, Query()], exchange: Exchange = scope) -> Response:
        """Each with `as_of`: the last position of the log at that time. With the parameters it determines
        what was seen. Personal data in parameters is kept as a keyed digest. This request is recorded too."""
        filters = AccessFilters(
            actor=params.actor,
            object=params.object,
            time=params.get_times(),
            limit=params.limit,
            starting_after=params.starting_after,
        )
        return JSONResponse(await accesses.list(get_auditor(exchange), filters))

    return router
