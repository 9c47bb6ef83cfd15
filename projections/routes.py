"""The operators' routes: what `ledger projections` does, over HTTP, with the scope `projections`.

A rebuild asked for here is driven by a worker; the answer tells where it stands, and so does every GET. What
was done by which key is on record beside what was done from a shell.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from pydantic import BaseModel, ConfigDict, Field

from ledger.api.callers import Caller, Callers, idempotency_key
from ledger.commands.bodies import Keepable, Positive
from ledger.database import connected
from ledger.errors import InvalidParameter, OperationRefused, UnknownObject
from ledger.store.store import Store
from projections import checkpoints, rebuilds, switching
from projections.engine import Engine
from projections.progress import told
from projections.projection import Projection
from projections.rebuilds import WORKERS_MAX
from projections.registry import BY_NAME, described, exists, status
from projections.switching import AlreadyDone, Operator
from projections.verifying import verify

SAMPLE_MAX = 1000

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

    reason: Keepable = Field(
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
    generation: Positive | None = Field(None, description="To which; else to what was rebuilt.", examples=[2])


class VerifyBody(Body):
    sample: int = Field(
        100, ge=1, le=SAMPLE_MAX, description="Streams to replay, chosen by chance.", examples=[100]
    )


def projection_routes(callers: Callers, store: Store) -> APIRouter:
    """Each changes something at once or, for a rebuild, registers what a worker then does; once under an
    Idempotency-Key, which gets how it stands, not the first answer's bytes."""
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

    async def once(
        request: Request,
        name: str,
        action: str,
        caller: Caller,
        body: Body | None,
        do: Callable[[AsyncConnection[TupleRow], Operator], Awaitable[object]],
    ) -> dict[str, Any]:
        """How it stands once it is done, now or before under the same Idempotency-Key."""
        reason = "" if body is None else body.reason
        by = Operator(caller.key.id, reason, idempotency_key(request))
        async with session() as conn:
            await _existing(conn, name)
            if not await switching.was_done(conn, by, action, name):
                with suppress(AlreadyDone):
                    await do(conn, by)
            if action in ("switch", "rollback"):
                return described(name, await status(conn, now=store.clock.now()))
            return await _told(conn, await rebuilds.last(conn, name))

    @router.post("/{name}/rebuild", summary="Build it anew beside what is live")
    async def rebuild(
        request: Request, name: Name, body: RebuildBody, caller: Caller = operator
    ) -> dict[str, Any]:
        """A worker fills, compares and, if it says the same as what is live, switches to it. 409 when it is
        being rebuilt already, saying by whom."""
        body.say_why()
        projection = _known(name)

        async def begin(conn: AsyncConnection[TupleRow], by: Operator) -> None:
            accepted = body.accept_differences
            await rebuilds.begin(conn, [projection], by, workers=body.workers, accept_differences=accepted)

        return await once(request, name, "rebuild", caller, body, begin)

    @router.post("/{name}/pause", summary="Have its rebuild stop; nothing done is lost")
    async def pause(
        request: Request, name: Name, body: Body | None = None, caller: Caller = operator
    ) -> dict[str, Any]:
        async def stop(conn: AsyncConnection[TupleRow], by: Operator) -> None:
            await rebuilds.pause(conn, await _under_way(conn, name), by)

        return await once(request, name, "pause", caller, body, stop)

    @router.post("/{name}/resume", summary="Go on with a rebuild that was paused or failed")
    async def resume(
        request: Request, name: Name, body: Body | None = None, caller: Caller = operator
    ) -> dict[str, Any]:
        async def go_on(conn: AsyncConnection[TupleRow], by: Operator) -> None:
            await rebuilds.resume(conn, await _under_way(conn, name), by)

        return await once(request, name, "resume", caller, body, go_on)

    @router.post("/{name}/cancel", summary="End its rebuild and drop what it made")
    async def cancel(
        request: Request, name: Name, body: Body | None = None, caller: Caller = operator
    ) -> dict[str, Any]:
        async def end(conn: AsyncConnection[TupleRow], by: Operator) -> None:
            await rebuilds.cancel(conn, await _under_way(conn, name), by)

        return await once(request, name, "cancel", caller, body, end)

    @router.post("/{name}/switch", summary="Make another generation the one that readers see")
    async def switch(
        request: Request, name: Name, body: SwitchBody, caller: Caller = operator
    ) -> dict[str, Any]:
        """To the generation named, or with `accept_differences` to what was rebuilt and differs, together
        with the other views of that rebuild."""
        body.say_why()

        async def to(conn: AsyncConnection[TupleRow], by: Operator) -> None:
            if body.generation is not None:
                await switching.switch(conn, {name: body.generation}, by)
            elif body.accept_differences:
                await rebuilds.accept(conn, await _under_way(conn, name), by)
            else:
                await switching.last_comparison(conn, name)
                raise OperationRefused(
                    f"name a generation, or look at how the rebuild of {name} differs and accept it."
                )

        return await once(request, name, "switch", caller, body, to)

    @router.post("/{name}/rollback", summary="Make the generation live again that was before")
    async def rollback(
        request: Request, name: Name, body: Body | None = None, caller: Caller = operator
    ) -> dict[str, Any]:
        """A second one goes forth again: give an Idempotency-Key where a call may be repeated."""

        async def back(conn: AsyncConnection[TupleRow], by: Operator) -> None:
            await switching.rollback(conn, name, by)

        return await once(request, name, "rollback", caller, body, back)

    @router.post("/{name}/verify", summary="Replay some streams and compare with the live rows")
    async def check(name: Name, body: VerifyBody, caller: Caller = operator) -> dict[str, Any]:
        """All of them: `ledger projections verify` on the database's side."""
        found = await verify(store.dsn, store.codec, store.clock, [_known(name)], sample=body.sample)
        if not found:
            raise OperationRefused(f"{name} is not live in the shape that this release makes.")
        if found[0].error is not None:
            raise OperationRefused(f"{name} cannot be checked: {found[0].error}")
        return asdict(found[0])

    @router.post("/{name}/parked/{stream}/retry", summary="Apply what was left out of a parked stream")
    async def retry(
        request: Request,
        name: Name,
        stream: Annotated[str, Path(max_length=255)],
        body: Body | None = None,
        caller: Caller = operator,
    ) -> dict[str, Any]:
        """In order. `left_out_of` names the generations that had to leave it out again, or are still being
        filled; none: it is healed. 409 when it is not left out."""
        _known(name)
        by = Operator(caller.key.id, "" if body is None else body.reason, idempotency_key(request))
        async with session() as conn:
            if not await switching.was_done(conn, by, "retry", name):
                engine = Engine(store.dsn, store.codec, store.clock, store.wake)
                try:
                    with suppress(AlreadyDone):
                        await engine.retry(name, stream, by)
                finally:
                    await engine.close()
            left = [*await checkpoints.generations_parking(conn, name, stream)]
        return {"projection": name, "stream": stream, "healed": not left, "left_out_of": left}

    return router


def _known(name: str) -> Projection:
    projection = BY_NAME.get(name)
    if projection is None:
        raise UnknownObject("projection", name, param="name")
    return projection


async def _under_way(conn: AsyncConnection[TupleRow], name: str) -> int:
    number = await rebuilds.under_way(conn, name)
    if number is None:
        raise OperationRefused(f"{name} is not being rebuilt.")
    return number


async def _existing(conn: AsyncConnection[TupleRow], name: str) -> None:
    if not await exists(conn, name):
        raise UnknownObject("projection", name, param="name")


async def _told(conn: AsyncConnection[TupleRow], number: int) -> dict[str, Any]:
    found = await rebuilds.load(conn, number)
    return told(found, await rebuilds.size(conn, found))
