"""Operating projections over HTTP, with the scope `projections`: show, verify, retry a parked stream.

The routes that rebuild and switch are in `rebuild_routes`; what all of them do is in `actions`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers
from ledger.api.openapi.answers import answers_with
from ledger.audit.accesses import Accesses
from ledger.audit.moments import TIME_MAX
from ledger.commands.execution import fingerprint_of
from ledger.commands.models import StorableText
from ledger.errors import InvalidParameter, InvalidProjectionState
from ledger.metrics.lag_samples import RETENTION_SECONDS, read_samples
from ledger.postgres.connections import BACKGROUND_ANSWER_SECONDS, Conn, open_connection
from ledger.postgres.sessions import LOCAL_COMMITS
from ledger.store.store import Store
from projections.engine.engine import Engine
from projections.engine.operations import Operator
from projections.operate.actions import (
    NAMES_MAX,
    REASON_LENGTH_MAX,
    SAMPLE_MAX,
    Actions,
    get_projection,
)
from projections.read_models.catalog import PROJECTIONS
from projections.rebuild.states import RebuildState

Name = Annotated[str, Path(max_length=255, examples=["disputes"])]
SeriesName = Annotated[str, StringConstraints(max_length=255)]
SAMPLES_DEFAULT_SECONDS = 3600
SAMPLES_FROM = Query(alias="from", ge=0, le=TIME_MAX, description="Unix seconds.", examples=[1795000000])
SAMPLES_TO = Query(alias="to", ge=0, le=TIME_MAX, description="Unix seconds.", examples=[1795003600])
NameList = Annotated[
    list[Annotated[StorableText, StringConstraints(max_length=255)]], Field(max_length=NAMES_MAX)
]

_STATUS_EXAMPLE = {
    "name": "disputes",
    "live": 1,
    "incomplete": True,
    "generations": [
        {
            "projection": "disputes",
            "generation": 1,
            "live": True,
            "position": 40210,
            "events": 3,
            "seconds": 41.5,
            "parked": [
                {
                    "stream": "du_0352CZ5Gldsp6qNF5qNF1x",
                    "position": 31077,
                    "error": "unknown_topic: version 3, topic dispute.reopened",
                    "topic": "dispute.reopened",
                    "reason": "unknown_topic",
                }
            ],
            "differing": 0,
            "state": "live",
            "stands_still": True,
            "cause": {
                "code": "no_worker",
                "message": "No worker is running: start one with `ledger worker` or `ledger serve`.",
            },
            "verified": {
                "at": 1795000000.0,
                "position": 40100,
                "rows": 3100,
                "differing": 0,
                "keys": [],
            },
        }
    ],
    "rebuild": {
        "id": 3,
        "state": RebuildState.BACKFILLING,
        "paused": False,
        "error": None,
        "workers": 2,
        "accept_differences": False,
        "upto": 40213,
        "total": 40213,
        "who": "key_0352CZ3z1jWpJM7B8upbma",
        "reason": "a column was added",
        "began_at": 1795000000.0,
        "seconds": 2.5,
        "events": 16000,
        "rows": 3100,
        "behind": None,
        "compared": 0,
        "driven": True,
        "builds": [{"projection": "disputes", "generation": 2, "shape": 1, "attached": False}],
        "bytes": 4194304,
        "events_per_second": 6400.0,
        "seconds_left": 3.8,
        "view": None,
    },
    "operations": [
        {
            "at": "2026-11-18T11:06:40Z",
            "who": "key_0352CZ3z1jWpJM7B8upbma",
            "action": "rebuild",
            "generation": 2,
            "position": 40213,
            "reason": "a column was added",
            "details": {"rebuild": 3, "workers": 2},
        }
    ],
    "workers": 0,
}
_VERIFICATION = answers_with("projection_verification")
_VERIFICATIONS = answers_with("projection_verification_list")
_STATUS_RESPONSES = answers_with("projection_status")
_STATUS_RESPONSES[200]["content"]["application/json"]["example"] = _STATUS_EXAMPLE


class OperationBody(BaseModel):
    """The body of an action; a field that is not declared is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)
    NEWER_FIELDS: ClassVar[frozenset[str]] = frozenset()
    """Fields that earlier releases did not have: unset, they are not in the fingerprint, so that a call
    that is repeated across an upgrade is recognised."""

    reason: StorableText = Field(
        "",
        max_length=REASON_LENGTH_MAX,
        description="Why; it is kept on record.",
        examples=["a column was added"],
    )

    def to_fingerprint(self) -> dict[str, Any]:
        """What two calls under one Idempotency-Key must have in common."""
        fields = self.model_dump()
        return {name: fields[name] for name in fields if name not in self.NEWER_FIELDS or fields[name]}


