"""The operators' routes: what `ledger projections` does, over HTTP, with the scope `projections`.

A rebuild asked for here is driven by a worker; the answer tells where it stands, and so does every GET. What
was done by which key is on record beside what was done from a shell.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from pydantic import BaseModel, ConfigDict, Field

from ledger.api.callers import Caller, Callers
from ledger.database import connected
from ledger.errors import InvalidParameter, OperationRefused, UnknownObject
from ledger.store.store import Store
from projections import rebuilds, switching
from projections.engine import Engine
from projections.progress import told
from projections.projection import Projection
from projections.rebuilds import WORKERS_MAX
from projections.registry import PROJECTIONS, described, exists, status
from projections.switching import Operator
from projections.verifying import verify

SAMPLE_MAX = 1000
BY_NAME = {projection.name: projection for projection in PROJECTIONS}

Name = Annotated[str, Path(max_length=255, examples=["disputes"])]


_EXAMPLE = {
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
                    "error": "KeyError at projections/views.py:97",
                }
            ],
            "differing": 0,
            "state": "live",
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
        "driven": True,
        "builds": [{"projection": "disputes", "generation": 2, "shape": 1, "attached": False}],
        "bytes": 4194304,
        "events_per_second": 6400.0,
        "seconds_left": 3.8,
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
_ONE: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {"example": _EXAMPLE}}}}


class Body(BaseModel):
    """What is not declared is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str = Field(
        "", max_length=1000, description="Why: kept on record.", examples=["a column was added"]
    )


class AcceptingBody(Body):
    """One that may accept differences, which takes a reason."""

    accept_differences: bool = Field(False, description="Switch also if rows differ from the live ones.")

    def say_why(self) -> None:
        """Raises InvalidParameter for differences accepted without a word."""
        if self.accept_differences and not self.reason.strip():
            raise InvalidParameter(
                "Say why the differences are accepted; it is kept on record.",
                code="parameter_missing",
                param="reason",
            )


class RebuildBody(AcceptingBody):
    workers: int = Field(1, ge=1, le=WORKERS_MAX, description="Processes that fill.", examples=[2])


class SwitchBody(AcceptingBody):
    generation: int | None = Field(
        None, ge=1, description="To which; else to what was rebuilt.", examples=[2]
    )


class VerifyBody(Body):
    sample: int = Field(
        100, ge=1, le=SAMPLE_MAX, description="Streams to replay, chosen by chance.", examples=[100]
    )


