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

from ledger.api.errors import STATUS_REFUSED_MIN
from ledger.api.exchange import Exchange
from ledger.api.internal.audit.auditors import get_auditor
from ledger.api.internal.callers import Callers
from ledger.api.internal.middleware import get_route_template
from ledger.audit.accesses import Access, Accesses, AccessFilters
from ledger.errors import AccessNotRecorded

Time = Annotated[str | None, Query(max_length=40, examples=["2026-11-27T12:00:00Z"])]


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

    async def finish(self, status: int) -> None:
        """Wait for the record. Raises AccessNotRecorded if there is none, unless the answer with this status
        is a refusal that shows nothing, because the key is not valid."""
        if self._task is not None:
            await self._task
        elif status < STATUS_REFUSED_MIN:
            raise AccessNotRecorded("This route does not record its accesses, so it is not answered.")


def access_routes(callers: Callers, accesses: Accesses) -> APIRouter:
    """Who looked at what."""
    router = APIRouter()
    scope = callers.require_scopes("audit")

    @router.get("/accesses", summary="List what auditors looked at, newest first")
    async def list_accesses(
        actor: Annotated[str | None, Query(max_length=255, examples=["key_1", "cli"])] = None,
        object_id: Annotated[str | None, Query(alias="object", max_length=255)] = None,
        time_gt: Annotated[Time, Query(alias="time[gt]")] = None,
        time_gte: Annotated[Time, Query(alias="time[gte]")] = None,
        time_lt: Annotated[Time, Query(alias="time[lt]")] = None,
        time_lte: Annotated[Time, Query(alias="time[lte]")] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        starting_after: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="an access's id")] = None,
        exchange: Exchange = scope,
    ) -> Response:
        """Each with `as_of`: the last position of the log at that time. With the parameters it determines
        what was seen. Personal data in parameters is kept as a keyed digest. This request is recorded too."""
        times = {"gt": time_gt, "gte": time_gte, "lt": time_lt, "lte": time_lte}
        filters = AccessFilters(
            actor=actor,
            object=object_id,
            time={comparison: text for comparison, text in times.items() if text is not None},
            limit=limit,
            starting_after=starting_after,
        )
        return JSONResponse(await accesses.list(get_auditor(exchange), filters))

    return router
