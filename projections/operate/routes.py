"""The operators' routes that look: how projections stand, and what was done to them; with the scope
`projections`. Those that rebuild and switch are in `routes_of_rebuilds`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from ledger.api.internal.callers import Caller, Callers, read_idempotency_key
from ledger.commands.execution import fingerprint_of
from ledger.commands.models import StorableText
from ledger.errors import InvalidProjectionState, UnknownObject
from ledger.postgres.connections import Conn, open_connection
from ledger.store.store import Store
from projections.engine import checkpoints, operations
from projections.engine.engine import Engine
from projections.engine.operations import AlreadyDone, Operator
from projections.engine.registration import projection_exists
from projections.engine.status import describe_projection, load_statuses
from projections.operate.progress import render_json
from projections.projection import Projection
from projections.read_models.catalog import PROJECTIONS, PROJECTIONS_BY_NAME
from projections.rebuild import records
from projections.rebuild.verification import verify

SAMPLE_MAX = 1000

Name = Annotated[str, Path(max_length=255, examples=["disputes"])]


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
            "seconds": 0.4,
            "parked": [
                {
                    "stream": "du_0352CZ5Gldsp6qNF5qNF1x",
                    "position": 31077,
                    "error": "KeyError at projections/read_models/lists.py:97",
                }
            ],
            "differing": 0,
            "state": "live",
            "stands_still": False,
        }
    ],
    "rebuild": {
        "id": 3,
        "state": "filling",
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
}
_STATUS_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"example": _STATUS_EXAMPLE}}}
}


class Body(BaseModel):
    """What is not declared is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: StorableText = Field(
        "", max_length=1000, description="Why: kept on record.", examples=["a column was added"]
    )


class VerifyBody(Body):
    sample: int = Field(
        100, ge=1, le=SAMPLE_MAX, description="Streams to replay, chosen by chance.", examples=[100]
    )


def projection_routes(callers: Callers, store: Store) -> APIRouter:
    """Looking, checking, and having applied what was left out."""
    router = APIRouter(prefix="/projections", tags=["projections"])
    projections_scope = callers.require_scopes("projections")

    @router.get("", summary="How every projection stands")
    async def all_of_them(caller: Caller = projections_scope) -> dict[str, Any]:
        """Generations, live, kept to go back to, or being built; lag in events and seconds; what is left
        out; and the rebuilds that are not over."""
        async with open_operator_connection(store) as conn:
            statuses = await load_statuses(conn, now=store.clock.now())
            open_rebuilds = [
                await load_rebuild_json(conn, rebuild_id) for rebuild_id in await records.list_open(conn)
            ]
        names = dict.fromkeys(
            [*PROJECTIONS_BY_NAME, *(generation_status.lag.projection for generation_status in statuses)]
        )
        return {
            "data": [describe_projection(name, statuses) for name in sorted(names)],
            "rebuilds": open_rebuilds,
        }

    @router.get("/{name}", summary="How one stands, and what was done to it", responses=_STATUS_RESPONSES)
    async def one(name: Name, caller: Caller = projections_scope) -> dict[str, Any]:
        async with open_operator_connection(store) as conn:
            await require_projection(conn, name)
            statuses = await load_statuses(conn, now=store.clock.now())
            rebuild_id = await records.find_active(conn, name)
            rebuild = None if rebuild_id is None else await load_rebuild_json(conn, rebuild_id)
            history = await operations.list_operations(conn, name)
        return {**describe_projection(name, statuses), "rebuild": rebuild, "operations": history}

    @router.post("/{name}/verify", summary="Replay some streams and compare with the live rows")
    async def check(name: Name, body: VerifyBody, caller: Caller = projections_scope) -> dict[str, Any]:
        """All of them: `ledger projections verify` on the database's side."""
        results = await verify(
            store.dsn, store.codec, store.clock, [get_projection(name)], sample=body.sample
        )
        if not results:
            raise InvalidProjectionState(f"{name} is not live in the shape that this release makes.")
        if results[0].error is not None:
            raise InvalidProjectionState(f"{name} cannot be checked: {results[0].error}")
        return asdict(results[0])

    @router.post("/{name}/parked/{stream}/retry", summary="Apply what was left out of a parked stream")
    async def retry(
        request: Request,
        name: Name,
        stream: Annotated[str, Path(max_length=255)],
        body: Body | None = None,
        caller: Caller = projections_scope,
    ) -> dict[str, Any]:
        """In order. `left_out_of` names the generations that had to leave it out again, or are still being
        filled; none: it is healed. 409 when it is not left out."""
        get_projection(name)
        operator = get_operator(request, caller, body or Body(reason=""))
        async with open_operator_connection(store) as conn:
            if not await operations.was_done(conn, operator, "retry", name):
                engine = Engine(store.dsn, store.codec, store.clock, store.notifier, projections=PROJECTIONS)
                try:
                    with suppress(AlreadyDone):
                        await engine.retry(name, stream, operator)
                finally:
                    await engine.close()
            still_parked = [*await checkpoints.find_generations_with_parked_stream(conn, name, stream)]
        return {"projection": name, "stream": stream, "healed": not still_parked, "left_out_of": still_parked}

    return router


def get_operator(request: Request, caller: Caller, body: Body) -> Operator:
    """Who asks for what, once under its Idempotency-Key."""
    fingerprint = fingerprint_of(request.method, request.url.path, body.model_dump())
    return Operator(caller.key.id, body.reason, read_idempotency_key(request), fingerprint)


@asynccontextmanager
async def open_operator_connection(store: Store) -> AsyncIterator[Conn]:
    """A connection for one call."""
    async with open_connection(store.dsn, "ledger_projector", name="operator") as conn:
        yield conn


def get_projection(name: str) -> Projection:
    """Of this release. Raises UnknownObject."""
    projection = PROJECTIONS_BY_NAME.get(name)
    if projection is None:
        raise UnknownObject("projection", name, param="name")
    return projection


async def require_projection(conn: Conn, name: str) -> None:
    """Raises UnknownObject unless there is such a projection, of this release or another."""
    if not await projection_exists(conn, PROJECTIONS, name):
        raise UnknownObject("projection", name, param="name")


async def load_rebuild_json(conn: Conn, rebuild_id: int) -> dict[str, Any]:
    """A rebuild as JSON has it."""
    rebuild = await records.load(conn, rebuild_id)
    return render_json(rebuild, await records.load_size_bytes(conn, rebuild))
