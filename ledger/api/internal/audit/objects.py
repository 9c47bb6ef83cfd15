"""Routes about one object of the past: how it was, what changed, and what differs between two moments."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from starlette.types import Scope

from ledger.api.exchange import Exchange
from ledger.api.internal.audit.accesses import record_access
from ledger.api.internal.audit.answers import respond
from ledger.api.internal.audit.auditors import get_auditor
from ledger.api.internal.audit.versions import ApiVersion, set_version
from ledger.api.internal.callers import Callers
from ledger.api.internal.middleware import DirectAnswer
from ledger.api.openapi.answers import answers_with
from ledger.audit.accesses import Accesses
from ledger.audit.history import Order, read_history
from ledger.audit.moments import POSITION_MAX
from ledger.audit.objects import compare_object, read_object
from ledger.queries.context import QueryContext
from ledger.wire.json_values import Json

AUDIT_SCOPES = ("audit",)
_OBJECT_PATH = "/internal/v1/audit/objects/"
_OBJECT_PARAMETERS = {"at", "expand[]"}
_MOMENT = "Unix time, ISO 8601 time, or `position:N`. A time without a fraction includes its whole second."

ObjectId = Annotated[str, Path(alias="id", examples=["du_0352CZ3z1jWpJM7B8upbma"])]
At = Annotated[
    str | None, Query(description=f"{_MOMENT} Default: now.", examples=["2026-11-27T12:00:00Z", "position:9"])
]
ExpandPaths = Annotated[list[str], Query(alias="expand[]", description="As on the public API.")]
From = Annotated[str, Query(alias="from", description=_MOMENT, examples=["position:9"])]
To = Annotated[str | None, Query(alias="to", description=f"{_MOMENT} Default: now.")]
StartingAfter = Annotated[
    int | None,
    Query(ge=1, le=POSITION_MAX, description="The position of a change: the page begins after it."),
]


class ObjectReader:
    """Answers `GET /audit/objects/{id}`: for the route, and before the framework for a plain request.

    An auditor's program reads many objects, and routing and the framework's dependencies took twice as long
    as all the rest. What they refuse, or need not understand, is left to them.
    """

    def __init__(
        self, callers: Callers, queries: QueryContext, accesses: Accesses, public_url: str | None
    ) -> None:
        self._callers = callers
        self._queries = queries
        self._accesses = accesses
        self._public_url = public_url

    def find(self, exchange: Exchange, scope: Scope) -> DirectAnswer | None:
        """What answers this request before the framework; None for one that it has to answer."""
        if exchange.method != "GET" or not exchange.path.startswith(_OBJECT_PATH):
            return None
        object_id = exchange.path.removeprefix(_OBJECT_PATH)
        request = Request(scope)
        query = request.query_params
        is_plain = query.keys() <= _OBJECT_PARAMETERS and len(query.getlist("at")) <= 1
        if not object_id or "/" in object_id or not is_plain:
            return None
        return partial(self._answer, exchange, request, object_id)

    async def read(
        self, exchange: Exchange, object_id: str, at: str | None, expand_paths: list[str], version: str | None
    ) -> Json:
        """The answer. Raises RequestError."""
        set_version(exchange, version)
        base_url = self._public_url or exchange.base_url
        return await read_object(
            self._queries,
            get_auditor(exchange),
            object_id,
            at,
            expand_paths=expand_paths,
            base_url=base_url,
        )

    async def _answer(self, exchange: Exchange, request: Request, object_id: str) -> Json:
        request.scope.update(endpoint=self._answer, path_params={"id": object_id})
        record_access(self._accesses, request)
        headers = {name: value.decode("latin-1") for name, value in exchange.request_headers.items()}
        account, context, version = map(
            headers.get, (b"stripe-account", b"stripe-context", b"stripe-version")
        )
        await self._callers.authorize(exchange, AUDIT_SCOPES, account, context)
        query = request.query_params
        return await self.read(exchange, object_id, query.get("at"), query.getlist("expand[]"), version)


def object_routes(callers: Callers, queries: QueryContext, reader: ObjectReader) -> APIRouter:
    """The answers to a key without the scope `personal_data` have no personal data: see docs/audit."""
    router = APIRouter(prefix="/objects")
    audit_scope = callers.require_scopes(*AUDIT_SCOPES)

    @router.get("/{id}", summary="An object as it was", responses=answers_with("past_object"))
    async def read_past_object(
        object_id: ObjectId,
        at: At = None,
        expand_paths: ExpandPaths = [],  # noqa: B006  # FastAPI copies it
        stripe_version: ApiVersion = None,
        exchange: Exchange = audit_scope,
    ) -> Response:
        """`{as_of: {position, time, version}, object}`: as the public API showed the object then, with what
        `expand[]` names as of the same moment. 404 before its creation, saying when that was."""
        answer = await reader.read(exchange, object_id, at, expand_paths, stripe_version)
        return respond(answer, exchange)

    @router.get(
        "/{id}/history", summary="Every change of an object", responses=answers_with("object_change_list")
    )
    async def read_object_history(
        object_id: ObjectId,
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        starting_after: StartingAfter = None,
        order: Order = "asc",
        exchange: Exchange = audit_scope,
    ) -> Response:
        """Each with its position, version and time, its domain event, who made it by which request and why,
        what it changed in the object, and the public Events that it made."""
        auditor = get_auditor(exchange)
        answer = await read_history(
            queries, auditor, object_id, limit=limit, starting_after=starting_after, order=order
        )
        return respond(answer, exchange)

    @router.get(
        "/{id}/diff",
        summary="What differs between two moments of an object",
        responses=answers_with("object_difference"),
    )
    async def compare_past_object(
        object_id: ObjectId,
        start: From,
        end: To = None,
        exchange: Exchange = audit_scope,
    ) -> Response:
        """`{as_of: {from, to}, changes: [{path, before, after}]}`. Before its creation the object has no
        members."""
        return respond(await compare_object(queries, get_auditor(exchange), object_id, start, end), exchange)

    return router