def projection_routes(callers: Callers, store: Store) -> APIRouter:
    """Each changes something at once or, for a rebuild, registers what a worker then does."""
    router = APIRouter(prefix="/projections", tags=["projections"])
    operator = callers.scoped("projections")

    @asynccontextmanager
    async def session() -> AsyncIterator[AsyncConnection[TupleRow]]:
        async with connected(store.dsn, "ledger_projector", name="operator") as conn:
            yield conn

    @router.get("", summary="How every projection stands")
    async def all_of_them(caller: Caller = operator) -> dict[str, Any]:
        """Generations, live, kept to go back to, or being built; lag in events and seconds; what is left
        out; and the rebuilds that are not over."""
        async with session() as conn:
            standing = await status(conn, now=store.clock.now())
            open_ones = [await _told(conn, number) for number in await rebuilds.open_ones(conn)]
        names = dict.fromkeys([*BY_NAME, *(each.lag.projection for each in standing)])
        return {
            "data": [described(name, standing) for name in sorted(names)],
            "rebuilds": open_ones,
        }

    @router.get("/{name}", summary="How one stands, and what was done to it", responses=_ONE)
    async def one(name: Name, caller: Caller = operator) -> dict[str, Any]:
        async with session() as conn:
            await _existing(conn, name)
            standing = await status(conn, now=store.clock.now())
            number = await rebuilds.under_way(conn, name)
            found = None if number is None else await _told(conn, number)
            done = await switching.operations(conn, name)
        return {**described(name, standing), "rebuild": found, "operations": done}

    @router.post("/{name}/rebuild", summary="Build it anew beside what is live")
    async def rebuild(name: Name, body: RebuildBody, caller: Caller = operator) -> dict[str, Any]:
        """A worker fills, compares and, if it says the same as what is live, switches to it. 409 when it is
        being rebuilt already, saying by whom."""
        body.say_why()
        async with session() as conn:
            number = await rebuilds.begin(
                conn,
                [_known(name)],
                _operator(caller, body),
                workers=body.workers,
                accept_differences=body.accept_differences,
            )
            return await _told(conn, number)

    @router.post("/{name}/pause", summary="Have its rebuild stop; nothing done is lost")
    async def pause(name: Name, body: Body | None = None, caller: Caller = operator) -> dict[str, Any]:
        async with session() as conn:
            number = await _under_way(conn, name)
            await rebuilds.pause(conn, number)
            return await _told(conn, number)

    @router.post("/{name}/resume", summary="Go on with a rebuild that was paused or failed")
    async def resume(name: Name, body: Body | None = None, caller: Caller = operator) -> dict[str, Any]:
        async with session() as conn:
            number = await _under_way(conn, name)
            await rebuilds.resume(conn, number)
            return await _told(conn, number)

    @router.post("/{name}/cancel", summary="End its rebuild and drop what it made")
    async def cancel(name: Name, body: Body | None = None, caller: Caller = operator) -> dict[str, Any]:
        async with session() as conn:
            number = await _under_way(conn, name)
            await rebuilds.cancel(conn, number, _operator(caller, body))
            return await _told(conn, number)

    @router.post("/{name}/switch", summary="Make another generation the one that readers see")
    async def switch(name: Name, body: SwitchBody, caller: Caller = operator) -> dict[str, Any]:
        """To the generation named, or with `accept_differences` to what was rebuilt and differs, together
        with the other views of that rebuild."""
        body.say_why()
        async with session() as conn:
            await _existing(conn, name)
            if body.generation is not None:
                await switching.switch(conn, {name: body.generation}, _operator(caller, body))
            elif not body.accept_differences:
                await switching.last_comparison(conn, name)
                raise OperationRefused(
                    f"name a generation, or look at how the rebuild of {name} differs and accept it."
                )
            else:
                await rebuilds.accept(conn, await _under_way(conn, name), _operator(caller, body))
            return described(name, await status(conn, now=store.clock.now()))

    @router.post("/{name}/rollback", summary="Make the generation live again that was before")
    async def rollback(name: Name, body: Body | None = None, caller: Caller = operator) -> dict[str, Any]:
        async with session() as conn:
            await _existing(conn, name)
            await switching.rollback(conn, name, _operator(caller, body))
            return described(name, await status(conn, now=store.clock.now()))

    @router.post("/{name}/verify", summary="Replay some streams and compare with the live rows")
    async def check(name: Name, body: VerifyBody, caller: Caller = operator) -> dict[str, Any]:
        """All of them: `ledger projections verify` on the database's side."""
        found = await verify(store.dsn, store.codec, store.clock, [_known(name)], sample=body.sample)
        if not found:
            raise OperationRefused(f"{name} is not live in the shape that this release makes.")
        return asdict(found[0])

    @router.post("/{name}/parked/{stream}/retry", summary="Apply what was left out of a parked stream")
    async def retry(
        name: Name, stream: Annotated[str, Path(max_length=255)], caller: Caller = operator
    ) -> dict[str, Any]:
        """In order. `healed` is false when it had to be left out again."""
        _known(name)
        engine = Engine(store.dsn, store.codec, store.clock, store.wake)
        try:
            healed = await engine.retry(name, stream)
        finally:
            await engine.close()
        return {"projection": name, "stream": stream, "healed": healed}

    return router


def _known(name: str) -> Projection:
    projection = BY_NAME.get(name)
    if projection is None:
        raise UnknownObject("projection", name, param="name")
    return projection


def _operator(caller: Caller, body: Body | None) -> Operator:
    return Operator(caller.key.id, "" if body is None else body.reason)


async def _under_way(conn: AsyncConnection[TupleRow], name: str) -> int:
    number = await rebuilds.under_way(conn, name)
    if number is None:
        await _existing(conn, name)
        raise OperationRefused(f"{name} is not being rebuilt.")
    return number


async def _existing(conn: AsyncConnection[TupleRow], name: str) -> None:
    if not await exists(conn, name):
        raise UnknownObject("projection", name, param="name")


async def _told(conn: AsyncConnection[TupleRow], number: int) -> dict[str, Any]:
    found = await rebuilds.load(conn, number)
    return told(found, await rebuilds.size(conn, found))