class VerifyBody(BaseModel):
    """How much to verify."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sample: int | None = Field(
        None,
        ge=1,
        le=SAMPLE_MAX,
        description="Check about so many streams of each projection, chosen at random; default: all of them.",
        examples=[100],
    )


class VerifyManyBody(VerifyBody):
    names: NameList = Field(
        [], description="The projections; default: all.", examples=[["customers", "feed"]]
    )
    all: bool = Field(False, description="Every projection of this release, as without names.")


def projection_routes(callers: Callers, store: Store, _: Accesses) -> APIRouter:
    """The routes that show projections, verify them, and retry parked streams."""
    router = APIRouter(prefix="/projections", tags=["projections"])
    scope = callers.require_scopes("projections")
    _add_status_routes(router, scope, store)
    _add_verification_routes(router, scope, store)
    return router


def _add_status_routes(router: APIRouter, scope: Any, store: Store) -> None:
    @router.get(
        "",
        summary="List projections with their generations and lag",
        responses=answers_with("projection_list"),
    )
    async def list_projections(caller: Exchange = scope) -> dict[str, Any]:
        """Each generation is live, kept to roll back to, or being built. `rebuilds`: those that have not
        ended."""
        async with open_actions(store) as actions:
            return (await actions.load_status()).to_json()

    @router.get(
        "/samples",
        summary="Get the lag of projections, sealing and webhooks over the last day",
        responses=answers_with("lag_samples"),
    )
    async def list_lag_samples(
        start: Annotated[int | None, SAMPLES_FROM] = None,
        end: Annotated[int | None, SAMPLES_TO] = None,
        names: Annotated[list[SeriesName], Query(max_length=NAMES_MAX)] = [],  # noqa: B006
        caller: Exchange = scope,
    ) -> dict[str, Any]:
        """By default the last hour, of all. A sample is taken every ten seconds; of each series there are at
        most 500 points, each the highest of its `step` seconds. null: nothing was running to take it."""
        now = int(time.time())  # of the server, as samples are
        last = now if end is None else min(end, now)
        first = last - SAMPLES_DEFAULT_SECONDS if start is None else start
        if first > last:
            raise InvalidParameter("Must not be after `to`, nor in the future.", param="from")
        first = max(first, now - RETENTION_SECONDS)
        async with _open_connection(store) as conn:
            return (await read_samples(conn, first, last, names or None)).to_json()

    @router.get(
        "/{name}", summary="Get one projection, its rebuild and its operations", responses=_STATUS_RESPONSES
    )
    async def get_projection_status(name: Name, caller: Exchange = scope) -> dict[str, Any]:
        async with open_actions(store) as actions:
            return (await actions.load_projection(name)).to_json()


def _add_verification_routes(router: APIRouter, scope: Any, store: Store) -> None:
    @router.post(
        "/verify",
        summary="Compare the rows of several projections with a replay of the log",
        responses=_VERIFICATIONS,
    )
    async def verify_projections(body: VerifyManyBody, caller: Exchange = scope) -> dict[str, Any]:
        """A projection that could not be verified has an `error`; `left_out` names the streams that have a
        record that cannot be read. A full check of a large log takes minutes."""
        async with open_actions(store) as actions:
            results = await actions.verify(body.names, all_projections=body.all, sample=body.sample)
        return {"data": [result.to_json() for result in results]}

    @router.post(
        "/{name}/verify",
        summary="Compare the rows of a projection with a replay of the log",
        responses=_VERIFICATION,
    )
    async def verify_projection(name: Name, body: VerifyBody, caller: Exchange = scope) -> dict[str, Any]:
        """409 when it could not be verified. A full check of a large log takes minutes."""
        get_projection(name)
        async with open_actions(store) as actions:
            (result,) = await actions.verify([name], sample=body.sample)
        if result.error is not None:
            raise InvalidProjectionState(f"{name}: not verified: {result.error}")
        return result.to_json()

    @router.post(
        "/{name}/parked/{stream}/retry",
        summary="Retry a parked stream",
        responses=answers_with("parked_stream_retry"),
    )
    async def retry_parked_stream(
        request: Request,
        name: Name,
        stream: Annotated[str, Path(max_length=255)],
        body: OperationBody | None = None,
        caller: Exchange = scope,
    ) -> dict[str, Any]:
        """Applies its parked events, in order. `left_out_of`: the generations in which it is still parked;
        empty when it is healed. 409 when it is not parked."""
        async with open_actions(store) as actions:
            parked = await actions.retry(get_operator(request, caller, body), name, stream)
        return {"projection": name, "stream": stream, "healed": not parked, "left_out_of": list(parked)}


@asynccontextmanager
async def open_actions(store: Store) -> AsyncIterator[Actions]:
    """The actions of an operator, for one call."""

    def create_engine() -> Engine:
        return Engine(store.dsn, store.codec, store.clock, store.notifier, projections=PROJECTIONS)

    async with _open_connection(store) as conn:
        yield Actions(conn, store.dsn, store.codec, store.clock, create_engine)


def _open_connection(store: Store) -> AbstractAsyncContextManager[Conn]:
    # The answer is confirmed, as all of the internal API.
    return open_connection(
        store.dsn,
        "ledger_projector",
        name="operator",
        settings=LOCAL_COMMITS,
        answer_seconds=BACKGROUND_ANSWER_SECONDS,
    )


def get_operator(request: Request, caller: Exchange, body: OperationBody | None) -> Operator:
    """The operator of a call: its key, its reason, and its Idempotency-Key."""
    body = body or OperationBody(reason="")
    fingerprint = fingerprint_of(request.method, request.url.path, body.to_fingerprint())
    return Operator(caller.key.id, body.reason, caller.read_idempotency_key(), fingerprint)
