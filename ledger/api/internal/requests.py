"""Routes of the request log: which requests failed, how, and how many there were (internal API §7)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from ledger.api.errors import FAULT_STATUS_MIN, STATUS_REFUSED_MIN
from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers
from ledger.api.openapi.answers import answers_with
from ledger.clock import Clock
from ledger.commands.models import StorableText
from ledger.errors import InvalidParameter
from ledger.postgres.connections import Conn, Pool
from ledger.request_log.groups import Window, summarize_requests
from ledger.request_log.pages import RequestFilters, RequestPage, find_request, list_requests, render_request
from ledger.request_log.retention import RETENTION_SECONDS
from ledger.request_log.viewers import Viewer

TEXT_LENGTH_MAX = 255
SECONDS_MAX = 32_503_680_000  # the year 3000
DAY_SECONDS = 86_400

Kept = Literal["all", "errors", "none"]
"""Which requests a process keeps, besides counts of all; `none`: not even these."""
_Text = Annotated[StorableText, Field(max_length=TEXT_LENGTH_MAX)] | None
_Seconds = Annotated[int | None, Field(ge=0, le=SECONDS_MAX, description="Unix seconds.")]
_parse_status = re.compile(r"([1-5])(xx|[0-9]{2})").fullmatch


class RequestListParams(BaseModel):
    """The query of the list."""

    model_config = ConfigDict(extra="forbid")

    status: _Text = Field(None, description="A status, or all that begin so.", examples=["404", "5xx"])
    operation: _Text = Field(None, examples=["POST /v1/customers"])
    key: _Text = Field(None, description="Id of an API key.")
    request: _Text = Field(None, description="Id of one request.")
    code: _Text = Field(None, description="Code of the error.", examples=["resource_missing"])
    group: _Text = Field(None, description="Id of a group of `GET /requests/groups`.")
    created_gt: _Seconds = Field(None, alias="created[gt]")
    created_gte: _Seconds = Field(None, alias="created[gte]")
    created_lt: _Seconds = Field(None, alias="created[lt]")
    created_lte: _Seconds = Field(None, alias="created[lte]")
    limit: int = Field(10, ge=1, le=100)
    starting_after: _Text = Field(None, description="A request's id: return requests older than it.")

    def to_filters(self) -> RequestFilters:
        """The filters of the list. Raises InvalidParameter."""
        bounds = {name: getattr(self, f"created_{name}") for name in ("gt", "gte", "lt", "lte")}
        created = {name: bound for name, bound in bounds.items() if bound is not None}
        return RequestFilters(
            _read_status(self.status), self.operation, self.key, self.code, self.group, created
        )


class GroupParams(BaseModel):
    """The query of the groups."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    start: _Seconds = Field(None, alias="from", description="Unix seconds; default: `seconds` before `to`.")
    end: _Seconds = Field(None, alias="to", description="Unix seconds; default: now.")
    seconds: int = Field(
        DAY_SECONDS, ge=1, le=RETENTION_SECONDS, description="Without `from`: how long before `to` it begins."
    )

    def to_window(self, now: float) -> Window:
        """The window. Raises InvalidParameter."""
        end = now if self.end is None else min(float(self.end), now)
        start = end - self.seconds if self.start is None else float(self.start)
        if start >= end:
            raise InvalidParameter("Invalid from: must be before `to`, and not in the future.", param="from")
        return Window.of(max(start, end - RETENTION_SECONDS), end)


def request_routes(callers: Callers, pool: Pool, clock: Clock, kept: Kept) -> APIRouter:
    """The routes under `/requests`. `kept`: what this process keeps."""
    router = APIRouter(prefix="/requests", tags=["requests"])
    audit_scope = callers.require_scopes("audit")
    _add_list(router, audit_scope, pool, kept)
    _add_groups(router, audit_scope, pool, clock, kept)
    return router


def _add_list(router: APIRouter, audit_scope: Any, pool: Pool, kept: Kept) -> None:
    @router.get("", summary="List requests, newest first", responses=answers_with("kept_request_list"))
    async def list_kept_requests(
        params: Annotated[RequestListParams, Query()], exchange: Exchange = audit_scope
    ) -> Response:
        """Those that failed, or all with `LEDGER_REQUEST_LOG=all`, of the last 7 days: of the key's account
        and mode and the accounts connected to it. A platform's key is shown requests without a valid key,
        too. `next_request` is the next `starting_after`: a page may have fewer requests than `limit`, even
        none, while `has_more` is true, because it looks at 2,500 at most. A request is in the list about a
        second after its answer."""
        filters = params.to_filters()

        async def read(conn: Conn) -> RequestPage:
            viewer = await _find_viewer(conn, exchange)
            if params.request is not None:
                row = await find_request(conn, viewer, params.request)
                return RequestPage([] if row is None else [render_request(row)], None)
            return await list_requests(
                conn, viewer, filters, limit=params.limit, starting_after=params.starting_after
            )

        page = await pool.run_idempotent(read)
        return JSONResponse(
            {
                "object": "list",
                "data": page.requests,
                "has_more": page.next_id is not None,
                "next_request": page.next_id,
                "kept": kept,
            }
        )


def _add_groups(router: APIRouter, audit_scope: Any, pool: Pool, clock: Clock, kept: Kept) -> None:
    @router.get(
        "/groups",
        summary="Count requests, and group those that failed",
        responses=answers_with("request_groups"),
    )
    async def group_requests(
        params: Annotated[GroupParams, Query()], exchange: Exchange = audit_scope
    ) -> Response:
        """Requests of the same operation that ended with the same status, code and parameter are one group,
        the largest first, 200 at most. Counts are by minute for up to 6 hours, else by hour; a time without
        requests has none. `left_out`: requests that are counted and not in the list, because there were too
        many in a second."""
        window = params.to_window(clock.now())

        async def read(conn: Conn) -> dict[str, object]:
            viewer = await _find_viewer(conn, exchange)
            return await summarize_requests(
                conn, viewer, window, refused=STATUS_REFUSED_MIN, fault=FAULT_STATUS_MIN
            )

        return JSONResponse({"object": "request_groups", **await pool.run_idempotent(read), "kept": kept})


async def _find_viewer(conn: Conn, exchange: Exchange) -> Viewer:
    return await Viewer.find(
        conn, exchange.account, livemode=exchange.key.livemode, as_platform=exchange.as_platform
    )


def _read_status(status: str | None) -> tuple[int, int]:
    """The least and the greatest status of these. Raises InvalidParameter."""
    if status is None:
        return 0, 999
    found = _parse_status(status)
    if found is None:
        raise InvalidParameter(
            "Invalid status: must be a status, or one of 2xx, 3xx, 4xx, 5xx", param="status"
        )
    if found[2] == "xx":
        return int(found[1]) * 100, int(found[1]) * 100 + 99
    return int(status), int(status)
